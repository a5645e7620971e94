"""The spans that operators wished for beyond BACKFILL_DAYS."""

from collections.abc import Mapping
from typing import Final

import asyncpg

from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.registry import named
from infra.postgres.statements import arrays, put

_COLUMNS: Final = ("symbol", "interval", "start_ms", "end_ms")
_GIVEN: Final = f"{arrays(_COLUMNS)} AS given ({', '.join(_COLUMNS)})"
_OF_GIVEN: Final = "wish.symbol = given.symbol AND wish.interval = given.interval"
_DELETE_INSIDE: Final = (
    f"DELETE FROM extra_wish AS wish USING {_GIVEN} WHERE {_OF_GIVEN} "
    "AND wish.start_ms >= given.start_ms AND wish.end_ms <= given.end_ms"
)
_SHORTEN_END: Final = (
    f"UPDATE extra_wish AS wish SET end_ms = given.start_ms FROM {_GIVEN} WHERE {_OF_GIVEN} "
    "AND wish.start_ms < given.start_ms AND given.start_ms < wish.end_ms AND wish.end_ms <= given.end_ms"
)
_SHORTEN_START: Final = (
    f"UPDATE extra_wish AS wish SET start_ms = given.end_ms FROM {_GIVEN} WHERE {_OF_GIVEN} "
    "AND given.start_ms <= wish.start_ms AND wish.start_ms < given.end_ms AND given.end_ms < wish.end_ms"
)
_WIDEN: Final = (
    "ON CONFLICT (symbol, interval) DO UPDATE SET start_ms = least(extra_wish.start_ms, excluded.start_ms), "
    "end_ms = greatest(extra_wish.end_ms, excluded.end_ms)"
)


async def read_wishes(connection: asyncpg.Connection) -> dict[Series, Span]:
    """By series: the span that an operator wished for."""
    lines = await connection.fetch(f"SELECT {', '.join(_COLUMNS)} FROM extra_wish")
    return {named(symbol, INTERVALS[code]): Span(start_ms, end_ms) for symbol, code, start_ms, end_ms in lines}


async def save_wishes(connection: asyncpg.Connection, wishes: Mapping[Series, Span]) -> None:
    """Store wishes; an earlier one of a series is widened. Called inside a transaction."""
    await put(connection, "extra_wish", _COLUMNS, _lines(wishes), _WIDEN)


async def withdraw_wishes(connection: asyncpg.Connection, wishes: Mapping[Series, Span]) -> None:
    """Delete wishes inside the given spans, and shorten those that overlap one. Called inside a transaction."""
    if lines := _lines(wishes):
        for statement in (_DELETE_INSIDE, _SHORTEN_END, _SHORTEN_START):
            await connection.execute(statement, *zip(*lines, strict=True))


def _lines(wishes: Mapping[Series, Span]) -> list[tuple[str, str, int, int]]:
    return [(series.name, series.interval.code, *span) for series, span in wishes.items() if span]
