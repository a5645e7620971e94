"""How many names of a limited set each client has: when the set is full, the largest owner has to give one up."""

from typing import Final, Generic, TypeVar

LEAD_MIN: Final = 2  # over the asker; with a lead of 1, two owners would take a name from each other for ever

Owner = TypeVar("Owner")


class Shares(Generic[Owner]):
    """Names by owner, and owners by number of names. Every operation takes constant time, however many there are."""

    def __init__(self) -> None:
        self._of: dict[Owner, dict[str, None]] = {}
        self._with: dict[int, dict[Owner, None]] = {}
        """By number of names: the owners that have exactly so many."""
        self._most = 0
        self.names = 0

    def of(self, owner: Owner) -> dict[str, None]:
        """The names of an owner, the newest last."""
        return self._of.get(owner, {})

    def add(self, owner: Owner, name: str) -> None:
        """Give `owner` a name that it does not have yet."""
        mine = self._of.setdefault(owner, {})
        assert name not in mine, "it is counted once"
        self._leave(owner, len(mine))
        mine[name] = None
        self.names += 1
        self._with.setdefault(len(mine), {})[owner] = None
        self._most = max(self._most, len(mine))

    def discard(self, owner: Owner, name: str) -> None:
        """Take a name from `owner`, if it has it."""
        mine = self._of.get(owner)
        if mine is None or name not in mine:
            return
        self._leave(owner, len(mine))
        del mine[name]
        self.names -= 1
        if mine:
            self._with.setdefault(len(mine), {})[owner] = None
        else:
            del self._of[owner]
        while self._most and self._most not in self._with:
            self._most -= 1

    def giver_to(self, owner: Owner) -> Owner | None:
        """The owner with the most names, if it has at least LEAD_MIN more than `owner`; else None."""
        if self._most < len(self.of(owner)) + LEAD_MIN:
            return None
        return next(iter(self._with[self._most]))

    def _leave(self, owner: Owner, number: int) -> None:
        there = self._with.get(number)
        if there is not None and there.pop(owner, self) is None and not there:
            del self._with[number]
