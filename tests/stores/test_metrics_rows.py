"""Rows of metrics: values that nobody knows, and a stated time that is not when they open, stored and sealed."""

import pickle
import random
from typing import Any

import pytest

from app.binance.statistics_rows import OPEN_INTEREST
from app.domain.block_grid import block_span
from app.domain.columns import Columns
from app.domain.interval import INTERVALS
from app.domain.kind import Kind
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.metrics import METRICS
from app.ports.coordination import ChangeFeed
from app.ports.store import EVERYTHING
from infra.blocks.sealed_columns import BlockBuilder, SealedColumns
from tests.sqlite.material import T0_MS
from tests.stores.databases import Database, OpenReader, OpenWriter
from tests.stores.test_seal import seal_all

M5 = INTERVALS["5m"]
STEP_MS = M5.grid.step_ms
BLOCK = block_span(M5, T0_MS)


def row(kind: Kind, open_ms: int, mark: int = 0) -> Any:
    chance = random.Random(open_ms + mark)
    numbers = (None if chance.random() < 0.1 else f"{chance.randrange(10**9)}.{open_ms % 97:03}" for _ in range(3))
    return kind.row(open_ms, *numbers)


def batch(series: Series, span: Span, mark: int = 0) -> Batch:
    rows = [row(series.kind, open_ms, mark) for open_ms in M5.grid.opens(*span)]
    return Batch(series, Source.REST, Spans([span]), rows)


@pytest.mark.parametrize("kind", METRICS.values(), ids=METRICS)
async def test_rows_of_metrics_are_read_printed_and_sealed_as_they_came(
    database: Database, writer: OpenWriter, reader: OpenReader, feed: ChangeFeed, kind: Kind
) -> None:
    series, other = Series(kind, "BTCUSDT", M5), Series(kind, "BTCUSDT_261225", M5)
    await writer.commit([batch(other, Span(BLOCK.start_ms, BLOCK.start_ms + STEP_MS), mark=1)])
    start = (await feed.changes(None)).last
    span = Span(BLOCK.start_ms, BLOCK.end_ms + 100 * STEP_MS)
    expected = batch(series, span).rows
    assert any(None in each for each in expected)
    await writer.commit([batch(series, span), batch(other, span, mark=1)])
    assert {each: change.span for each, change in (await feed.changes(start)).series.items()} == {
        series: span,
        other: span,
    }

    async def is_whole() -> None:
        assert (await reader.read(series, span, 10_000)).rows == expected
        for newest, first, end in ((True, -60, None), (False, 0, 60), (True, -500, None)):
            part = expected[first:end]
            printed = [kind.encode(each, each.open_ms + STEP_MS - 1) for each in part]
            found = await reader.read_encoded(series, span, len(part), newest=newest)
            assert found == (len(part), b"[" + b",".join(printed) + b"]")
        border = Span(BLOCK.end_ms - 3 * STEP_MS, BLOCK.end_ms + 3 * STEP_MS)
        inside = [each for each in expected if border.start_ms <= each.open_ms < border.end_ms]
        assert await reader.read_spans({series: border}) == {series: inside}

    await is_whole()
    await seal_all(writer, series)
    assert database.blocks(series) == [(BLOCK.start_ms, M5.grid.count(*BLOCK))]
    await is_whole()
    [committed] = await writer.commit([batch(series, span)])
    assert (committed.revised, database.blocks(series)[0][0]) == (0, BLOCK.start_ms), "the same rows are no revision"
    changed = Span(BLOCK.start_ms + 7 * STEP_MS, BLOCK.start_ms + 8 * STEP_MS)
    [committed] = await writer.commit([batch(series, changed, mark=2)])
    assert committed.revised == 1
    expected = [*expected[:7], row(kind, changed.start_ms, 2), *expected[8:]]
    await is_whole()
    step = await writer.unseal(series, Span(0, EVERYTHING.end_ms))
    assert step.rows == M5.grid.count(*BLOCK)
    await is_whole()


