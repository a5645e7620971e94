"""Rhythm: how the events of one sparse series follow each other, and what an answer about them therefore proves.

A page of REST states all events of a window, so that steps of the grid without one are known too. There are two
exceptions: a full page has the oldest events of its window only, and an event that is published late is not there yet.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from app.domain.columns import Columns
from app.domain.interval import MINUTE_MS, Grid
from app.domain.kind import Kind
from app.domain.kline import BadKline
from app.domain.span import Span

PATIENCE_MS: Final = 30 * MINUTE_MS
"""How long an expected event that lacks is waited for. If it still lacks then, the rhythm has probably changed. An
event that is published even later is found when its step of the grid is asked for again."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When the newest events were: the last in the step of the grid at `last_ms`, `every_ms` after the one before."""

    last_ms: int
    every_ms: int
    shortest_ms: int
    """The shortest time between two events."""

    @classmethod
    def of(cls, rows: Columns, grid: Grid) -> "Rhythm | None":
        """The rhythm of an answer's rows; None if they lie in fewer than two steps of the grid."""
        opens_ms = list(dict.fromkeys(map(grid.floor, rows.opens_ms)))
        if len(opens_ms) < 2:
            return None
        apart = [later - open_ms for open_ms, later in pairwise(opens_ms)]
        return cls(opens_ms[-1], apart[-1], min(apart))

    @property
    def due_ms(self) -> int:
        """The step of the grid in which the next event is expected."""
        return self.last_ms + self.every_ms

    def is_due(self, end_ms: int) -> bool:
        """Whether the next event is expected before `end_ms`."""
        return self.due_ms < end_ms

    def trusted(self, known: Span, grid: Grid, now_ms: int) -> Span:
        """The part of `known` in which no event may still be missing."""
        waits = self.due_ms < known.end_ms and now_ms < grid.shift(self.due_ms, 1) + PATIENCE_MS
        return Span(known.start_ms, max(known.start_ms, self.due_ms)) if waits else known


def page_steps(kind: Kind, grid: Grid, rhythm: Rhythm | None) -> int:
    """How many steps of the grid a request for older events may span so that its answer is hardly a full page."""
    apart = 1 if rhythm is None else max(1, rhythm.shortest_ms // grid.step_ms)
    return (kind.rest.rows_max - 1) * apart


def proven(rows: Columns, asked: Span, grid: Grid, rows_max: int) -> Span:
    """The part of `asked` of which `rows`, the answer to it, has all events. Raises BadKline if that is nothing."""
    if len(rows) < rows_max:
        return asked
    end_ms = grid.floor(rows.opens_ms[-1])  # there may be more in its step
    if end_ms <= asked.start_ms:
        raise BadKline(f"{len(rows)} events in one step of the grid")
    return Span(asked.start_ms, end_ms)
