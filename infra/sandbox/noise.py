"""Pseudo-random numbers as a pure function of a key, the same on every machine."""

from functools import lru_cache
from hashlib import blake2b

# (hours between two nodes of the price curve, maximum change of the price by a node in parts per million)
_OCTAVES = ((4096, 300_000), (512, 120_000), (64, 40_000), (8, 12_000), (1, 4_000))
_NODES_MAX = 131_072


def chance(key: str) -> int:
    """64 uniformly spread bits that depend on `key` alone."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=_NODES_MAX)
def _node_ppm(key: str, octave_hours: int, index: int, amplitude_ppm: int) -> int:
    bits = chance(f"{key}/{octave_hours}/{index}") & 0xFFFFF
    return (bits * 2 * amplitude_ppm >> 20) - amplitude_ppm


def drift_ppm(key: str, hour: int) -> int:
    """How far the price of `key` is from its base in UTC hour `hour` since the epoch, in millionths (±476,000)."""
    total = 0
    for octave_hours, amplitude_ppm in _OCTAVES:
        index, offset = divmod(hour, octave_hours)
        left = _node_ppm(key, octave_hours, index, amplitude_ppm)
        if offset:
            right = _node_ppm(key, octave_hours, index + 1, amplitude_ppm)
            left = (left * (octave_hours - offset) + right * offset) // octave_hours
        total += left
    return total
