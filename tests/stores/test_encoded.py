"""Rows that the database prints equal, byte for byte, those printed by app.binance.rest_rows."""

import pytest

from app.binance import rest_rows
from app.domain.interval import D3, INTERVALS, Interval
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from tests.sqlite.material import T0_MS, everything, klines
from tests.stores.databases import OpenWriter


@pytest.mark.parametrize("interval", INTERVALS.values(), ids=str)
@pytest.mark.parametrize("newest", [True, False])
async def test_rows_printed_by_the_database_are_those_of_the_wire(
    writer: OpenWriter, interval: Interval, newest: bool
) -> None:
    series = Series(KLINES, "币安人生USDT", interval)
    grid = interval.anchored(T0_MS) if interval == D3 else interval.grid
    start_ms = grid.ceil(T0_MS)
    span = Span(start_ms, grid.shift(start_ms, 40))  # for months: covers leap years and all lengths
    await writer.commit([Batch(series, Source.REST, Spans([span]), klines([span], grid))])
    for window, limit in (
        (everything(), 1500),
        (everything(), 7),
        (Span(grid.shift(start_ms, 3), grid.shift(start_ms, 9)), 4),
    ):
        rows = (await writer.read(series, window, limit, newest=newest)).rows
        body = rest_rows.join(KLINES.encode(row, grid.shift(row.open_ms, 1) - 1) for row in rows)
        assert await writer.read_encoded(series, window, limit, newest=newest) == (len(rows), body)
    assert await writer.read_encoded(series, Span(0, 1), 5, newest=newest) == (0, b"[]")
    assert await writer.read_encoded(Series(KLINES, "NOPE", interval), everything(), 5, newest=newest) == (0, b"[]")
