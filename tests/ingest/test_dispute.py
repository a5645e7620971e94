"""Closing frames that contradict each other: the first one stays until REST has spoken, then REST's row is held."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.binance.stream_event import KlineEvent
from app.domain.interval import MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import DisputeSettled, GarbageDropped, KlineDisputed
from app.ingest import dispute
from app.ingest.dispute import AGAIN_MS, ASK_DELAY_MS, ASK_ROWS_MAX, TRIES_MAX
from app.kinds.klines import KLINES
from app.ports.errors import StandDown, UpstreamGarbage, UpstreamRejected
from app.ports.exchange import Priority
from infra.sqlite.library import sqlite3
from tests.fakes import BTC, minute, running, unavailable
from tests.ingest.test_live import START_MS, Feed, feed

ETH = Series(KLINES, "ETHUSDT", BTC.interval)


def wrong(open_ms: int, symbol: str = "BTCUSDT") -> Kline:
    true = minute(symbol, open_ms)
    return true._replace(close=true.low, volume="77777.000", trades=true.trades + 1)


def revisions(folder: Path) -> list[tuple[int, str, str, str]]:
    """Open time, volume, and who said the old row and the new one."""
    with sqlite3.connect(folder / "klinenode.db") as database:
        return database.execute(
            "SELECT open_time, volume, old_source, new_source FROM revision ORDER BY open_time"
        ).fetchall()


@asynccontextmanager
async def disputing(folder: Path) -> AsyncIterator[Feed]:
    async with feed(folder) as on, running(on.live.write, on.disputes.run):
        yield on


async def settle(on: Feed) -> None:
    await on.rig.advance(ASK_DELAY_MS / 1_000 + 1)


async def test_the_first_final_is_served_until_rest_confirms_it(tmp_path: Path) -> None:
    async with disputing(tmp_path) as on:
        await on.take(minute("BTCUSDT", START_MS))
        await on.rig.advance(0.3)
        await on.take(wrong(START_MS), after_ms=900)
        assert on.rig.seen(KlineDisputed) == [KlineDisputed("BTCUSDT", START_MS, Source.WS)]
        tail = on.rig.tail.get(BTC)
        assert tail is not None
        assert list(tail.rows) == [tail.encode(minute("BTCUSDT", START_MS))]
        await settle(on)
        assert [(asked.limit, asked.priority) for asked in on.rig.exchange.asked] == [(1, Priority.TAIL)]
        assert on.rig.seen(DisputeSettled) == [DisputeSettled("BTCUSDT", START_MS)]
        assert await on.rig.stored() == [minute("BTCUSDT", START_MS)]
        assert (await on.rig.ledger()).source_at(START_MS) is Source.REST
        assert revisions(tmp_path) == []
        assert on.disputes.open == 0


async def test_a_first_final_that_was_wrong_is_replaced_and_kept_as_a_revision(tmp_path: Path) -> None:
    async with disputing(tmp_path) as on:
        await on.take(wrong(START_MS))
        await on.rig.advance(0.3)
        await on.take(minute("BTCUSDT", START_MS), after_ms=900)
        assert await on.rig.stored() == [wrong(START_MS)]
        await settle(on)
        assert await on.rig.stored() == [minute("BTCUSDT", START_MS)]
        assert revisions(tmp_path) == [(START_MS, "77777.000", "ws", "rest")]
        tail = on.rig.tail.get(BTC)
        assert tail is not None
        assert list(tail.rows) == [tail.encode(minute("BTCUSDT", START_MS))]
        assert on.rig.dropped[-1] == (BTC, Span(START_MS, START_MS + MINUTE_MS)), "cached pages learn of it"


async def test_frames_that_say_the_same_again_cost_nothing(tmp_path: Path) -> None:
    async with disputing(tmp_path) as on:
        for number in range(4):
            await on.close(START_MS + number * MINUTE_MS)
            await on.close(START_MS + number * MINUTE_MS)  # before it is written
            await on.rig.advance(0.3)
            for older in range(number + 1):
                await on.close(START_MS + older * MINUTE_MS)
        await settle(on)
        assert on.rig.seen(KlineDisputed) == []
        assert on.rig.exchange.asked == []


async def test_finals_that_differ_before_either_is_written(tmp_path: Path) -> None:
    async with disputing(tmp_path) as on:
        await on.close(START_MS + 5 * MINUTE_MS)
        await on.take(minute("BTCUSDT", START_MS))  # late: it only closes a gap
        await on.take(wrong(START_MS))
        await on.take(wrong(START_MS + 5 * MINUTE_MS))
        await on.rig.advance(0.3)
        assert await on.rig.stored() == [minute("BTCUSDT", START_MS), minute("BTCUSDT", START_MS + 5 * MINUTE_MS)]
        assert [event.held for event in on.rig.seen(KlineDisputed)] == [None, None]
        await settle(on)
        assert len(on.rig.seen(DisputeSettled)) == 2


async def test_finals_older_than_the_tail_are_compared_with_the_store(tmp_path: Path) -> None:
    async with disputing(tmp_path) as on:
        for number in (0, 1, 2, 10):
            await on.take(wrong(START_MS) if number == 0 else minute("BTCUSDT", START_MS + number * MINUTE_MS))
            await on.rig.advance(0.3)
        assert on.tail_opens() == [START_MS + 10 * MINUTE_MS], "a hole: the older ones are in the store alone"
        for number in (0, 1, 2):
            await on.close(START_MS + number * MINUTE_MS)
        await settle(on)
        assert [event.open_ms for event in on.rig.seen(KlineDisputed)] == [START_MS]
        assert revisions(tmp_path) == [(START_MS, "77777.000", "ws", "rest")]


async def test_a_frame_that_contradicts_rest_does_not_change_what_rest_said(tmp_path: Path) -> None:
    async with disputing(tmp_path) as on:
        on.rig.clock.ms = START_MS + MINUTE_MS + 4_000
        span = Span(START_MS, START_MS + MINUTE_MS)
        await on.rig.committer.commit([Batch(BTC, Source.REST, Spans([span]), [minute("BTCUSDT", START_MS)])])
        await on.take(wrong(START_MS), after_ms=4_000)
        await settle(on)
        assert [event.held for event in on.rig.seen(KlineDisputed)] == [Source.REST]
        assert await on.rig.stored() == [minute("BTCUSDT", START_MS)]
        await on.take(wrong(START_MS))
        await settle(on)
        assert len(on.rig.exchange.asked) == 1, "REST has spoken"
        await on.rig.advance(AGAIN_MS / 1_000)
        await on.take(wrong(START_MS))
        await settle(on)
        assert len(on.rig.exchange.asked) == 2, "after a while it is asked again"
        assert revisions(tmp_path) == []


async def test_live_frames_neither_go_back_nor_come_back(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        final = minute("BTCUSDT", START_MS)
        states = [final._replace(trades=count, close=f"{1000 + count}.00") for count in (3, 9, 5, 9, 1)]
        on.rig.clock.ms = START_MS + 30_000
        newest = []
        for state in states:
            await on.take(state, is_final=False)
            tail = on.rig.tail.get(BTC)
            assert tail is not None
            assert tail.live is not None
            newest.append(tail.live.kline.trades)
        assert newest == [3, 9, 9, 9, 9]
        await on.take(final)
        tail = on.rig.tail.get(BTC)
        assert tail is not None
        for state in states:
            await on.take(state._replace(trades=10_000), is_final=False)
            assert tail.live is None
        assert on.rig.seen(KlineDisputed) == [], "a live frame contradicts nothing"


async def test_a_live_frame_of_a_minute_that_rest_closed_does_not_come_back(tmp_path: Path) -> None:
    async with feed(tmp_path) as on:
        on.rig.clock.ms = START_MS + MINUTE_MS + 4_000
        span = Span(START_MS, START_MS + MINUTE_MS)
        await on.rig.committer.commit([Batch(BTC, Source.REST, Spans([span]), [minute("BTCUSDT", START_MS)])])
        await on.take(minute("BTCUSDT", START_MS), is_final=False)
        tail = on.rig.tail.get(BTC)
        assert tail is None or tail.live is None


async def test_a_run_of_disputed_minutes_is_asked_for_in_few_requests(tmp_path: Path) -> None:
    count = ASK_ROWS_MAX + 11
    async with disputing(tmp_path) as on:
        for number in range(count):
            await on.close(START_MS + number * MINUTE_MS)
        await on.rig.advance(ASK_DELAY_MS / 1_000)
        for number in range(count):
            await on.take(wrong(START_MS + number * MINUTE_MS))
        await settle(on)
        assert [asked.limit for asked in on.rig.exchange.asked] == [ASK_ROWS_MAX, 11]
        assert len(on.rig.seen(DisputeSettled)) == count


async def test_while_rest_does_not_answer_a_dispute_waits_and_during_a_stand_down_nothing_leaves(
    tmp_path: Path,
) -> None:
    async with disputing(tmp_path) as on:
        on.rig.exchange.error = unavailable()
        await on.take(wrong(START_MS))
        await on.take(minute("BTCUSDT", START_MS))
        await on.rig.advance(3_600)
        assert 10 < len(on.rig.exchange.asked) < 60, "less and less often"
        on.rig.exchange.error = StandDown(on.rig.clock.ms + 7_200_000, "banned")
        await on.rig.advance(200)
        asked = len(on.rig.exchange.asked)
        await on.rig.advance(6_000)
        assert len(on.rig.exchange.asked) == asked
        assert on.disputes.open == 1
        on.rig.exchange.error = None
        await on.rig.advance(7_200)
        assert on.disputes.open == 0
        assert await on.rig.stored() == [minute("BTCUSDT", START_MS)]


async def test_a_store_that_fails_keeps_disputes_and_doubts(tmp_path: Path) -> None:
    async with disputing(tmp_path) as on:
        await on.take(wrong(START_MS))
        await on.rig.advance(0.3)
        await on.take(minute("BTCUSDT", START_MS))
        on.rig.store.failing = True
        await on.rig.advance(300)
        assert on.disputes.open == 1
        on.rig.store.failing = False
        await on.rig.advance(300)
        assert on.disputes.open == 0
        assert await on.rig.stored() == [minute("BTCUSDT", START_MS)]


async def test_rest_replaces_a_row_only_after_it_is_written(tmp_path: Path) -> None:
    """Otherwise nobody would learn that roll-ups were made of the row that REST did not confirm."""
    async with feed(tmp_path) as on, running(on.disputes.run):
        for number in range(5):
            await on.take(
                (wrong if number == 2 else lambda each: minute("BTCUSDT", each))(START_MS + number * MINUTE_MS)
            )
        await on.take(minute("BTCUSDT", START_MS + 2 * MINUTE_MS))
        await on.rig.advance(120)
        assert (on.rig.exchange.asked, on.disputes.open) == ([], 1)
        await on.live.flush()
        await settle(on)
        assert on.disputes.open == 0
        assert [(open_ms, *sources) for open_ms, _, *sources in revisions(tmp_path)] == [
            (START_MS, "rollup", "rest"),  # the five minutes that were made of it
            (START_MS + 2 * MINUTE_MS, "ws", "rest"),
        ]


@pytest.mark.parametrize("is_lacking", [True, False])
async def test_a_minute_that_rest_cannot_confirm_is_given_up_aloud(tmp_path: Path, is_lacking: bool) -> None:
    async with disputing(tmp_path) as on:
        if is_lacking:
            on.rig.exchange.lacking.add((BTC, START_MS))
        else:
            on.rig.exchange.error = UpstreamGarbage("not JSON")
        await on.take(wrong(START_MS))
        await on.take(minute("BTCUSDT", START_MS))
        await on.rig.advance(600)
        assert len(on.rig.exchange.asked) == TRIES_MAX
        assert [event.where for event in on.rig.seen(GarbageDropped)] == ["dispute"]
        assert on.disputes.open == 0


async def test_a_symbol_that_rest_no_longer_knows_does_not_block_the_others(tmp_path: Path) -> None:
    async with disputing(tmp_path) as on:
        await on.take(wrong(START_MS))
        await on.take(minute("BTCUSDT", START_MS))
        await on.take(wrong(START_MS, "ETHUSDT"), symbol="ETHUSDT")
        await on.take(minute("ETHUSDT", START_MS), symbol="ETHUSDT")

        async def refuse(asked: object) -> None:
            if getattr(asked, "series", None) == BTC:
                raise UpstreamRejected(400, -1121, "Invalid symbol.")

        on.rig.exchange.gate = refuse
        await settle(on)
        await on.rig.advance(300)
        assert await on.rig.stored(ETH) == [minute("ETHUSDT", START_MS)]
        assert on.disputes.open == 0


async def test_disputes_and_doubts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispute, "DISPUTES_MAX", 5)
    monkeypatch.setattr(dispute, "DOUBTS_MAX", 5)
    async with feed(tmp_path) as on:
        for number in range(20):
            on.disputes.dispute(BTC, START_MS + number * MINUTE_MS)
        assert on.disputes.open == 5
        assert len(on.rig.seen(GarbageDropped)) == 1, "told once, not for each"
        for number in range(20):
            on.disputes.doubt(BTC, minute("BTCUSDT", START_MS + number * MINUTE_MS))
        assert len(on.disputes._doubts) == 5


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_the_order_of_doubled_late_and_false_frames_the_store_says_what_rest_says(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    minutes = 60
    async with disputing(tmp_path) as on:
        opens = [START_MS + number * MINUTE_MS for number in range(minutes)]
        frames = [(open_ms + rng.choice([0, 0, 0, 2, 9]) * MINUTE_MS + 1, open_ms, True) for open_ms in opens]
        frames += [(open_ms + rng.choice([0, 1, 4]) * MINUTE_MS, open_ms, False) for open_ms in rng.sample(opens, 20)]
        frames += [(open_ms + rng.choice([0, 3]) * MINUTE_MS, open_ms, True) for open_ms in rng.sample(opens, 20)]
        for at_ms, open_ms, is_true in sorted(frames):
            on.rig.clock.ms = max(on.rig.clock.ms, at_ms + MINUTE_MS + 500)
            kline = minute("BTCUSDT", open_ms) if is_true else wrong(open_ms)
            if rng.random() < 0.2:
                await on.live.take(KlineEvent("BTCUSDT", BTC.interval, on.rig.clock.ms, False, wrong(open_ms)))
            await on.live.take(KlineEvent("BTCUSDT", BTC.interval, on.rig.clock.ms, True, kline))
            if rng.random() < 0.5:
                await on.rig.advance(rng.choice([0.1, 0.5, 20]))
        await on.rig.advance(600)
        assert await on.rig.stored() == [minute("BTCUSDT", open_ms) for open_ms in opens], f"seed {seed}"
        tail = on.rig.tail.get(BTC)
        assert tail is not None
        expected = [tail.encode(minute("BTCUSDT", each)) for each in range(tail.start_ms, tail.end_ms, MINUTE_MS)]
        assert list(tail.rows) == expected, f"seed {seed}"
