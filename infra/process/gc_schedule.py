"""When Python looks for garbage that holds on to itself: in the middle of a minute, not in the second after a close.

By itself it looks through all objects there are whenever a quarter more have come, which reading rows brings about all
the time. With 600 symbols × 7 intervals that took 80 to 140 ms each time, in which the process did nothing else, and it
happened several times a minute, at the closes more than elsewhere. What is not garbage after one look hardly ever is
after another, so each look leaves it out of the next ones, but for one look an hour.
"""

import gc
from typing import Final

YOUNG: Final = 10_000  # new objects between two looks at them alone (700 by itself), which takes 0.3 ms
MIDDLE: Final = 5  # such looks between two at what these left, at most 50,000 objects: 2 ms
NEVER: Final = 1_000_000_000
WHOLE_EVERY: Final = 60  # calls of `look`


class GcSchedule:
    """Looks for garbage when it is told to. One for each process."""

    def __init__(self) -> None:
        self._looks = 0
        gc.set_threshold(YOUNG, MIDDLE, NEVER)

    def look(self) -> None:
        """Look through what is new since the last call; every WHOLE_EVERY-th time through everything."""
        self._looks += 1
        if self._looks % WHOLE_EVERY == 0:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
