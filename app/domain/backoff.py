"""Exponential back-off: the pause after consecutive failures, doubled by each, capped, and spread at random."""

from random import Random
from typing import Final

_DOUBLINGS_MAX: Final = 16  # keeps 2**n small; every pause reaches its cap long before


def ceiling_s(failures: int, first_s: float, longest_s: float) -> float:
    """The longest pause after `failures` consecutive failures: `first_s * 2**failures`, at most `longest_s`."""
    return min(longest_s, first_s * float(2 ** min(max(failures, 0), _DOUBLINGS_MAX)))


def spread_s(chance: Random, failures: int, first_s: float, longest_s: float) -> float:
    """A random pause between `first_s` and the ceiling: never zero, and different for clients that fail together."""
    return chance.uniform(first_s, ceiling_s(failures, first_s, longest_s))


def full_jitter_s(chance: Random, failures: int, first_s: float, longest_s: float) -> float:
    """A random pause between 0 and the ceiling of `failures - 1`, so that clients that failed together spread out."""
    return chance.uniform(0.0, ceiling_s(failures - 1, first_s, longest_s))
