"""What the node says of itself: coverage, health, readiness, the estimate; and the exchange's time."""

import dataclasses
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.domain.interval import D3, DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Ledger, Source
from app.domain.span import Span, Spans
from app.ports import Series, StoreUnavailable
from app.services.backfill import Backfill
from app.services.coverage import Coverage
from app.services.estimate import ROW_DISK_BYTES, ROW_ZIP_BYTES, estimate
from app.services.exchange_clock import HEARD_AHEAD_MS, MEASURE_EVERY_S, RETRY_S, ExchangeClock, KeptTime
from app.services.freshness import Freshness, stale_at_ms
from app.services.health import SYNC_AGE_MS_MAX, Health
from app.services.holdings import Holdings
from app.services.supervisor import Supervisor
from app.services.wish import CLOSE_GRACE_MS, Wish
from tests.services.fakes import BTC, DAY0_MS, NOW_MS, Rig, listing, rig, running, turn, unavailable
from tests.services.reconcile_bench import Bench

CLOSED_MS = NOW_MS - 30_000


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as here:
        yield here


def wish_of(*codes: str, days: int = 2, symbols: tuple[str, ...] = ("BTCUSDT",)) -> Wish:
    chosen = tuple(interval for code, interval in INTERVALS.items() if code in codes)
    return Wish(symbols, chosen, days, {symbol: listing(symbol) for symbol in symbols}, {})


def whole(wish: Wish, *, but: Spans = Spans()) -> dict[Series, Ledger]:  # noqa: B008  immutable
    """Ledgers in which nothing is missing but `but` of 1m."""
    made = {}
    for series in wish.series():
        spans = Spans(wish.spans(series, series.interval.grid, NOW_MS))
        made[series] = Ledger().record(spans - (but if series.interval == M1 else Spans()), Source.ARCHIVE)
    return made


def holding(ledgers: dict[Series, Ledger]) -> Holdings:
    holdings = Holdings()
    holdings.load(ledgers, {}, {})
    return holdings


# --- coverage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missing", "percent"), [(0, "100.00"), (1, "99.97"), (3731, "0.00")])
def test_completeness_is_a_hundred_only_when_nothing_is_missing(made: Rig, missing: int, percent: str) -> None:
    wish = wish_of("1m")
    assert sum(M1.grid.count(*span) for span in wish.spans(BTC, M1.grid, NOW_MS)) == 3730
    lost = Spans([Span(CLOSED_MS - missing * MINUTE_MS, CLOSED_MS)])
    coverage = Coverage(made.clock, holding(whole(wish, but=lost)), lambda: wish)
    report = coverage.report(None, None, 0, 10)
    assert (report["completeness"], report["missing"]) == (percent, min(missing, 3730))


def test_one_missing_kline_of_very_many_is_not_a_hundred_percent(made: Rig) -> None:
    wish = wish_of("1m", days=3000)
    lost = Spans([Span(CLOSED_MS - MINUTE_MS, CLOSED_MS)])
    coverage = Coverage(made.clock, holding(whole(wish, but=lost)), lambda: wish)
    assert coverage.report(None, None, 0, 1)["completeness"] == "99.99"


def test_coverage_lists_what_is_held_absent_and_missing(made: Rig) -> None:
    wish = wish_of("1m", "1h")
    start_ms = DAY0_MS - 2 * DAY_MS
    ledger = Ledger().record(Spans([Span(0, start_ms + HOUR_MS)]), Source.ABSENT)
    ledger = ledger.record(Spans([Span(start_ms + HOUR_MS, CLOSED_MS - HOUR_MS)]), Source.REST)
    coverage = Coverage(made.clock, holding({BTC: ledger}), lambda: wish)
    report = coverage.report("BTCUSDT", M1, 0, 10)
    assert (report["total"], report["missing"]) == (1, 60)
    assert report["series"] == [
        {
            "symbol": "BTCUSDT",
            "interval": "1m",
            "wished": [{"start": start_ms, "end": CLOSED_MS}],
            "held": [{"start": start_ms + HOUR_MS, "end": CLOSED_MS - HOUR_MS, "source": "rest"}],
            "absent": [{"start": 0, "end": start_ms + HOUR_MS}],
            "missing": [{"start": CLOSED_MS - HOUR_MS, "end": CLOSED_MS}],
            "verified": [],
            "verified_up_to": None,
            "disagreements": [],
            "revisions": 0,
            "klines_wished": 3730,
            "klines_missing": 60,
            "completeness": "98.39",
        }
    ]
    page = coverage.report(None, None, 1, 1)["series"]
    assert isinstance(page, list)
    assert [each["interval"] for each in page] == ["1h"]


