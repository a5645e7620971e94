"""Holes in the exchange's series: klines that it never had, in every answer and archive file of a run."""

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from app.domain.interval import M1
from app.kinds.klines import KLINES
from app.kinds.registry import named
from infra.sandbox.grid import DAY_MS, DURATIONS_MS, HOUR_MS, MINUTE_MS, Grid

LENGTHS: Final = (1, 7, 15, 95, 180)  # in minutes
SHARE: Final = 0.75  # of the series that have holes


@dataclass(frozen=True)
class Hole:
    """A series, named as the node names it, that has no klines which open and close in [start_ms, end_ms)."""

    name: str
    start_ms: int
    end_ms: int
    is_wished: bool
    """Whether the hole lies in the history that the node wishes to hold."""

    def span(self, grid: Grid) -> tuple[int, int]:
        """The half-open span of open times without klines of an interval. A kline that is only partly inside exists."""
        start_ms = grid.next(grid.floor(self.start_ms - 1))
        return start_ms, max(start_ms, grid.floor(self.end_ms))

    def faults(self) -> list[dict[str, Any]]:
        """The hole as the sandbox's faults, one for each interval."""
        series = named(self.name, M1)
        symbol, kind = series.symbol, series.kind
        path = "*/klines*" if kind is KLINES else kind.rest.path
        wishes = []
        for code in DURATIONS_MS:
            start_ms, end_ms = self.span(Grid(code))
            if start_ms < end_ms:
                hidden = {"from_ms": start_ms, "to_ms": end_ms}
                wishes.append({"kind": "hole", "symbol": symbol, "path": path, "interval": code, **hidden})
        return wishes


def draw(chance: Random, begins_ms: dict[str, int], start_ms: int, days: int) -> tuple[Hole, ...]:
    """Draw at most one hole for each series, which begin at `begins_ms`. Holes end 2 h before the run's start."""
    holes = []
    for name, begin_ms in begins_ms.items():
        length_ms = chance.choice(LENGTHS) * MINUTE_MS
        is_wished = chance.random() < 0.6
        reach_ms = days * DAY_MS - HOUR_MS
        back_ms = int(2 * HOUR_MS + length_ms + (reach_ms - 2 * HOUR_MS - length_ms) * chance.random())
        if not is_wished:
            back_ms = int(days * DAY_MS + (6 + chance.random() * 24) * HOUR_MS)
        hole_ms = (start_ms - back_ms) // MINUTE_MS * MINUTE_MS
        if chance.random() < SHARE and hole_ms > begin_ms + HOUR_MS:
            holes.append(Hole(name, hole_ms, hole_ms + length_ms, is_wished))
    return tuple(holes)
