"""The schedule of Python's cyclic garbage collector, which runs in the middle of a minute, not at a close.

By default, a full collection runs whenever the number of objects has grown by a quarter, which reading rows often
causes. With 600 symbols × 7 intervals it blocked the process for 80 to 140 ms, several times a minute, most often at
the closes. An object that survives one collection hardly ever becomes garbage, so survivors are frozen and left out of
further collections, except for one an hour.
"""

import gc
from typing import Final

YOUNG: Final = 10_000  # new objects between two collections of the youngest generation (default 700); takes 0.3 ms
MIDDLE: Final = 5  # of those between two of the middle generation, at most 50,000 objects: 2 ms
NEVER: Final = 1_000_000_000
WHOLE_EVERY: Final = 60  # calls of `look`, so that one in an hour is a full collection


class GcSchedule:
    """Runs the garbage collector when `look` is called. One for each process."""

    def __init__(self) -> None:
        self._looks = 0
        gc.set_threshold(YOUNG, MIDDLE, NEVER)

    def look(self) -> None:
        """Collect garbage among objects created since the last call; every WHOLE_EVERY-th time among all."""
        self._looks += 1
        if self._looks % WHOLE_EVERY == 0:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