def test_the_report_stays_the_same_until_a_kline_is_due_and_can_be_kept_to_what_lacks(made: Rig) -> None:
    wish = wish_of("1m", "1h")
    coverage = Coverage(made.clock, holding({BTC: whole(wish)[BTC]}), lambda: wish)
    first = coverage.report(None, None, 0, 10)
    made.clock.ms += 20_000
    assert coverage.report(None, None, 0, 10) == first, "an ETag of it would change without need"
    made.clock.ms += 20_000
    assert coverage.report(None, None, 0, 10) != first
    lacking = coverage.report(None, None, 0, 10, incomplete=True)["series"]
    assert isinstance(lacking, list)
    assert [each["interval"] for each in lacking] == ["1m", "1h"]
    made.clock.ms -= 40_000
    lacking = coverage.report(None, None, 0, 10, incomplete=True)["series"]
    assert isinstance(lacking, list)
    assert [each["interval"] for each in lacking] == ["1h"]


# --- health ------------------------------------------------------------------------------------------------------


class Patient:
    """A node's health, and what can be wrong with it."""

    def __init__(self, made: Rig, *, is_confirmed: bool = True) -> None:
        self.rig = made
        self.wish = wish_of("1m")
        self.standing: tuple[int, str] | None = None
        self.exchange_clock = ExchangeClock(made.clock)
        if is_confirmed:
            self.exchange_clock.confirm()
        self.supervisor = Supervisor(made.clock, made.observe, random.Random(1))
        made.holdings.load(whole(self.wish), {}, {})
        self.bench = Bench(made)
        self.freshness = Freshness(made.clock, made.holdings, lambda: self.wish)
        self.health = Health(
            made.clock,
            self.exchange_clock,
            made.symbols,
            self.freshness,
            self.supervisor,
            lambda: self.standing,
        )

    def reasons(self) -> list[str]:
        report = self.health.report()
        reasons = report["reasons"]
        assert isinstance(reasons, list)
        assert report["status"] == ("degraded" if reasons else "ok")
        return reasons


