"""Whether the database takes what it is given, and if not, why."""

from collections.abc import Callable

from app.events import Observe, StoreFailed, StoreRecovered


class StoreState:
    """Hears of every write and tells of what changed."""

    def __init__(self, observe: Observe, changed: Callable[[], None] = lambda: None) -> None:
        self._observe = observe
        self._changed = changed
        self.error: str | None = None
        """Why the last write failed; None when it did not."""

    def report(self, reason: str | None) -> None:
        """Take in how a write ended: the reason when it failed, else None."""
        before, self.error = self.error, reason
        if reason == before:
            return
        self._observe(StoreRecovered() if reason is None else StoreFailed(reason))
        self._changed()
