"""Where the rules of a session put what they decide: effects in order, and channels to subscribe again."""

from collections import Counter

from app.collecting.effects import Effect, Emit
from app.domain.records import Feed, Gap, GapState, Record


class Outlet:
    """The effects of the step under way, shared by all parts of a session; the session takes them at its end."""

    __slots__ = ("checking_until_ms", "counters", "effects", "resubscribes")

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.resubscribes: list[tuple[Feed, int]] = []
        """Feeds whose channel shall be subscribed again, and on which socket (0: the one in use)."""
        self.counters: Counter[str] = Counter()
        self.checking_until_ms = 0
        """Until then a book's comparison may be under way: one at a time, since they wait for weight in others' way."""

    def emit(self, record: Record) -> None:
        """Publish `record`."""
        self.effects.append(Emit(record))

    def gap(self, gap: Gap) -> None:
        """Publish a gap; it is counted when it opens."""
        if gap.state is GapState.OPEN:
            self.counters["gaps"] += 1
        self.effects.append(Emit(gap))

    def take(self) -> list[Effect]:
        """The effects so far, which are the caller's from now on."""
        effects = self.effects
        self.effects = []
        return effects