async def test_a_node_that_lacks_nothing_is_ok_and_ready(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    assert patient.reasons() == []
    assert patient.health.ready() == (
        True,
        {"ready": True, "since_ms": NOW_MS, "reasons": [], "series": {"fresh": 1, "stale": 0, "not_whole": 0}},
    )
    assert patient.health.report()["tails"] == {"1m": {"symbol": "BTCUSDT", "state": "fresh", "age_ms": 30_000}}


async def test_a_node_that_never_synced_says_so_and_is_not_ready(made: Rig) -> None:
    patient = Patient(made)
    made.symbols.last_error = "no route to host"
    assert "no route to host" in patient.reasons()[0]
    assert not patient.health.ready()[0]


async def test_everything_that_is_wrong_is_a_reason(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    faults: list[tuple[Callable[[], None], str]] = [
        (lambda: setattr(patient, "standing", (NOW_MS + 5, "banned")), f"standing down until {NOW_MS + 5}: banned"),
        (lambda: made.clock.put(4_000), "off by 4000 ms"),
        (lambda: setattr(made.symbols, "unlisted", ("BTCUSTD",)), "BTCUSTD: not listed by the exchange"),
        (lambda: setattr(patient.health, "store_error", "the database cannot be written"), "cannot be written"),
        (lambda: setattr(patient.bench.reconciler, "paused", "disk is full"), "backfill is paused: disk is full"),
    ]
    patient.health.reconciler = patient.bench.reconciler
    for number, (happen, words) in enumerate(faults, start=1):
        happen()
        reasons = patient.reasons()
        assert len(reasons) == number
        assert any(words in reason for reason in reasons), words
    made.clock.ms += SYNC_AGE_MS_MAX + 1
    assert any("last synced" in reason for reason in patient.reasons())


async def test_a_task_that_is_down_degrades_the_node_until_it_runs_again(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    crashes = [ValueError("broken")]

    async def main() -> None:
        if crashes:
            raise crashes.pop()
        await made.clock.sleep(10**6)

    async with patient.supervisor as supervisor:
        supervisor.start("write", main)
        await turn(5)
        assert patient.reasons() == ["task write is not running: ValueError: broken"]
        await made.advance(2)
        assert patient.reasons() == []
        assert patient.health.report()["tasks"] == {
            "write": {"running": True, "restarts": 1, "last_error": "ValueError: broken"}
        }


async def test_ready_means_that_every_tail_is_whole_and_fresh(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    lost = Spans([Span(CLOSED_MS - 500 * MINUTE_MS, CLOSED_MS - 499 * MINUTE_MS)])
    made.holdings.load(whole(patient.wish, but=lost), {}, {})
    is_ready, detail = patient.health.ready()
    assert (is_ready, detail["reasons"]) == (
        False,
        ["tails not whole: BTCUSDT 1m (newest kline closed 30 s ago)"],
    )
    made.clock.ms += 1_000
    older = Spans([Span(CLOSED_MS - 502 * MINUTE_MS, CLOSED_MS - 501 * MINUTE_MS)])
    made.holdings.load(whole(patient.wish, but=older), {}, {})
    assert patient.health.ready()[0], "history may still be on its way"
    made.clock.ms += MINUTE_MS
    assert not patient.health.ready()[0], "a minute has closed since and is not held"


async def test_a_3d_series_whose_grid_is_not_known_keeps_the_node_from_being_ready(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    patient.wish = wish_of("1m", "3d", days=1)
    made.holdings.load(whole(patient.wish), {}, {})
    assert "tails not whole: BTCUSDT 3d" in str(patient.health.ready()[1]["reasons"])
    made.clock.ms += 1_000
    made.holdings.set_anchor("BTCUSDT", D3.grid.step_ms)
    assert "3d" not in str(patient.health.ready()[1]["reasons"])


async def test_readiness_does_not_freeze_when_the_clock_is_put_back(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    assert patient.health.ready()[0]
    made.clock.ms -= HOUR_MS
    made.holdings.load({}, {}, {})
    assert not patient.health.ready()[0]


async def test_readiness_goes_by_the_age_of_the_data_and_says_since_when(made: Rig) -> None:
    """Tasks run, sockets are open, nothing says that it failed: there is only no newer kline."""
    await made.symbols.refresh()
    patient = Patient(made)
    patient.wish = wish_of("1m", "1h")
    made.holdings.load(whole(patient.wish), {}, {})
    assert patient.health.ready()[0]
    made.clock.ms = CLOSED_MS + MINUTE_MS + CLOSE_GRACE_MS - 1
    assert patient.health.ready()[0], "the next minute may still come"
    seen: list[tuple[int, object]] = []
    for offset_ms, counts in [
        (MINUTE_MS + CLOSE_GRACE_MS + 1_000, {"fresh": 1, "stale": 0, "not_whole": 1}),
        (2 * MINUTE_MS, {"fresh": 1, "stale": 1, "not_whole": 0}),
        (HOUR_MS, {"fresh": 0, "stale": 1, "not_whole": 1}),
        (3 * HOUR_MS, {"fresh": 0, "stale": 2, "not_whole": 0}),
    ]:
        made.clock.ms = CLOSED_MS + offset_ms
        is_ready, detail = patient.health.ready()
        assert (is_ready, detail["series"]) == (False, counts), offset_ms
        seen.append((offset_ms, detail["since_ms"]))
    assert {since_ms for _, since_ms in seen} == {CLOSED_MS + MINUTE_MS + CLOSE_GRACE_MS}, "since the kline was due"
    assert any("tails stale: BTCUSDT 1h (newest kline closed" in reason for reason in patient.reasons())
    tails = patient.health.report()["tails"]
    assert tails == {
        "1m": {"symbol": "BTCUSDT", "state": "stale", "age_ms": 3 * HOUR_MS},
        "1h": {"symbol": "BTCUSDT", "state": "stale", "age_ms": 3 * HOUR_MS + 10 * MINUTE_MS},
    }
    patient.wish = wish_of("1m", "1h")
    made.clock.ms = NOW_MS + 3 * HOUR_MS
    ledgers = {
        series: ledger.record(
            Spans([Span(series.interval.grid.floor(CLOSED_MS), CLOSED_MS + 3 * HOUR_MS)]), Source.REST
        )
        for series, ledger in whole(patient.wish).items()
        if series.interval == M1
    }
    hours = Series("BTCUSDT", INTERVALS["1h"])
    until_ms = hours.interval.grid.floor(made.clock.ms)
    ledgers[hours] = whole(patient.wish)[hours].record(Spans([Span(until_ms - 3 * HOUR_MS, until_ms)]), Source.ROLLUP)
    made.holdings.load(ledgers, {}, {})
    assert patient.health.ready() == (
        True,
        {"ready": True, "since_ms": made.clock.ms, "reasons": [], "series": {"fresh": 2, "stale": 0, "not_whole": 0}},
    )


async def test_the_worst_series_of_each_interval_is_named(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    patient.wish = wish_of("1m", "1h", symbols=("BTCUSDT", "ETHUSDT"))
    ledgers = whole(patient.wish)
    start_ms = DAY0_MS - 2 * DAY_MS
    ledgers[Series("ETHUSDT", M1)] = Ledger().record(Spans([Span(start_ms, CLOSED_MS - 5 * MINUTE_MS)]), Source.WS)
    made.holdings.load(ledgers, {}, {})
    tails = patient.health.report()["tails"]
    assert isinstance(tails, dict)
    assert tails["1m"] == {"symbol": "ETHUSDT", "state": "stale", "age_ms": 5 * MINUTE_MS + 30_000}
    assert tails["1h"]["state"] == "fresh"
    del ledgers[Series("ETHUSDT", M1)]
    made.holdings.load(ledgers, {}, {})
    made.clock.ms += 1_000
    tails = patient.health.report()["tails"]
    assert isinstance(tails, dict)
    assert tails["1m"] == {"symbol": "ETHUSDT", "state": "not_whole", "age_ms": None}, "nothing is held at all"


@pytest.mark.parametrize(
    ("code", "stale_s", "after_ms"),
    [
        ("1m", 0, 2 * MINUTE_MS),
        ("1m", 300, 5 * MINUTE_MS),
        ("1m", 10, MINUTE_MS + CLOSE_GRACE_MS),
        ("1h", 300, HOUR_MS + CLOSE_GRACE_MS),
        ("1M", 0, 59 * DAY_MS),
    ],
)
def test_when_a_tail_is_stale(code: str, stale_s: int, after_ms: int) -> None:
    grid = INTERVALS[code].grid
    end_ms = grid.floor(1_706_745_600_000 - 31 * DAY_MS)  # 2024-01-01: January and February have 60 days
    after_ms += DAY_MS if code == "1M" else 0
    assert stale_at_ms(grid, end_ms, stale_s * 1000) == end_ms + after_ms


async def test_what_is_proven_absent_is_no_fresh_tail(made: Rig) -> None:
    """The exchange went on answering, but with nothing: nobody has newer klines, and readiness says so."""
    await made.symbols.refresh()
    patient = Patient(made)
    made.clock.ms = NOW_MS + HOUR_MS
    ledgers = whole(patient.wish)
    ledgers[BTC] = ledgers[BTC].record(Spans([Span(CLOSED_MS, CLOSED_MS + HOUR_MS)]), Source.ABSENT)
    made.holdings.load(ledgers, {}, {})
    is_ready, detail = patient.health.ready()
    assert (is_ready, detail["series"]) == (False, {"fresh": 0, "stale": 1, "not_whole": 0})


async def test_an_extra_wish_of_the_past_is_not_stale(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    gone, span = Series("GONEUSDT", M1), Span(DAY0_MS - 9 * DAY_MS, DAY0_MS - 8 * DAY_MS)
    patient.wish = dataclasses.replace(patient.wish, extra={gone: span})
    made.holdings.load({**whole(patient.wish), gone: Ledger().record(Spans([span]), Source.REST)}, {}, {})
    assert patient.health.ready()[0]


async def test_a_time_that_the_exchange_has_not_confirmed_is_no_readiness(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made, is_confirmed=False)
    is_ready, detail = patient.health.ready()
    assert not is_ready
    assert "confirmed" in str(detail["reasons"])
    patient.exchange_clock.heard(made.clock.ms - 500)
    made.clock.ms += 3_000
    assert patient.health.ready()[0]


async def test_a_process_that_does_not_write_judges_the_ledger_by_when_it_was_read(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    read_ms = NOW_MS
    patient.freshness.as_of_ms = lambda: read_ms
    made.clock.ms = CLOSED_MS + MINUTE_MS + CLOSE_GRACE_MS + 500
    assert patient.health.ready()[0], "the minute that closed since may be in the store"
    made.clock.ms += 5_000
    read_ms = made.clock.ms
    assert not patient.health.ready()[0], "it is not"


# --- the estimate ------------------------------------------------------------------------------------------------


def test_the_estimate_of_an_empty_store_is_about_right() -> None:
    wish = wish_of("1m", "1h", days=31)
    told = estimate(wish, Holdings(), NOW_MS, weight_per_minute=2400, disk_free_bytes=7)
    minutes = 31 * 1440 + 14 * 60 + 10
    assert (told.series, told.klines, told.missing_klines) == (2, minutes + 31 * 24 + 14, told.klines)
    by_rest = 1440 + 14 * 60 + 10  # yesterday and today
    assert told.weight == 2 * (-(-by_rest // 499) + 2)  # and the tail of 1h, two pages
    assert told.download_bytes == (minutes - by_rest) * ROW_ZIP_BYTES
    assert told.disk_bytes == told.klines * ROW_DISK_BYTES
    assert told.disk_free_bytes == 7
    assert told.expected_s < 60


def test_the_estimate_of_a_filled_store_is_nothing() -> None:
    wish = wish_of("1m", "1h")
    told = estimate(wish, holding(whole(wish)), NOW_MS, weight_per_minute=2400, disk_free_bytes=7)
    assert (told.missing_klines, told.requests, told.weight, told.download_bytes, told.expected_s) == (0, 0, 0, 0, 0)


# --- extra wishes ------------------------------------------------------------------------------------------------


async def test_an_extra_wish_is_kept_widened_and_wakes_the_reconciler(made: Rig) -> None:
    woken: list[bool] = []
    backfill = Backfill(made.holdings, lambda: woken.append(True))
    with pytest.raises(StoreUnavailable, match="lease"):
        await backfill.request([BTC], Span(0, 1))
    assert (woken, made.holdings.extra_wishes) == ([], {})
    backfill.store = made.store
    await backfill.request([BTC], Span(10 * DAY_MS, 20 * DAY_MS))
    await backfill.request([BTC], Span(15 * DAY_MS, 25 * DAY_MS))
    assert made.holdings.extra_wishes == {BTC: Span(10 * DAY_MS, 25 * DAY_MS)} == await made.store.extra_wishes()
    assert len(woken) == 2


# --- the exchange's time -----------------------------------------------------------------------------------------


async def test_the_clock_runs_on_the_exchanges_time(made: Rig) -> None:
    clock = ExchangeClock(made.clock)
    made.exchange.time_offset_ms = 7_000
    await clock.measure(made.exchange)
    assert (clock.offset_ms, clock.now_ms()) == (7_000, NOW_MS + 7_000)
    made.exchange.time_offset_ms = 7_030
    await clock.measure(made.exchange)
    assert clock.offset_ms == 7_000, "within the error of measurement"


async def test_a_slow_answer_says_nothing_about_the_time_and_is_asked_for_again_soon(made: Rig) -> None:
    clock = ExchangeClock(made.clock)
    made.exchange.time_offset_ms, made.exchange.time_takes_s = -5_000, 4.0
    async with running(lambda: clock.run(made.exchange, random.Random(1))):
        await made.advance(5)
        assert clock.offset_ms == 0
        made.exchange.time_takes_s = 0.5
        await made.advance(2 * RETRY_S)
        assert abs(clock.offset_ms + 5_000) <= 500


async def test_the_time_is_measured_again_and_failures_are_outlived(made: Rig) -> None:
    clock = ExchangeClock(made.clock)
    made.exchange.error = unavailable()
    async with running(lambda: clock.run(made.exchange, random.Random(1))):
        await made.advance(RETRY_S / 2)
        made.exchange.error = None
        made.exchange.time_offset_ms = 900
        await made.advance(RETRY_S)
        assert clock.offset_ms == 900
        made.exchange.time_offset_ms = 400
        await made.advance(1.2 * MEASURE_EVERY_S)
        assert clock.offset_ms == 400


async def test_setting_the_clock_moves_no_time_that_the_exchange_has_told(made: Rig) -> None:
    """Found by the simulation: a clock put back by hours during a ban made it last hours longer, and the node deaf."""
    clock = ExchangeClock(made.clock)
    trusted = [clock.is_trusted]
    await clock.measure(made.exchange)
    told_ms = clock.now_ms()
    for by_ms in (HOUR_MS, -3 * HOUR_MS, 400):
        made.clock.put(by_ms)
        assert clock.now_ms() == told_ms
    assert clock.offset_ms == told_ms - made.clock.now_ms()
    assert [*trusted, clock.is_trusted] == [False, True]


async def test_frames_set_the_time_when_they_agree_for_as_long_as_a_request_would_have_taken(made: Rig) -> None:
    """Found by the simulation: with a clock that lags, started during a ban, every frame was dropped as too early."""
    clock = ExchangeClock(made.clock)
    for second in range(HEARD_AHEAD_MS // 1000):
        clock.heard(made.clock.ms + 420_000 + second % 3)
        made.clock.ms += 1_000
    assert clock.offset_ms == 0
    clock.heard(made.clock.ms + 9_000_000)
    assert clock.offset_ms == 420_000, "by the least of them: one wrong frame moves nothing"
    clock.heard(made.clock.ms + 420_000)
    assert clock.is_trusted


async def test_the_offset_is_kept_for_the_next_start(made: Rig) -> None:
    """Found by the simulation: started anew with a clock that is ahead, the node thought that a ban was over."""
    kept: list[KeptTime] = []

    async def keep(time: KeptTime) -> None:
        kept.append(time)
        if len(kept) == 1:
            raise StoreUnavailable("full")

    clock = ExchangeClock(made.clock)
    clock.keep = keep
    made.exchange.time_offset_ms = -420_000
    async with running(lambda: clock.run(made.exchange, random.Random(1))):
        await made.advance(3 * MEASURE_EVERY_S)
        made.clock.put(3_000)
        made.exchange.time_offset_ms -= 3_000
        await made.advance(3 * RETRY_S)
    offsets_ms = [time.offset_ms for time in kept]
    assert offsets_ms == [-420_000, -420_000, -423_000], "tried again when it failed, never the same twice"
    again = ExchangeClock(made.clock)
    again.assume(kept[-1]._replace(boot="another boot"))
    assert (again.now_ms(), again.is_trusted) == (made.clock.ms - 423_000, False)


async def test_a_clock_set_while_the_node_is_down_changes_nothing_until_the_machine_starts_anew(made: Rig) -> None:
    """Found by the simulation: a machine's clock put ahead between two runs ended a stored stand-down too early."""
    kept: list[KeptTime] = []

    async def keep(time: KeptTime) -> None:
        kept.append(KeptTime.decoded(time.encoded()))

    clock = ExchangeClock(made.clock)
    clock.keep = keep
    async with running(lambda: clock.run(made.exchange, random.Random(1))):
        await made.advance(1)
    told_ms = clock.now_ms()
    made.clock.put(5 * HOUR_MS)
    again = ExchangeClock(made.clock)
    assert again.now_ms() == told_ms + 5 * HOUR_MS
    again.assume(kept[-1])
    assert (again.now_ms(), again.is_trusted) == (told_ms, False)


@pytest.mark.parametrize(
    ("late_ms", "is_trusted"), [(0, True), (2_500, True), (5_000, False), (-400, True), (-900, False)]
)
async def test_a_frame_confirms_the_time_when_it_states_about_the_same(
    made: Rig, late_ms: int, *, is_trusted: bool
) -> None:
    clock = ExchangeClock(made.clock)
    clock.heard(NOW_MS - late_ms)
    assert (clock.is_trusted, clock.offset_ms) == (is_trusted, 0)


async def test_a_frame_from_ahead_of_our_time_makes_the_node_ask(made: Rig) -> None:
    clock = ExchangeClock(made.clock)
    async with running(lambda: clock.run(made.exchange, random.Random(1))):
        await made.advance(2 * RETRY_S)
        made.exchange.time_offset_ms = 120_000
        clock.heard(made.clock.ms + 120_000)
        assert clock.offset_ms == 0, "one frame does not set the time"
        await made.advance(0.1)
        assert clock.offset_ms == 120_000
        made.exchange.time_offset_ms = 240_000
        clock.heard(made.clock.ms + 240_000)
        await made.advance(0.5 * RETRY_S)
        assert clock.offset_ms == 120_000, "frames cannot make it ask all the time"
        await made.advance(RETRY_S)
        assert clock.offset_ms == 240_000
