"""The reconciler against an exchange that omits, lies, refuses and bans: gaps close, and its requests are counted."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.events import ArchiveRejected, BackfillPaused, BackfillResumed, CommitFailed, GapsCounted, RowsCommitted
from app.filling.absence import RECORD_AFTER_MS, Doubt
from app.filling.fill import ABSENT_CONFIRM_MS, ABSENT_ELSEWHERE_CONFIRM_MS
from app.filling.reconcile import STORE_RETRY_S_MAX
from app.filling.room import ROW_DISK_BYTES
from app.holding.wish import CLOSE_GRACE_MS
from app.kinds.klines import KLINES
from app.ports.errors import NotPublished, StandDown, UpstreamGarbage
from app.ports.exchange import Priority
from tests.fakes import (
    ANCHOR_MS,
    BTC,
    DAY0_MS,
    NOW_MS,
    Asked,
    running,
    unavailable,
)
from tests.filling.reconcile_bench import HOURS, bench


async def test_an_empty_store_fills_with_the_exchanges_own_rows(tmp_path: Path) -> None:
    async with bench(tmp_path, days=3) as on, running(on.reconciler.run):
        await on.until_whole()
        await on.holds_the_truth()
        assert {asked.series for asked in on.rig.exchange.asked} == {BTC}, "longer ones are rolled up"
        assert all(asked.limit <= 499 for asked in on.rig.exchange.asked)


async def test_all_intervals_fill_with_the_exchanges_own_rows(tmp_path: Path) -> None:
    first_ms = DAY0_MS - 9 * DAY_MS + 3 * HOUR_MS + 17 * MINUTE_MS
    async with (
        bench(tmp_path, codes=tuple(INTERVALS), days=12, onboard_ms=first_ms, first_ms=first_ms) as on,
        running(on.reconciler.run),
    ):
        await on.until_whole()
        await on.holds_the_truth()
        assert (
            on.rig.holdings.grid(Series(KLINES, "BTCUSDT", INTERVALS["3d"])).floor(NOW_MS) % (3 * DAY_MS) == ANCHOR_MS
        )


async def test_rows_and_the_ledger_are_committed_together(tmp_path: Path) -> None:
    async with bench(tmp_path) as on, running(on.reconciler.run):
        await on.until_whole()
        for series in on.wish().series():
            held = (await on.rig.ledger(series)).held
            assert [row.open_ms for row in await on.rig.stored(series)] == [
                open_ms for span in held for open_ms in series.interval.grid.opens(*span)
            ]
            assert on.rig.holdings.ledger(series).entries == (await on.rig.ledger(series)).entries


async def test_absence_before_the_listing_is_proven_once_and_never_asked_again(tmp_path: Path) -> None:
    first_ms = DAY0_MS - DAY_MS + 7 * HOUR_MS + 3 * MINUTE_MS
    async with (
        bench(tmp_path, days=30, onboard_ms=first_ms, first_ms=first_ms) as on,
        running(on.reconciler.run),
    ):
        await on.until_whole()
        minutes = [asked for asked in on.rig.exchange.asked if asked.series == BTC and asked.window is not None]
        proofs = [asked.now_ms for asked in minutes if asked.window and asked.window.start_ms == 0]
        assert 2 <= len(proofs) <= 2 * on.concurrency, "the exchange says so twice"
        assert max(proofs) - min(proofs) >= RECORD_AFTER_MS[Doubt.NONE]
        for series in on.wish().series():
            absent = on.rig.holdings.ledger(series).absent
            assert absent == Spans([Span(0, series.interval.grid.floor(first_ms))]), series
        asked = len(on.rig.exchange.asked)
        on.rig.holdings.load(await on.rig.store.ledgers(), {}, {})
        on.reconciler.wake()
        await on.rig.advance(20)
        assert len(on.rig.exchange.asked) == asked, "a restart does not ask again"
        await on.holds_the_truth()


async def test_a_hole_is_declared_absent_only_after_it_was_seen_again_later(tmp_path: Path) -> None:
    hole_ms = NOW_MS - 30_000 - 40 * MINUTE_MS
    async with bench(tmp_path, codes=("1m",)) as on, running(on.reconciler.run):
        on.rig.exchange.lacking.add((BTC, hole_ms))
        started_ms = on.rig.clock.ms
        while not on.rig.holdings.ledger(BTC).absent.span_at(hole_ms):
            await on.rig.advance(10)
            assert on.rig.clock.ms < started_ms + 3 * ABSENT_CONFIRM_MS
        assert on.rig.clock.ms - started_ms >= ABSENT_CONFIRM_MS
        assert on.rig.holdings.ledger(BTC).absent.clip(Span(DAY0_MS, NOW_MS)) == Spans(
            [Span(hole_ms, hole_ms + MINUTE_MS)]
        )
        about = [window for window in on.rig.exchange.windows() if window == Span(hole_ms, hole_ms + MINUTE_MS)]
        assert 2 <= len(about) <= 20, "it is asked about with growing delays"


async def test_a_hole_of_minutes_that_is_proven_is_soon_proven_of_hours_too(tmp_path: Path) -> None:
    """Hours wait for their minutes, so each longer interval would take half an hour more than the one below it."""
    hole = Span(DAY0_MS + HOUR_MS, DAY0_MS + 2 * HOUR_MS)
    async with bench(tmp_path, codes=("1m", "1h")) as on, running(on.reconciler.run):
        on.rig.exchange.lacking |= {(BTC, open_ms) for open_ms in M1.grid.opens(*hole)} | {(HOURS, hole.start_ms)}
        proven_ms = {}
        started_ms = on.rig.clock.ms
        for series in (BTC, HOURS):
            while not on.rig.holdings.ledger(series).absent.covers(hole):
                await on.rig.advance(10)
                assert on.rig.clock.ms < started_ms + 3 * ABSENT_CONFIRM_MS
            proven_ms[series] = on.rig.clock.ms
        assert proven_ms[BTC] - started_ms >= ABSENT_CONFIRM_MS
        assert ABSENT_ELSEWHERE_CONFIRM_MS <= proven_ms[HOURS] - proven_ms[BTC] < ABSENT_CONFIRM_MS / 3
        await on.until_whole()


async def test_a_hole_that_heals_is_filled_and_not_declared_absent(tmp_path: Path) -> None:
    hole_ms = NOW_MS - 30_000 - 40 * MINUTE_MS
    async with bench(tmp_path) as on, running(on.reconciler.run):
        on.rig.exchange.lacking.add((BTC, hole_ms))
        await on.rig.advance(60)
        hour = on.rig.holdings.ledger(HOURS).known.span_at(hole_ms)
        assert hour is None, "no hour is made of 59 minutes"
        on.rig.exchange.lacking.clear()
        await on.until_whole(900)
        await on.holds_the_truth()
        assert not on.rig.holdings.ledger(BTC).absent.span_at(hole_ms)


async def test_a_hole_does_not_keep_newer_minutes_waiting(tmp_path: Path) -> None:
    hole_ms = NOW_MS - 30_000 - 40 * MINUTE_MS
    async with bench(tmp_path, codes=("1m",)) as on, running(on.reconciler.run):
        on.rig.exchange.lacking.add((BTC, hole_ms))
        worst_ms = 0
        for _ in range(25 * 12):  # there are no sockets: REST alone fetches each minute as it closes
            await on.rig.advance(5)
            held = on.rig.holdings.ledger(BTC).held
            worst_ms = max(worst_ms, on.rig.clock.ms - next(reversed(held)).end_ms)
        assert worst_ms < MINUTE_MS + CLOSE_GRACE_MS + 10_000


async def test_holes_do_not_keep_older_history_waiting(tmp_path: Path) -> None:
    newest_ms = NOW_MS - 30_000
    async with bench(tmp_path, codes=("1m",), days=1) as on:
        for back in (700, 720, 740, 760):
            on.rig.exchange.lacking.add((BTC, newest_ms - back * MINUTE_MS))
        older = Span(DAY0_MS - DAY_MS, DAY0_MS - DAY_MS + 30 * MINUTE_MS)
        holes = Spans(Span(open_ms, open_ms + MINUTE_MS) for _, open_ms in on.rig.exchange.lacking)
        await on.fill(newest_ms, but=holes | Spans([older]))
        async with running(on.reconciler.run):
            await on.rig.advance(20)
            assert on.rig.holdings.ledger(BTC).held.covers(older)


async def test_a_refused_request_backs_off(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",)) as on, running(on.reconciler.run):
        on.rig.exchange.error = unavailable()
        on.rig.vault.error = NotPublished("no archive")
        await on.rig.advance(1800)
        asked = len(on.rig.exchange.asked)
        assert 5 < asked < 150, asked
        assert on.reconciler.last_error == "down, says the test"
        on.rig.exchange.error = None
        await on.until_whole(1000)
        await on.holds_the_truth()


async def test_an_answer_that_gains_nothing_is_not_asked_for_in_a_circle(tmp_path: Path) -> None:
    """Our clock is ahead: at the exchange the kline is still open, and its rows are rejected."""
    async with bench(tmp_path, codes=("1m",)) as on:
        await on.fill(NOW_MS - 30_000 - 5 * MINUTE_MS)
        whole = on.rig.exchange.kline
        on.rig.exchange.kline = lambda series, open_ms: whole(series, open_ms)._replace(open_ms=open_ms + HOUR_MS)  # type: ignore[method-assign]
        async with running(on.reconciler.run):
            await on.rig.advance(300)
            assert len(on.rig.exchange.windows()) < 40


async def test_a_stand_down_holds_back_rest_and_nothing_else(tmp_path: Path) -> None:
    async with bench(tmp_path, days=10) as on:
        until_ms = NOW_MS + HOUR_MS
        on.rig.exchange.error = StandDown(until_ms, "banned")
        async with running(on.reconciler.run):
            await on.rig.advance(1200)
            assert len(on.rig.exchange.asked) <= 4, "each worker learns of it at most once"
            assert len(on.rig.vault.asked) >= 9, "the archive is no part of the ban"
            assert on.rig.holdings.ledger(HOURS).held.total_ms > 8 * DAY_MS, "and roll-up goes on"
            on.rig.exchange.error = None
            await on.rig.advance(2380)
            asked = len(on.rig.exchange.asked)
            assert asked <= 4
            await on.rig.advance(30)
            assert len(on.rig.exchange.asked) > asked
            await on.until_whole()


async def test_history_that_waits_for_weight_does_not_delay_the_tail(tmp_path: Path) -> None:
    weight = asyncio.Event()

    async def gate(asked: Asked) -> None:
        if asked.priority is Priority.BACKFILL:
            await weight.wait()

    async with bench(tmp_path, codes=("1m",)) as on:
        on.rig.exchange.gate = gate
        async with running(on.reconciler.run):
            await on.rig.advance(130)
            tail = on.wish().tail(BTC, M1.grid, on.rig.clock.ms)
            assert on.rig.holdings.ledger(BTC).held.covers(tail)
            weight.set()
            await on.until_whole()


async def test_history_that_does_not_fit_is_not_begun_and_the_newest_klines_of_all_intervals_are_held(
    tmp_path: Path,
) -> None:
    """This includes intervals otherwise rolled up from minutes of history, which are not fetched now."""
    free_bytes = 10**6 + 2 * 1440 * ROW_DISK_BYTES  # room for two of the three days wished, beyond the reserve
    codes = ("1m", "3m", "5m", "15m", "1h")
    async with bench(tmp_path, codes=codes, days=3, free_bytes=free_bytes) as on, running(on.reconciler.run):
        await on.rig.advance(200)
        for interval in on.intervals:
            series = Series(KLINES, "BTCUSDT", interval)
            grid = on.rig.holdings.grid(series)
            held = on.rig.holdings.ledger(series).held
            assert held.covers(on.wish().tail(series, grid, on.rig.clock.ms)), series
        assert on.rig.holdings.ledger(BTC).held.total_ms < 17 * HOUR_MS, "two pages of REST"
        (paused,) = on.rig.seen(BackfillPaused)
        assert "AUTO_SYNC_SYMBOLS=false" in paused.reason
        on.free_bytes = 10**12
        on.reconciler.wake()
        await on.until_whole()
        assert (on.reconciler.paused, len(on.rig.seen(BackfillResumed))) == (None, 1)
        await on.holds_the_truth()


async def test_a_full_disk_pauses_history_only_and_a_free_one_resumes_it(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",), days=3, free_bytes=1000) as on, running(on.reconciler.run):
        await on.rig.advance(200)
        tail = on.wish().tail(BTC, M1.grid, on.rig.clock.ms)
        assert on.rig.holdings.ledger(BTC).held.covers(tail)
        assert on.rig.holdings.ledger(BTC).held.total_ms < 17 * HOUR_MS, "two pages of REST"
        assert [event.reason for event in on.rig.seen(BackfillPaused)] == [on.reconciler.paused]
        assert "DISK_FREE_BYTES_MIN" in str(on.reconciler.paused)
        on.free_bytes = 10**12
        await on.until_whole()
        assert (on.reconciler.paused, len(on.rig.seen(BackfillResumed))) == (None, 1)


@pytest.mark.parametrize("error", [NotPublished("404"), UpstreamGarbage("bad checksum"), unavailable()])
async def test_what_the_archive_does_not_give_comes_from_rest(tmp_path: Path, error: Exception) -> None:
    async with bench(tmp_path, codes=("1m",), days=4) as on:
        on.rig.vault.error = error  # type: ignore[assignment]
        async with running(on.reconciler.run):
            await on.until_whole(600)
            await on.holds_the_truth()
            assert len(on.rig.vault.asked) == len(set(on.rig.vault.asked)), "each file is tried once"
            assert len(on.rig.seen(ArchiveRejected)) == len(on.rig.vault.asked) > 0


async def test_rows_that_a_file_lacks_come_from_rest(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",), days=4) as on:
        on.rig.vault.lacking = {DAY0_MS - 2 * DAY_MS + back * MINUTE_MS for back in range(30)}
        async with running(on.reconciler.run):
            await on.until_whole()
            await on.holds_the_truth()
            sources = {event.source for event in on.rig.seen(RowsCommitted)}
            assert {Source.ARCHIVE, Source.REST} <= sources


async def test_a_kline_in_progress_is_never_committed(tmp_path: Path) -> None:
    """The first system stored every row as closed."""
    async with bench(tmp_path, codes=("1m",)) as on:
        open_ms = M1.grid.floor(NOW_MS)
        rows = [on.rig.exchange.kline(BTC, each) for each in range(open_ms - 3 * MINUTE_MS, open_ms + 1, MINUTE_MS)]
        await on.filler.keep(BTC, M1.grid, rows, Source.REST)
        assert await on.rig.stored() == rows[:3]
        on.rig.clock.ms = open_ms + MINUTE_MS + CLOSE_GRACE_MS - 1
        await on.filler.keep(BTC, M1.grid, rows, Source.REST)
        assert await on.rig.stored() == rows[:3], "its closing state may still be on its way"
        on.rig.clock.ms += 1
        await on.filler.keep(BTC, M1.grid, rows, Source.REST)
        assert await on.rig.stored() == rows


async def test_the_store_may_fail_for_a_while(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m", "5m")) as on:
        on.rig.store.failing = True
        async with running(on.reconciler.run):
            await on.rig.advance(300)
            asked = len(on.rig.exchange.asked)
            assert asked < 60
            assert on.reconciler.last_error == "locked, says the test"
            on.rig.store.failing = False
            await on.until_whole(900)
            await on.holds_the_truth()
    assert not on.rig.seen(CommitFailed)


async def test_a_store_that_fails_for_long_costs_a_probe_now_and_then_and_is_filled_at_once_when_it_works(
    tmp_path: Path,
) -> None:
    """There are fifty jobs, each of which would otherwise fetch again and again what cannot be stored."""
    symbols = {f"S{number}USDT" for number in range(50)}
    async with bench(tmp_path, codes=("1m",), symbols=symbols) as on:
        on.rig.store.failing = True
        async with running(on.reconciler.run):
            await on.rig.advance(600)
            workers, probes = 2 * on.concurrency, 600 / STORE_RETRY_S_MAX + 5
            assert len(on.rig.exchange.asked) <= workers * probes
            on.rig.store.failing = False
            on.reconciler.store_recovered()
            await on.until_whole(30)


async def test_a_plan_that_raises_ends_the_task_and_a_new_start_plans_again(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",)) as on:
        broken: list[Callable[[], int]] = [lambda: 1 // 0]
        on.reconciler._room._free_bytes = lambda: broken[0]() if broken else 10**12
        with pytest.raises(ExceptionGroup, match="TaskGroup"):
            async with running(on.reconciler.run):
                await on.rig.advance(1)
        broken.clear()
        async with running(on.reconciler.run):
            await on.until_whole()


async def test_a_new_listing_and_a_delisting_need_no_restart(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",)) as on, running(on.reconciler.run):
        await on.until_whole()
        on.symbols.add("ETHUSDT")
        on.reconciler.wake()
        await on.until_whole()
        other = Series(KLINES, "ETHUSDT", M1)
        assert on.rig.holdings.ledger(other).held.total_ms > DAY_MS
        on.symbols.discard("ETHUSDT")
        asked = len(on.rig.exchange.windows(other))
        await on.rig.advance(200)
        assert len(on.rig.exchange.windows(other)) == asked


async def test_a_wake_up_during_a_plan_is_not_lost(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",), concurrency=1) as on, running(on.reconciler.run):
        await on.until_whole()
        on.symbols |= {f"S{number}USDT" for number in range(199)}  # planning yields to other tasks every 200 series
        whole = Ledger().record(Spans([Span(0, NOW_MS + DAY_MS)]), Source.WS)
        for symbol in on.symbols - {"BTCUSDT"}:
            on.rig.holdings.set_ledger(Series(KLINES, symbol, M1), whole)
        number = len(on.rig.seen(GapsCounted))
        on.reconciler.wake()
        sleep = on.rig.clock.sleep
        woken: list[bool] = []

        async def sleep_and_wake(delay_s: float) -> None:
            if delay_s == 0 and not woken:
                woken.append(True)
                on.reconciler.wake()
            await sleep(delay_s)

        on.rig.clock.sleep = sleep_and_wake  # type: ignore[method-assign]
        await on.rig.store.settled()
        assert woken
        assert len(on.rig.seen(GapsCounted)) >= number + 2


async def test_what_was_done_meanwhile_is_not_asked_for_again(tmp_path: Path) -> None:
    """A plan is made while a request is in flight, whose answer makes the planned job unnecessary."""
    gate = asyncio.Event()

    async def wait(asked: Asked) -> None:
        await gate.wait()

    async with bench(tmp_path, codes=("1m",), concurrency=1) as on:
        await on.fill(NOW_MS - 30_000 - 20 * MINUTE_MS)
        on.rig.exchange.gate = wait
        async with running(on.reconciler.run):
            await on.rig.store.settled()
            on.reconciler.wake()
            await on.rig.store.settled()
            assert not on.reconciler.is_idle()
            gate.set()
            await on.rig.advance(1)
            assert len(on.rig.exchange.windows()) == 1
            assert on.reconciler.is_idle()
            assert on.reconciler.last_error is None


async def test_a_clock_that_is_put_back_does_not_stop_the_planning(tmp_path: Path) -> None:
    """The machine's clock was an hour ahead until the exchange's time was known."""
    async with bench(tmp_path, codes=("1m",)) as on:
        on.rig.exchange.error = unavailable()
        async with running(on.reconciler.run):
            await on.rig.advance(120)
            on.rig.exchange.error = None
            on.rig.clock.ms -= HOUR_MS
            for woken in on.rig.clock._sleepers:
                woken[2].set_result(None)
            on.rig.clock._sleepers.clear()
            await on.until_whole(150)


async def test_a_user_s_question_is_kept_when_it_is_wished(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",)) as on:
        window = Span(NOW_MS - 30_000 - 20 * MINUTE_MS, NOW_MS - 30_000 - 10 * MINUTE_MS)
        rows = [on.rig.exchange.kline(BTC, each) for each in M1.grid.opens(*window)]
        await on.filler.keep_read(BTC, M1.grid, window, rows)
        assert on.rig.holdings.ledger(BTC).held.covers(window)
        other = Series(KLINES, "XRPUSDT", M1)
        await on.filler.keep_read(other, M1.grid, window, rows)
        assert not on.rig.holdings.ledger(other).known
        on.rig.store.failing = True
        held = on.rig.holdings.ledger(BTC)
        earlier = [on.rig.exchange.kline(BTC, window.start_ms - MINUTE_MS)]
        await on.filler.keep_read(BTC, M1.grid, Span(earlier[0].open_ms, window.start_ms), earlier)
        assert on.rig.holdings.ledger(BTC) == held
        assert not on.rig.seen(CommitFailed), "one line for each question would flood the log of a full disk"


async def test_suspected_holes_are_bounded_and_never_stop_the_proof_of_new_ones(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",)) as on:
        for number in range(10_000):
            on.filler._suspects[Series(KLINES, f"S{number}", M1), Span(0, 1)] = NOW_MS
        hole = Span(NOW_MS - 30_000 - 40 * MINUTE_MS, NOW_MS - 30_000 - 39 * MINUTE_MS)
        on.rig.exchange.lacking.add((BTC, hole.start_ms))
        with pytest.raises(UpstreamGarbage):
            await on.filler._prove_absent(BTC, M1.grid, Spans([hole]), Priority.TAIL)
        assert len(on.filler._suspects) == 10_000
        on.rig.clock.ms += ABSENT_CONFIRM_MS
        await on.filler._prove_absent(BTC, M1.grid, Spans([hole]), Priority.TAIL)
        assert on.rig.holdings.ledger(BTC).absent.covers(hole)


async def test_an_empty_answer_about_a_listed_symbol_proves_nothing_at_once(tmp_path: Path) -> None:
    """An exchange that answers [] for a moment must not cause years of history to be recorded as absent."""
    async with bench(tmp_path, codes=("1m",), onboard_ms=DAY0_MS - 300 * DAY_MS, first_ms=DAY0_MS - 2 * DAY_MS) as on:
        on.rig.exchange.lacking = Everything()
        span = Span(DAY0_MS - DAY_MS, DAY0_MS)
        with pytest.raises(UpstreamGarbage):
            await on.filler._prove_absent(BTC, M1.grid, Spans([span]), Priority.TAIL)
        assert not on.rig.holdings.ledger(BTC).absent.clip(span)


class Everything(set[tuple[Series, int]]):
    """A set that contains every kline, for an exchange that lacks them all."""

    def __contains__(self, item: object) -> bool:
        return True


async def test_a_big_backfill_holds_up_no_small_one_of_other_series_or_of_its_own(tmp_path: Path) -> None:
    """The small wishes are the oldest, for another series and for one that lacks more: newest-first does them last."""
    big, own, small = (
        Span(DAY0_MS - first * DAY_MS, DAY0_MS - last * DAY_MS) for first, last in ((6, 2), (8, 7), (9, 8))
    )
    others, little = [Series(KLINES, f"S{number}USDT", M1) for number in range(4)], Series(KLINES, "SMALLUSDT", M1)
    async with bench(tmp_path, codes=("1m",), days=6, concurrency=1) as on:
        on.rig.holdings.extra_wishes.update(dict.fromkeys(others, big) | {little: small, BTC: own})
        async with running(on.reconciler.run):
            await on.until_whole()
        pages = [each.series for each in on.rig.exchange.asked if each.priority is Priority.BACKFILL]
        files = [file.span for file in on.rig.vault.files if file.symbol == BTC.symbol]
    pages.reverse()
    assert len(pages) > 40
    assert len(pages) - pages.index(little) < 16, "each wish has its turn"
    assert files.index(own) < 3, "each wish has its turn"


async def test_a_wish_that_begins_within_a_kline_leaves_jobs_on_the_grid(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m", "1d"), days=9) as on:
        days = Series(KLINES, "BTCUSDT", INTERVALS["1d"])
        on.rig.holdings.extra_wishes[days] = Span(DAY0_MS - 5 * DAY_MS + HOUR_MS, DAY0_MS - 2 * DAY_MS + HOUR_MS)
        async with running(on.reconciler.run):
            await on.until_whole(600)
        grid = days.interval.grid
        windows = [each.window for each in on.rig.exchange.asked if each.series == days and each.window is not None]
        assert windows, "the days are fetched"
        assert [
            window for window in windows if window != Span(grid.ceil(window.start_ms), grid.ceil(window.end_ms))
        ] == []
