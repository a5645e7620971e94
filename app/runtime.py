"""What almost every part of a process takes: the time, a place to report events, and chance by a seed."""

import random
from dataclasses import dataclass

from app.events import Observe
from app.ports.clock import Clock
from app.ports.tracing import Traced, untraced


@dataclass(frozen=True, slots=True)
class Runtime:
    """The surroundings of a part; parts of one process share one. `traced` measures work."""

    clock: Clock
    observe: Observe
    seed: int = 0
    traced: Traced = untraced

    def rng(self, name: str) -> random.Random:
        """Chance for the part called `name`: the same for each run with the same seed."""
        return random.Random(f"{self.seed}:{name}")  # noqa: S311  jitter, not secrets
