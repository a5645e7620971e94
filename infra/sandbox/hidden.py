"""Answers of an exchange that has no rows in a span."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from infra.sandbox.answers.klines import LIMIT_DEFAULT
from infra.sandbox.answers.prices import FUNDINGS_DEFAULT
from infra.sandbox.answers.statistics import ROWS_DEFAULT
from infra.sandbox.grid import DURATIONS_MS
from infra.sandbox.params import END_OF_CALENDAR_MS, ApiError, Query

Ask = Callable[[Query], list[Any]]


class Hidden(NamedTuple):
    """The open times `start_ms <= t < end_ms` that have no rows."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class RowForm:
    """What the rows of an endpoint are like."""

    limit_default: int
    time_ms: Callable[[Any], int]
    """The time of a row (ms) to which startTime and endTime apply."""

    after_open_ms: Callable[[Query], int] = lambda query: 0
    """How much later (ms) than its open time that is."""

    is_oldest_first: bool = True
    """Whether a window with startTime that has too many rows gives its oldest ones, instead of its newest."""


def _period_ms(query: Query) -> int:
    return DURATIONS_MS.get(query.get("period", ""), 0)


KLINE_ROWS: Final = RowForm(LIMIT_DEFAULT, lambda row: int(row[0]))
FUNDING_ROWS: Final = RowForm(FUNDINGS_DEFAULT, lambda row: int(row["fundingTime"]))
STATISTICS_ROWS: Final = RowForm(ROWS_DEFAULT, lambda row: int(row["timestamp"]), _period_ms, is_oldest_first=False)


def without(ask: Ask, query: Query, hidden: Hidden, form: RowForm) -> list[Any]:
    """The answer without the rows in `hidden`; rows after or before fill the limit instead."""
    later_ms = form.after_open_ms(query)
    start_ms, end_ms = hidden.start_ms + later_ms, hidden.end_ms + later_ms
    rows = ask(query)
    if not any(start_ms <= form.time_ms(row) < end_ms for row in rows):
        return rows
    limit = int(query.get("limit", form.limit_default))
    before = [row for row in rows if form.time_ms(row) < start_ms]
    after = [row for row in rows if form.time_ms(row) >= end_ms]
    if "startTime" in query and form.is_oldest_first:
        return [*before, *_after(ask, query, end_ms, limit - len(before))]
    return [*_before(ask, query, start_ms, limit - len(after)), *after]


def _after(ask: Ask, query: Query, end_ms: int, limit: int) -> list[Any]:
    if limit <= 0 or end_ms > min(int(query.get("endTime", END_OF_CALENDAR_MS)), END_OF_CALENDAR_MS):
        return []
    return ask(_with(query, startTime=end_ms, limit=limit))


def _before(ask: Ask, query: Query, start_ms: int, limit: int) -> list[Any]:
    if limit <= 0 or start_ms <= int(query.get("startTime", 0)):
        return []
    try:
        return ask(_with(query, endTime=start_ms - 1, limit=limit))
    except ApiError:  # statistics have an end of their reach; the request itself was within it
        return []


def _with(query: Mapping[str, str], **numbers: int) -> Query:
    return {**query, **{name: str(number) for name, number in numbers.items()}}