def archived(kind: Kind, span: Span) -> list[Any]:
    """Rows of the archive: its texts, and nothing that it does not have."""
    known = 2 if kind.name == OPEN_INTEREST else 1
    found = []
    for open_ms in M5.grid.opens(*span):
        chance = random.Random(open_ms)
        texts = [f"{chance.randrange(10**6)}.{chance.randrange(10**16):016}" for _ in range(known)]
        texts[0] = texts[0] if known == 2 else texts[0][:-8]
        values: list[str | None] = [*texts, *[None] * (3 - known)]
        values[0] = None if known == 2 and chance.random() < 0.05 else values[0]
        found.append(kind.row(open_ms, *values))
    return found


def sealed(kind: Kind, rows: list[Any]) -> Columns:
    """What a process that unpacks sends of them."""
    builder = BlockBuilder(kind, M5)
    builder.take(Columns.of(rows))
    found: Columns = pickle.loads(pickle.dumps(builder.found()))
    assert isinstance(found, SealedColumns)
    return found


@pytest.mark.parametrize("kind", METRICS.values(), ids=METRICS)
async def test_rows_of_the_archive_are_stored_in_blocks_as_it_prints_them(
    database: Database, writer: OpenWriter, reader: OpenReader, kind: Kind
) -> None:
    series = Series(kind, "BTCUSDT", M5)
    span = Span(BLOCK.start_ms - 50 * STEP_MS, BLOCK.end_ms + 50 * STEP_MS)
    rows = archived(kind, span)
    [committed] = await writer.commit([Batch(series, Source.ARCHIVE, Spans([span]), sealed(kind, rows))])
    assert (committed.granted, committed.revised) == (Spans([span]), 0)
    assert database.blocks(series) == [(BLOCK.start_ms, M5.grid.count(*BLOCK))]
    stored = (await reader.read(series, span, 10_000)).rows
    assert stored == rows
    assert any(None in row for row in stored)
    assert all(type(row) is kind.row for row in stored)
    printed = [kind.encode(each, each.open_ms + STEP_MS - 1) for each in rows[:500]]
    assert await reader.read_encoded(series, span, 500) == (500, b"[" + b",".join(printed) + b"]")
    await writer.unseal(series, Span(0, EVERYTHING.end_ms))
    assert (await reader.read(series, span, 10_000)).rows == rows


@pytest.mark.parametrize("kind", METRICS.values(), ids=METRICS)
async def test_rows_of_the_archive_fill_in_around_those_of_rest(
    database: Database, writer: OpenWriter, reader: OpenReader, kind: Kind
) -> None:
    series, span = Series(kind, "BTCUSDT", M5), Span(BLOCK.start_ms, BLOCK.end_ms)
    held = batch(series, Span(BLOCK.start_ms + 100 * STEP_MS, BLOCK.start_ms + 200 * STEP_MS))
    await writer.commit([held])
    rows = archived(kind, span)
    [committed] = await writer.commit([Batch(series, Source.ARCHIVE, Spans([span]), sealed(kind, rows))])
    assert committed.granted == Spans([span]) - held.spans
    expected = [*rows[:100], *held.rows, *rows[200:]]
    assert (await reader.read(series, span, 10_000)).rows == expected
    await seal_all(writer, series)
    assert database.blocks(series) == [(BLOCK.start_ms, len(rows))]
    assert (await reader.read(series, span, 10_000)).rows == expected
    [committed] = await writer.commit([Batch(series, Source.ARCHIVE, Spans([span]), sealed(kind, rows))])
    assert committed.revised == 0, "the same rows are no revision"
    assert (await reader.read(series, span, 10_000)).rows == expected
    await writer.commit([batch(series, span, mark=2)])
    assert (await reader.read(series, span, 10_000)).rows == batch(series, span, mark=2).rows
