"""The pause before another attempt: it grows with consecutive failures, is bounded and spread at random."""

from random import Random
from typing import Final

from app.domain.backoff import spread_s

FIRST_MS: Final = 500
LONGEST_MS: Final = 60_000
"""An exchange that is back after a maintenance of hours is noticed within a minute."""


class Pause:
    """Counts failures in a row and says when the next attempt is due."""

    __slots__ = ("_chance", "_longest_ms", "failures", "until_ms")

    def __init__(self, chance: Random, longest_ms: int = LONGEST_MS) -> None:
        self._chance = chance
        self._longest_ms = longest_ms
        self.failures = 0
        self.until_ms = 0

    def failed(self, now_ms: int) -> None:
        """Pause for longer than after the failure before."""
        pause_s = spread_s(self._chance, self.failures + 1, FIRST_MS / 1_000, self._longest_ms / 1_000)
        self.failures += 1
        self.until_ms = now_ms + int(pause_s * 1_000)

    def succeeded(self) -> None:
        """No pause; the next one is the shortest again."""
        self.failures = 0
        self.until_ms = 0
