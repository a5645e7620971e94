"""From frame to tail, roll-up and store: nothing taken in is lost, doubled, reordered or made up."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from app.binance.stream_event import KlineEvent
from app.domain.interval import HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.rollup import roll_up
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import CommitFailed, GarbageDropped, KlineClosed
from app.holding.encoded_rows import EncodedRows
from app.holding.rolling import Rolling
from app.holding.tail import SeriesTail
from app.ingest.live import EARLY_MS_MAX, LiveIngest
from app.ingest.warm_up import WarmUp
from app.kinds.klines import KLINES
from app.ports.errors import StoreUnavailable
from tests.fakes import BTC, DAY0_MS, Rig, disputes_of, encoded, minute, rig, running

FIVES = Series(KLINES, "BTCUSDT", INTERVALS["5m"])
HOURS = Series(KLINES, "BTCUSDT", INTERVALS["1h"])
START_MS = DAY0_MS + 9 * HOUR_MS


class Feed:
    """Live ingest on a rig."""

    def __init__(self, made: Rig) -> None:
        self.rig = made
        self.rolling = Rolling([INTERVALS["5m"], INTERVALS["1h"]])
        self.disputes = disputes_of(made)
        self.heard: list[int] = []
        self.live = LiveIngest(
            made.runtime, made.streams, made.copies_with(self.rolling), made.committer, self.disputes, self._hear
        )

    def _hear(self, event_ms: int) -> int:
        self.heard.append(event_ms)
        return self.rig.clock.now_ms()

    async def take(self, kline: Kline, *, is_final: bool = True, after_ms: int = 500, symbol: str = "BTCUSDT") -> None:
        if is_final:
            self.rig.clock.ms = max(self.rig.clock.ms, kline.open_ms + MINUTE_MS + after_ms)
        await self.live.take(KlineEvent(symbol, M1, self.rig.clock.ms, is_final, kline))

    async def close(self, open_ms: int) -> None:
        await self.take(minute("BTCUSDT", open_ms))

    def tail_opens(self, series: Series = BTC) -> list[int]:
        tail = self.rig.tail.get(series)
        return [] if tail is None else [orjson.loads(row)[0] for row in tail.rows]


@asynccontextmanager
async def feed(folder: Path, *, is_synced: bool = True) -> AsyncIterator[Feed]:
    async with rig(folder, now_ms=START_MS) as made:
        if is_synced:
            await made.symbols.refresh()
        yield Feed(made)


async def test_a_closed_minute_is_served_at_once_and_committed_soon(tmp_path: Path) -> None:
    async with feed(tmp_path) as on, running(on.live.ingest, on.live.write):
        on.rig.clock.ms = START_MS + MINUTE_MS + 700
        on.rig.streams.queue.put_nowait(KlineEvent("BTCUSDT", M1, on.rig.clock.ms, True, minute("BTCUSDT", START_MS)))
        await on.rig.store.settled()
        assert on.tail_opens() == [START_MS]
        assert await on.rig.stored() == []
        assert (BTC, Span(START_MS, START_MS + MINUTE_MS)) in on.rig.dropped
        assert [event.lag_ms for event in on.rig.seen(KlineClosed)] == [700]
        assert on.heard == [START_MS + MINUTE_MS + 700], "the exchange's time, by which the clock is confirmed"
        await on.rig.advance(0.2)
        assert await on.rig.stored() == [minute("BTCUSDT", START_MS)]
        assert (await on.rig.ledger()).entries[0] == (Span(START_MS, START_MS + MINUTE_MS), Source.WS)
        assert on.live.queue_depth == 0


async def test_longer_klines_close_with_their_last_minute_and_are_the_roll_up_of_all(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        for open_ms in range(START_MS, START_MS + HOUR_MS, MINUTE_MS):
            assert on.tail_opens(HOURS) == []
            await on.close(open_ms)
        assert on.tail_opens(HOURS) == [START_MS]
        assert on.tail_opens(FIVES) == list(range(START_MS, START_MS + HOUR_MS, 5 * MINUTE_MS))
        await on.live.flush()
        minutes = [minute("BTCUSDT", open_ms) for open_ms in range(START_MS, START_MS + HOUR_MS, MINUTE_MS)]
        for series in (FIVES, HOURS):
            assert await on.rig.stored(series) == roll_up(minutes, series.interval.grid)


@pytest.mark.parametrize("lost", [0, 3, 31, 59])
async def test_no_longer_kline_is_made_of_minutes_with_a_hole(tmp_path: Path, lost: int) -> None:
    async with feed(tmp_path) as on:
        lost_ms = START_MS + lost * MINUTE_MS
        for open_ms in range(START_MS, START_MS + 2 * HOUR_MS, MINUTE_MS):
            if open_ms != lost_ms:
                await on.close(open_ms)
        await on.live.flush()
        assert [row.open_ms for row in await on.rig.stored(HOURS)] == [START_MS + HOUR_MS]
        half_full = FIVES.interval.grid.floor(lost_ms)
        assert half_full not in [row.open_ms for row in await on.rig.stored(FIVES)]


async def test_a_failed_commit_keeps_the_batch_and_tries_again(tmp_path: Path) -> None:
    """A program that empties its buffer before the write loses what the write could not store."""
    async with feed(tmp_path) as on, running(on.live.write):
        on.rig.store.failing = True
        for number in range(7):
            await on.close(START_MS + number * MINUTE_MS)
            await on.rig.advance(5)
        failures = on.rig.seen(CommitFailed)
        assert failures
        assert failures[0].rows == 1
        assert on.live.queue_depth == 8, "seven minutes and one 5m"
        on.rig.store.failing = False
        await on.rig.advance(31)
        assert len(await on.rig.stored()) == 7
        assert len(await on.rig.stored(FIVES)) == 1
        assert on.live.queue_depth == 0
        written = [row for batches in on.rig.store.commits for batch in batches for row in batch.rows]
        assert len(written) == 8, "once each"


async def test_a_failing_store_is_tried_with_growing_delays(tmp_path: Path) -> None:
    async with feed(tmp_path) as on, running(on.live.write):
        on.rig.store.failing = True
        await on.close(START_MS)
        await on.rig.advance(600)
        assert 10 < len(on.rig.seen(CommitFailed)) < 40


async def test_finals_that_come_twice_late_or_in_disorder_are_stored_once_each(tmp_path: Path) -> None:
    rng = random.Random(7)
    async with feed(tmp_path) as on, running(on.live.write):
        opens = [START_MS + number * MINUTE_MS for number in range(120)]
        order = sorted(opens * 2, key=lambda open_ms: open_ms + rng.choice([0, 0, 0, 1, 5]) * MINUTE_MS)
        on.rig.clock.ms = opens[-1] + MINUTE_MS + 500
        for open_ms in order:
            await on.close(open_ms)
            if rng.random() < 0.2:
                await on.rig.advance(0.3)
        await on.rig.advance(1)
        assert await on.rig.stored() == [minute("BTCUSDT", open_ms) for open_ms in opens]
        for row in await on.rig.stored(FIVES):
            parts = [minute("BTCUSDT", each) for each in range(row.open_ms, row.open_ms + 5 * MINUTE_MS, MINUTE_MS)]
            assert [row] == roll_up(parts, FIVES.interval.grid)
        tail = on.tail_opens()
        assert tail == list(range(tail[0], opens[-1] + 1, MINUTE_MS))


async def test_frames_ahead_of_time_are_dropped(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        kline, closes_ms = minute("BTCUSDT", START_MS), START_MS + MINUTE_MS
        on.rig.clock.ms = START_MS - EARLY_MS_MAX - 1
        await on.live.take(KlineEvent("BTCUSDT", M1, START_MS, False, kline))
        on.rig.clock.ms = closes_ms
        await on.live.take(KlineEvent("BTCUSDT", M1, closes_ms - 1, True, kline))  # closed before its time
        assert on.rig.tail.get(BTC) is None
        assert on.live.queue_depth == 0
        assert len(on.rig.seen(GarbageDropped)) == 2
        await on.live.take(KlineEvent("BTCUSDT", M1, closes_ms, True, kline))
        assert on.tail_opens() == [START_MS]


async def test_a_kline_in_progress_moves_its_pages_and_is_never_written(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        on.rig.clock.ms = START_MS + 20_000
        await on.take(minute("BTCUSDT", START_MS), is_final=False)
        assert on.rig.moved == ["BTCUSDT"]
        tail = on.rig.tail.get(BTC)
        assert tail is not None
        assert tail.live is not None
        assert (len(tail.rows), on.live.queue_depth) == (0, 0)


async def test_a_kline_in_progress_is_as_old_as_its_event_however_long_it_waited(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        on.rig.clock.ms = START_MS + 40_000
        for event_ms, heard_ms in ((START_MS + 5_000, 5_000), (START_MS + 41_000, 40_000), (0, 40_000)):
            await on.live.take(KlineEvent("BTCUSDT", M1, event_ms, False, minute("BTCUSDT", START_MS)))
            tail = on.rig.tail.get(BTC)
            assert tail is not None
            assert tail.live is not None
            assert tail.live.heard_ms == START_MS + heard_ms


async def test_other_intervals_strangers_and_symbols_without_precision_are_left_alone(tmp_path: Path) -> None:
    """Without its precision a kline would be stored as the socket spells it, not as REST does."""
    async with feed(tmp_path, is_synced=False) as on:
        assert "BTCUSDT" in on.rig.symbols.wished_set
        await on.close(START_MS)
        assert on.live.queue_depth == 0
        await on.rig.symbols.refresh()
        await on.take(minute("XRPUSDT", START_MS), symbol="XRPUSDT")
        await on.live.take(KlineEvent("BTCUSDT", INTERVALS["5m"], 0, True, minute("BTCUSDT", START_MS)))
        assert on.live.queue_depth == 0


async def test_a_frame_is_brought_to_the_form_of_rest(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        spelt = Kline(START_MS, "1.5", "2", "1.25", "1.5", "0.000", "0.00", 0, "0", "0.0")
        await on.take(spelt)
        await on.live.flush()
        assert await on.rig.stored() == [Kline(START_MS, "1.50", "2.00", "1.25", "1.50", "0", "0", 0, "0", "0")]


async def test_the_queue_is_bounded_and_holds_back_instead_of_dropping(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        on.live._queue = asyncio.Queue(3)
        on.rig.clock.ms = START_MS + 10 * MINUTE_MS
        taken = 0

        async def take_all() -> None:
            nonlocal taken
            for number in range(9):
                await on.close(START_MS + number * MINUTE_MS)
                taken += 1
            await asyncio.Event().wait()

        async with running(take_all):
            await on.rig.store.settled()
            assert (taken, on.live.queue_depth) == (3, 3)
            async with running(on.live.write):
                await on.rig.advance(5)
                assert taken == 9
        assert len(await on.rig.stored()) == 9


async def test_a_flush_writes_what_was_taken_in_and_says_when_it_cannot(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        async with running(on.live.write):
            await on.close(START_MS)
            await on.rig.store.settled()  # it is in the batch, waiting for company
            await on.close(START_MS + MINUTE_MS)
        on.rig.store.failing = True
        with pytest.raises(StoreUnavailable):
            await on.live.flush()
        assert on.live.queue_depth == 2
        on.rig.store.failing = False
        await on.live.flush()
        assert len(await on.rig.stored()) == 2


async def test_the_exchanges_own_kline_is_not_replaced_by_a_roll_up_that_comes_later(tmp_path: Path) -> None:
    """A user asked before the last closing frame was here: the row is REST's."""
    async with feed(tmp_path) as on:
        own = roll_up([minute("BTCUSDT", START_MS)], FIVES.interval.grid)[0]._replace(close="1234.56")
        for number in range(4):
            await on.close(START_MS + number * MINUTE_MS)
        on.rig.tail.append(FIVES, FIVES.interval.grid, own)
        await on.rig.committer.commit(
            [Batch(FIVES, Source.REST, Spans([Span(START_MS, START_MS + 5 * MINUTE_MS)]), [own])]
        )
        await on.close(START_MS + 4 * MINUTE_MS)
        tail = on.rig.tail.get(FIVES)
        assert tail is not None
        assert orjson.loads(tail.rows[0])[4] == "1234.56"
        await on.live.flush()
        assert await on.rig.stored(FIVES) == [own]


