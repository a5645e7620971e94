"""Every value arrives as it was when rows are copied, also one that has a meaning in COPY's text form."""

import asyncpg

from app.domain.interval import M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.span import Span, Spans
from infra.postgres.copying import PIECE_ROWS, copy_columns
from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from infra.postgres.row_reads import COPIED_ROWS_MIN
from tests.sqlite.material import BTC_1M, NOW_MS, batch, klines

_NAMES = ("symbol", "open_time", "value")


async def test_copied_values_are_those_that_were_given(url: str) -> None:
    plain = [("BTCUSDT", number, f"{number}.50") for number in range(PIECE_ROWS)]
    odd = ["", "\\", "\\N", "a\tb", "a\nb", "a\r\nb", "\\.", "币", None]
    rows = [*plain, *(("币安\\人生", number, value) for number, value in enumerate(odd))]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TEMPORARY TABLE copied (symbol text, open_time bigint, value text)")
        await copy_columns(connection, "copied", _NAMES, list(zip(*rows, strict=True)))
        assert list(map(tuple, await connection.fetch("TABLE copied"))) == rows
    finally:
        await connection.close()


async def test_copied_rows_replace_those_of_their_times_and_no_others(
    writer: PostgresWriter, reader: PostgresReader
) -> None:
    begin_ms = M1.grid.floor(NOW_MS) - 2 * COPIED_ROWS_MIN * MINUTE_MS
    hole = Span(begin_ms + 9 * MINUTE_MS, begin_ms + 12 * MINUTE_MS)
    window = Span(begin_ms, begin_ms + (COPIED_ROWS_MIN + 3) * MINUTE_MS)
    around = Spans([window]) - Spans([hole])
    await writer.commit([batch(BTC_1M, Source.WS, Spans([window]), mark=1)])
    [committed] = await writer.commit([batch(BTC_1M, Source.REST, around, mark=2)])
    assert committed.revised == COPIED_ROWS_MIN
    expected = klines(around, M1.grid, mark=2) + klines([hole], M1.grid, mark=1)
    assert (await reader.read(BTC_1M, window, COPIED_ROWS_MIN + 9)).rows == sorted(expected)
