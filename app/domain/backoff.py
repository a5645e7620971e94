"""Back-off: how long to wait after failures that follow one another, doubling up to a longest pause."""

from random import Random
from typing import Final

_DOUBLINGS_MAX: Final = 16  # keeps 2**n small; every pause is capped long before


def ceiling_s(failures: int, first_s: float, longest_s: float) -> float:
    """The longest pause after so many failures in a row: `first_s` doubled by each of them."""
    return min(longest_s, first_s * float(2 ** min(max(failures, 0), _DOUBLINGS_MAX)))


def spread_s(chance: Random, failures: int, first_s: float, longest_s: float) -> float:
    """A pause between `first_s` and the ceiling: never at once, and not all together."""
    return chance.uniform(first_s, ceiling_s(failures, first_s, longest_s))


def full_jitter_s(chance: Random, failures: int, first_s: float, longest_s: float) -> float:
    """A pause between 0 and the ceiling of one failure less: those who failed together come back one by one."""
    return chance.uniform(0.0, ceiling_s(failures - 1, first_s, longest_s))
