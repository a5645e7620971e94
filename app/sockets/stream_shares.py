"""Who has how much of what all clients share: when it is used up, the one with the most gives way to one with less."""

from typing import Final, Generic, TypeVar

LEAD_MIN: Final = 2  # who has only one more than the asker keeps it: both would take it from each other for ever

Owner = TypeVar("Owner")


class Shares(Generic[Owner]):
    """Names by owner, the owners by how many they have. Nothing here takes longer the more there are."""

    def __init__(self) -> None:
        self._of: dict[Owner, dict[str, None]] = {}
        self._with: dict[int, dict[Owner, None]] = {}
        """By number of names: who has so many."""
        self._most = 0
        self.names = 0

    def of(self, owner: Owner) -> dict[str, None]:
        """What somebody has, the newest last."""
        return self._of.get(owner, {})

    def add(self, owner: Owner, name: str) -> None:
        """Count a name that is not counted yet."""
        mine = self._of.setdefault(owner, {})
        assert name not in mine, "it is counted once"
        self._leave(owner, len(mine))
        mine[name] = None
        self.names += 1
        self._with.setdefault(len(mine), {})[owner] = None
        self._most = max(self._most, len(mine))

    def discard(self, owner: Owner, name: str) -> None:
        """Count a name no more, if it was."""
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
        """Who has to give way to `owner`, if anybody has that much more."""
        if self._most < len(self.of(owner)) + LEAD_MIN:
            return None
        return next(iter(self._with[self._most]))

    def _leave(self, owner: Owner, number: int) -> None:
        there = self._with.get(number)
        if there is not None and there.pop(owner, self) is None and not there:
            del self._with[number]
