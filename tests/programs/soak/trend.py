"""The trend of a row of samples: level, slope by least squares, and whether it grows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import fmean, median
from typing import Final

GROWTH_SHARE_MAX: Final = 0.05  # of the level, an hour: slower growth cannot be told from noise in twenty minutes
SIGMAS_MIN: Final = 3.0
ALIKE_MAX: Final = 0.99  # bound for the correlation of neighbouring samples; above it nothing could be proven
HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Trend:
    """Level and slope of one gauge."""

    name: str
    first: float
    median: float
    last: float
    highest: float
    slope_an_hour: float
    error_an_hour: float
    grows: bool


def trend(name: str, times_s: Sequence[float], values: Sequence[float], *, noise_an_hour: float) -> Trend:
    """The trend of `values`.

    It grows when the slope exceeds all three: SIGMAS_MIN standard errors, `noise_an_hour`, and GROWTH_SHARE_MAX of the
    level.
    """
    assert len(times_s) == len(values) >= 3, "two points are always on a line"
    mean_t, mean_v = fmean(times_s), fmean(values)
    spread = sum((t - mean_t) ** 2 for t in times_s)
    slope = sum((t - mean_t) * (v - mean_v) for t, v in zip(times_s, values, strict=True)) / spread
    residues = [v - mean_v - slope * (t - mean_t) for t, v in zip(times_s, values, strict=True)]
    squares = sum(each * each for each in residues)
    error = sqrt(squares / (len(values) - 2) / spread * _inflation(residues, squares))
    level = median(values)
    tolerated = max(noise_an_hour, GROWTH_SHARE_MAX * level)
    grows = slope * HOUR_S > tolerated and slope > SIGMAS_MIN * error
    return Trend(name, values[0], level, values[-1], max(values), slope * HOUR_S, error * HOUR_S, grows)


def _inflation(residues: Sequence[float], squares: float) -> float:
    """The factor on the slope's variance because neighbouring samples are correlated, as on the ramps of a sawtooth."""
    alike = sum(before * after for before, after in pairwise(residues)) / squares if squares else 0.0
    alike = min(max(alike, 0.0), ALIKE_MAX)
    return (1 + alike) / (1 - alike)


def quantile_s(buckets: dict[float, float], share: float) -> float:
    """The value below which `share` of a histogram lies; `buckets` are cumulative counts by upper bound in seconds."""
    total = max(buckets.values(), default=0.0)
    below = count_below = 0.0
    for bound, count in sorted(buckets.items()):
        if total and count >= share * total:
            inside = count - count_below
            return bound if bound == float("inf") else below + (bound - below) * (share * total - count_below) / inside
        below, count_below = bound, count
    return 0.0
