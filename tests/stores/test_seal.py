"""Sealed rows: what readers and writers see stays what it was."""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.binance import rest_rows
from app.domain.interval import M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.ports.errors import StoreDamaged
from app.ports.store import EVERYTHING
from tests.sqlite.material import BTC_1M, T0_MS, FixedClock, batch, everything, klines, minutes
from tests.stores.databases import Damage, Database, OpenReader, OpenWriter, SqliteDatabase


async def seal_all(writer: OpenWriter, series: Series = BTC_1M, end_ms: int = EVERYTHING.end_ms) -> int:
    """Seal what can be sealed; returns how many rows were."""
    rows, next_ms = 0, 0
    while True:
        step = await writer.seal(series, Span(next_ms, end_ms))
        rows += step.rows
        if step.next_ms is None:
            return rows
        next_ms = step.next_ms


def body(rows: Sequence[Kline]) -> bytes:
    return rest_rows.join(KLINES.encode(row, row.open_ms + MINUTE_MS - 1) for row in rows)


def at(minute: int) -> int:
    return T0_MS + minute * MINUTE_MS


async def test_whole_blocks_are_sealed_and_no_others(database: Database, writer: OpenWriter) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((1, 10), (12, 16), (20, 22)))])
    await writer.commit([batch(BTC_1M, Source.ABSENT, minutes((22, 24)))])
    await seal_all(writer)
    assert database.blocks(BTC_1M) == [(at(4), 4), (at(12), 4), (at(20), 2)]
    rows = klines(minutes((1, 10), (12, 16), (20, 22)), M1.grid)
    assert (await writer.read(BTC_1M, everything(), 99)).rows == rows


async def test_what_is_too_young_is_not_sealed(tmp_path: Path) -> None:
    writer = await (await SqliteDatabase.made(tmp_path)).writer(FixedClock())
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 12)))])
    assert await seal_all(writer, end_ms=at(11)) == 8
    assert await seal_all(writer, end_ms=at(11)) == 0
    assert await seal_all(writer, end_ms=at(12)) == 4
    await writer.close()


@pytest.mark.parametrize("seed", range(12))
async def test_every_window_is_answered_as_if_nothing_were_sealed(
    database: Database, writer: OpenWriter, reader: OpenReader, seed: int
) -> None:
    """Sealed and unsealed spans take turns, with absent times between them."""
    rng = random.Random(seed)
    held = sorted(rng.sample(range(120), rng.choice((30, 90, 119))))
    spans = minutes(*((minute, minute + 1) for minute in held))
    absent = minutes(*((minute, minute + 1) for minute in range(120) if minute not in held and rng.random() < 0.7))
    await writer.commit([batch(BTC_1M, Source.REST, spans), batch(BTC_1M, Source.ABSENT, absent)])
    await seal_all(writer, end_ms=at(rng.choice((60, 120))))
    assert database.blocks(BTC_1M), f"seed {seed} seals nothing"
    rows = klines(spans, M1.grid)
    for _ in range(150):
        start_ms = at(rng.randrange(-5, 120))
        window = Span(start_ms, rng.choice((EVERYTHING.end_ms, start_ms + rng.randrange(70) * MINUTE_MS)))
        limit, newest = rng.choice((0, 1, 2, 7, 30, 1500)), rng.random() < 0.5
        inside = [row for row in rows if window.start_ms <= row.open_ms < window.end_ms]
        expected = inside[max(0, len(inside) - limit) :] if newest else inside[:limit]
        assert (await reader.read(BTC_1M, window, limit, newest=newest)).rows == expected
        assert await reader.read_encoded(BTC_1M, window, limit, newest=newest) == (len(expected), body(expected))
        assert await reader.read_spans({BTC_1M: window}) == ({BTC_1M: inside} if inside else {})


async def test_a_correction_opens_its_block_keeps_the_revision_and_seals_again(
    database: Database, writer: OpenWriter, reader: OpenReader
) -> None:
    await writer.commit([batch(BTC_1M, Source.ARCHIVE, minutes((0, 12)))])
    await seal_all(writer)
    [committed] = await writer.commit([batch(BTC_1M, Source.REST, minutes((5, 6)), mark=1)])
    assert committed.revised == 1
    assert [(each.row, each.old_source) for each in database.revisions()] == [
        (klines(minutes((5, 6)), M1.grid)[0], "archive")
    ]
    assert [start for start, _ in database.blocks(BTC_1M)] == [at(0), at(4), at(8)]
    rows = klines(minutes((0, 12)), M1.grid)
    rows[5] = klines(minutes((5, 6)), M1.grid, mark=1)[0]
    assert (await reader.read(BTC_1M, everything(), 99)).rows == rows


