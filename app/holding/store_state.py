"""Store state: whether the last write to the database succeeded, and if not, why."""

from collections.abc import Callable

from app.events import Observe, StoreFailed, StoreRecovered


class StoreState:
    """Receives the result of every write; emits an event and calls `changed` when the result differs from the last."""

    def __init__(self, observe: Observe, changed: Callable[[], None] = lambda: None) -> None:
        self._observe = observe
        self._changed = changed
        self.error: str | None = None
        """Why the last write failed; None when it succeeded."""

    def report(self, reason: str | None) -> None:
        """Record the result of a write: `reason` when it failed, None when it succeeded."""
        before, self.error = self.error, reason
        if reason == before:
            return
        self._observe(StoreRecovered() if reason is None else StoreFailed(reason))
        self._changed()
