"""When rows are sealed, and what happens to damaged blocks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import BlockGivenUp, BlocksChecked, RowsSealed, SealingProgress
from app.holding import sealing
from app.holding.encoded_rows import EncodedRows
from app.holding.sealing import CHECK_EVERY_S, PASS_EVERY_S, RETRY_S, Sealer
from app.kinds.klines import KLINES
from app.ports.store import EVERYTHING
from tests.fakes import BTC, DAY0_MS, Rig, minute, rig, running
from tests.stores.databases import SqliteDatabase

AFTER_MS = 3 * DAY_MS


class Desk(NamedTuple):
    """A sealer and what it works on; eight days of minutes are held, up to now."""

    rig: Rig
    sealer: Sealer
    database: SqliteDatabase

    async def sealer_pass(self) -> None:
        """Seal whatever is old enough."""
        async with running(self.sealer.seal):
            await self.rig.advance(PASS_EVERY_S - 1)

    def days(self) -> list[int]:
        """The sealed days, counted from the first of the eight."""
        return [(each - DAY0_MS) // DAY_MS for each, _ in self.database.blocks(BTC)]


@asynccontextmanager
async def desk(folder: Path, *, missing: Span | None = None) -> AsyncIterator[Desk]:
    async with rig(folder, now_ms=DAY0_MS + 8 * DAY_MS) as made:
        spans = Spans([Span(DAY0_MS, DAY0_MS + 8 * DAY_MS)]) - Spans([missing] if missing else [])
        for span in spans:
            rows = [minute("BTCUSDT", open_ms) for open_ms in M1.grid.opens(*span)]
            await made.committer.commit([Batch(BTC, Source.REST, Spans([span]), rows)])
        sealer = Sealer(made.clock, made.observe, made.store, made.holdings, made.committer, AFTER_MS)
        yield Desk(made, sealer, SqliteDatabase(folder / "klinenode.db"))


async def test_days_are_sealed_as_they_become_old_enough(tmp_path: Path) -> None:
    async with desk(tmp_path) as at, running(at.sealer.seal):
        await at.rig.advance(PASS_EVERY_S - 1)
        assert at.days() == [0, 1, 2, 3, 4]
        assert sum(event.rows for event in at.rig.seen(RowsSealed)) == 5 * 1440
        await at.rig.advance(DAY_MS / 1000)
        assert [start for start, _ in at.database.blocks(BTC)][-1] == DAY0_MS + 5 * DAY_MS


async def test_a_day_with_an_unknown_minute_waits_until_it_is_known(tmp_path: Path) -> None:
    hole = Span(DAY0_MS + DAY_MS + 7 * MINUTE_MS, DAY0_MS + DAY_MS + 8 * MINUTE_MS)
    async with desk(tmp_path, missing=hole) as at, running(at.sealer.seal):
        await at.rig.advance(PASS_EVERY_S - 1)
        assert at.days() == [0, 2, 3, 4]
        await at.rig.committer.commit([Batch(BTC, Source.ABSENT, Spans([hole]), [])])
        await at.rig.advance(PASS_EVERY_S)
        assert dict(at.database.blocks(BTC))[DAY0_MS + DAY_MS] == 1439


async def test_a_database_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.store.failing = True
        async with running(at.sealer.seal):
            await at.rig.advance(PASS_EVERY_S - 1)
            assert at.days() == []
            at.rig.store.failing = False
            await at.rig.advance(PASS_EVERY_S)
            assert at.days() == [0, 1, 2, 3, 4]


async def test_a_long_pass_says_how_far_it_is(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        seal = at.rig.store.seal

        async def slowly(series: Series, window: Span) -> object:
            at.rig.clock.put(sealing.PROGRESS_EVERY_MS)
            return await seal(series, window)

        at.rig.store.seal = slowly  # type: ignore[method-assign, assignment]
        async with running(at.sealer.seal):
            await at.rig.advance(PASS_EVERY_S - 1)
        told = at.rig.seen(SealingProgress)
        assert [(event.series, event.of, event.rows) for event in told][:2] == [(0, 1, 1440), (0, 1, 2 * 1440)]
        share = sealing.PROGRESS_EVERY_MS / 1000 * (1 / sealing.SHARE - 1)
        assert share in at.rig.clock.slept_s, "it leaves the writer the rest of its time"


async def test_a_long_pass_that_finds_nothing_says_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.sealer_pass()
        at.rig.events.clear()
        seal = at.rig.store.seal

        async def slowly(series: Series, window: Span) -> object:
            at.rig.clock.put(sealing.PROGRESS_EVERY_MS)
            return await seal(series, window)

        at.rig.store.seal = slowly  # type: ignore[method-assign, assignment]
        await at.sealer_pass()
        assert at.rig.seen(SealingProgress) == []


async def test_a_block_with_other_rows_is_found_in_turn_given_up_and_unknown_then(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.sealer_pass()
        day = Span(DAY0_MS + 2 * DAY_MS, DAY0_MS + 3 * DAY_MS)
        at.database.damage(BTC, day.start_ms, "another")
        async with running(at.sealer.check, at.sealer.repair):
            await at.rig.advance(CHECK_EVERY_S)
        [event] = at.rig.seen(BlockGivenUp)
        assert (event.symbol, event.interval, event.span) == ("BTCUSDT", "1m", day)
        assert "SHA-256" in event.reason
        assert sum(each.blocks for each in at.rig.seen(BlocksChecked)) == 5
        assert not at.rig.holdings.ledger(BTC).known & Spans([day])
        assert (BTC, day) in at.rig.dropped, "pages of it are dropped"


async def test_nothing_made_of_a_block_that_is_given_up_is_served_or_written_any_more(tmp_path: Path) -> None:
    """A block with other rows was read, until its SHA-256 was compared."""
    async with desk(tmp_path) as at:
        await at.sealer_pass()
        rig, day = at.rig, Span(DAY0_MS + 2 * DAY_MS, DAY0_MS + 3 * DAY_MS)
        at.database.damage(BTC, day.start_ms, "another")
        as_of = rig.committer.epoch
        _, body = await rig.store.read_encoded(BTC, day, 1440)
        rig.tail.seed(BTC, M1.grid, EncodedRows.of_body(body), day.end_ms, rig.tail.version(BTC))
        version = rig.tail.version(BTC)
        async with running(at.sealer.check, at.sealer.repair):
            await rig.advance(CHECK_EVERY_S)
        assert rig.seen(BlockGivenUp)
        assert not rig.tail.get(BTC).rows  # type: ignore[union-attr]
        assert rig.tail.version(BTC) != version, "what is still being read of it does not become a tail"
        hours = BTC.of(INTERVALS["1h"])
        row = minute("BTCUSDT", day.start_ms)
        made = Batch(hours, Source.ROLLUP, Spans([Span(day.start_ms, day.start_ms + HOUR_MS)]), [row], as_of)
        assert await rig.committer.commit([made]) == []


async def test_a_damaged_block_is_given_up_when_the_database_can_be_written_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.sealer_pass()
        at.database.damage(BTC, DAY0_MS, "flipped")
        [error] = (await at.rig.store.check_blocks(0, 9)).damaged
        at.rig.store.failing = True
        async with running(at.sealer.repair):
            at.sealer.report(error)
            at.sealer.report(error)
            await at.rig.advance(RETRY_S - 1)
            assert at.rig.seen(BlockGivenUp) == []
            at.rig.store.failing = False
            await at.rig.advance(RETRY_S)
        assert len(at.rig.seen(BlockGivenUp)) == 1


async def test_intervals_longer_than_a_day_stay_rows(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        weeks = Series(KLINES, "BTCUSDT", INTERVALS["1w"])
        step = await at.rig.store.seal(weeks, EVERYTHING)
        assert step == (0, 0, None)