async def test_warm_up_supplies_the_hour_in_progress_from_the_store(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        warm_up = WarmUp(on.rig.clock, on.rig.store, on.rig.symbols, on.rig.holdings, on.rolling)
        spans = Spans([Span(START_MS, START_MS + 42 * MINUTE_MS)])
        rows = [minute("BTCUSDT", each) for each in M1.grid.opens(*next(iter(spans)))]
        await on.rig.committer.commit([Batch(BTC, Source.REST, spans, rows)])
        await warm_up.once()
        for number in range(42, 60):
            await on.close(START_MS + number * MINUTE_MS)
        await on.live.flush()
        whole = [minute("BTCUSDT", START_MS + number * MINUTE_MS) for number in range(60)]
        assert await on.rig.stored(HOURS) == roll_up(whole, HOURS.interval.grid)


async def test_warm_up_waits_until_the_minutes_are_whole_and_outlives_a_store_that_fails(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        warm_up = WarmUp(on.rig.clock, on.rig.store, on.rig.symbols, on.rig.holdings, on.rolling)
        holed = Spans(
            [Span(START_MS, START_MS + 20 * MINUTE_MS), Span(START_MS + 21 * MINUTE_MS, START_MS + 42 * MINUTE_MS)]
        )
        rows = [minute("BTCUSDT", each) for span in holed for each in M1.grid.opens(*span)]
        await on.rig.committer.commit([Batch(BTC, Source.REST, holed, rows)])
        await warm_up.once()
        end_ms = START_MS + 42 * MINUTE_MS
        assert on.rolling.live("BTCUSDT", INTERVALS["1h"], None, START_MS, end_ms) is None
        assert on.rig.store.reads == 0
        missing = Batch(BTC, Source.REST, Spans([Span(START_MS + 20 * MINUTE_MS, START_MS + 21 * MINUTE_MS)]), [
            minute("BTCUSDT", START_MS + 20 * MINUTE_MS)
        ])  # fmt: skip
        await on.rig.committer.commit([missing])
        async with running(warm_up.run):
            await on.rig.advance(2)
        made = on.rolling.live("BTCUSDT", INTERVALS["1h"], None, START_MS, end_ms)
        parts = [minute("BTCUSDT", each) for each in M1.grid.opens(START_MS, end_ms)]
        assert [made] == roll_up(parts, HOURS.interval.grid)


async def test_what_the_tail_says_is_what_the_store_will_say(tmp_path: Path) -> None:
    async with feed(tmp_path) as on, running(on.live.write):
        for number in range(40):
            await on.close(START_MS + number * MINUTE_MS)
            await on.rig.advance(0.3 * (number % 3))
        await on.rig.advance(1)
        for series in (BTC, FIVES):
            tail = on.rig.tail.get(series)
            assert tail is not None
            assert list(tail.rows) == [tail.encode(row) for row in await on.rig.stored(series)]


async def test_a_closing_kline_enters_the_tail_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it closes; its commit finds it there, also if it succeeds late. Longer klines likewise."""
    entries: Counter[int] = Counter()
    print_row = SeriesTail.encode

    def encode(tail: SeriesTail, kline: Kline) -> bytes:
        entries[tail.grid.shift(kline.open_ms, 1) - kline.open_ms] += 1
        return print_row(tail, kline)

    monkeypatch.setattr(SeriesTail, "encode", encode)
    async with feed(tmp_path) as on, running(on.live.write):
        for number in range(60):
            on.rig.store.failing = number % 20 < 5
            await on.close(START_MS + number * MINUTE_MS)
            await on.rig.advance(30)
        assert entries == {MINUTE_MS: 60, 5 * MINUTE_MS: 12, HOUR_MS: 1}
        assert on.live.queue_depth == 0
        assert len(await on.rig.stored()) == 60
        for open_ms in range(START_MS, START_MS + HOUR_MS, MINUTE_MS):
            assert on.rig.dropped.count((BTC, Span(open_ms, open_ms + MINUTE_MS))) >= 1, "pages that end with it"


async def test_rest_s_row_that_comes_before_the_commit_of_a_closing_kline_stays(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        await on.close(START_MS)
        own = minute("BTCUSDT", START_MS)._replace(trades=12_345)
        span = Span(START_MS, START_MS + MINUTE_MS)
        await on.rig.committer.commit([Batch(BTC, Source.REST, Spans([span]), [own])])
        tail = on.rig.tail.get(BTC)
        assert tail is not None
        assert list(tail.rows) == [tail.encode(own)]
        await on.live.flush()
        assert list(tail.rows) == [tail.encode(own)]
        assert await on.rig.stored() == [own]
        assert not tail.uncommitted, "its commit was refused, and nothing waits for it"


async def test_a_closing_kline_that_the_tail_lost_comes_back_by_its_commit(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        await on.close(START_MS)
        await on.live.flush()
        await on.close(START_MS + MINUTE_MS)
        on.rig.tail.lose(BTC)
        read = EncodedRows.of_body(encoded(BTC, await on.rig.stored()))
        on.rig.tail.seed(BTC, M1.grid, read, START_MS + MINUTE_MS, on.rig.tail.version(BTC))
        assert on.tail_opens() == [START_MS]
        await on.live.flush()
        assert on.tail_opens() == [START_MS, START_MS + MINUTE_MS]


async def test_a_final_minute_moves_the_longer_klines_that_it_does_not_close(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        await on.close(START_MS)
        assert on.rig.moved == ["BTCUSDT"], "a page with the 5m kline in progress shows it without this minute"


async def test_a_kline_in_progress_is_served_as_rest_prints_it(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        on.rig.clock.ms = START_MS + 20_000
        told = Kline(START_MS, "1.5", "2", "1", "1.50", "0.000", "0.0", 0, "0", "0.00")
        await on.take(told, is_final=False)
        tail = on.rig.tail.get(BTC)
        assert tail is not None
        assert tail.live is not None
        assert tail.live.kline == Kline(START_MS, "1.50", "2.00", "1.00", "1.50", "0", "0", 0, "0", "0")
        assert tail.live.kline is tail.live.kline, "brought into form once"
