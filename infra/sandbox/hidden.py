"""Answers of an exchange that has no candles in a span."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from infra.sandbox.answers.klines import LIMIT_DEFAULT
from infra.sandbox.params import END_OF_CALENDAR_MS, Query
from infra.sandbox.render import Row

Ask = Callable[[Query], list[Row]]


class Hidden(NamedTuple):
    """The open times `start_ms <= t < end_ms` that have no candles."""

    start_ms: int
    end_ms: int


def without(ask: Ask, query: Query, hidden: Hidden) -> list[Row]:
    """The answer to a klines request without the candles in `hidden`; rows after or before fill the limit instead."""
    rows = ask(query)
    if not any(hidden.start_ms <= int(row[0]) < hidden.end_ms for row in rows):
        return rows
    limit = int(query.get("limit", LIMIT_DEFAULT))
    before = [row for row in rows if int(row[0]) < hidden.start_ms]
    if "startTime" in query:
        return [*before, *_after(ask, query, hidden, limit - len(before))]
    after = [row for row in rows if int(row[0]) >= hidden.end_ms]
    return [*_before(ask, query, hidden, limit - len(after)), *after]


def _after(ask: Ask, query: Query, hidden: Hidden, limit: int) -> list[Row]:
    if limit <= 0 or hidden.end_ms > min(int(query.get("endTime", END_OF_CALENDAR_MS)), END_OF_CALENDAR_MS):
        return []
    return ask(_with(query, startTime=hidden.end_ms, limit=limit))


def _before(ask: Ask, query: Query, hidden: Hidden, limit: int) -> list[Row]:
    if limit <= 0 or hidden.start_ms <= 0:
        return []
    return ask(_with(query, endTime=hidden.start_ms - 1, limit=limit))


def _with(query: Mapping[str, str], **numbers: int) -> Query:
    return {**query, **{name: str(number) for name, number in numbers.items()}}