async def test_a_block_from_which_rows_go_stays_open_until_it_is_known_again(
    database: Database, writer: OpenWriter, reader: OpenReader
) -> None:
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 8)))])
    await seal_all(writer)
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 1)), mark=1)])
    assert len(database.blocks(BTC_1M)) == 2
    database.forget_ledger()
    newer = await database.writer(FixedClock())
    await newer.commit([batch(BTC_1M, Source.REST, minutes((1, 2)), mark=2)])
    starts = [start for start, _ in database.blocks(BTC_1M)]
    assert at(0) not in starts, "three of its rows have no ledger line"
    found = (await reader.read(BTC_1M, everything(), 99)).rows
    assert [row.open_ms for row in found] == [at(minute) for minute in range(8)]
    assert found[1] == klines(minutes((1, 2)), M1.grid, mark=2)[0]
    await newer.close()


async def test_unsealing_brings_back_the_rows(database: Database, writer: OpenWriter, reader: OpenReader) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 14)))])
    await seal_all(writer)
    next_ms: int | None = 0
    steps = []
    while next_ms is not None:
        step = await writer.unseal(BTC_1M, Span(next_ms, EVERYTHING.end_ms))
        next_ms = step.next_ms
        steps.append(step.rows)
    assert steps == [4, 4, 4, 0]
    assert database.blocks(BTC_1M) == []
    assert (await reader.read(BTC_1M, everything(), 99)).rows == klines(minutes((0, 14)), M1.grid)


@pytest.mark.parametrize("where", ["flipped", "text", "truncated", "another", "elsewhere"])
async def test_a_damaged_block_is_never_served_and_given_up(
    database: Database, writer: OpenWriter, reader: OpenReader, where: Damage
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 12)))])
    await seal_all(writer)
    assert (await reader.check_blocks(0, 9)).damaged == []
    database.damage(BTC_1M, at(4), where)
    result = await reader.check_blocks(0, 9)
    assert [(error.series, error.span) for error in result.damaged] == [(BTC_1M, Span(at(4), at(8)))]
    if where != "another":  # whole, but not what was stored: only its SHA-256 tells
        for window in (Span(at(4), at(5)), everything()):
            with pytest.raises(StoreDamaged, match="fetched again"):
                await reader.read(BTC_1M, window, 99)
            with pytest.raises(StoreDamaged):
                await reader.read_encoded(BTC_1M, window, 99)
            with pytest.raises(StoreDamaged):
                await reader.read_spans({BTC_1M: window})
    with pytest.raises(StoreDamaged):
        await writer.commit([batch(BTC_1M, Source.REST, minutes((5, 6)), mark=1)])
    with pytest.raises(StoreDamaged):
        await writer.unseal(BTC_1M, Span(at(4), at(8)))
    assert (await reader.read(BTC_1M, Span(at(0), at(4)), 99)).rows == klines(minutes((0, 4)), M1.grid)
    assert await writer.give_up(BTC_1M, Span(at(0), at(4))) is None, "nothing is wrong with it"
    ledger = await writer.give_up(BTC_1M, Span(at(4), at(8)))
    assert ledger is not None
    assert ledger.held == minutes((0, 4), (8, 12))
    assert (await reader.ledgers())[BTC_1M].entries == ledger.entries
    await writer.commit([batch(BTC_1M, Source.REST, minutes((4, 8)))])
    assert (await reader.read(BTC_1M, everything(), 99)).rows == klines(minutes((0, 12)), M1.grid)


async def test_every_block_is_checked_in_turn(database: Database, writer: OpenWriter, reader: OpenReader) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 40)))])
    await seal_all(writer)
    last, numbers = 0, []
    for _ in itertools.count():
        result = await reader.check_blocks(last, 3)
        numbers.append(result.blocks)
        last = result.last
        if not last:
            break
    assert numbers == [3, 3, 3, 1, 0]
