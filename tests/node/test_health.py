"""What the node reports of itself: health, readiness, and whether tails are fresh."""

import dataclasses
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from app.collecting.health import CollectorHealth
from app.domain.interval import D3, DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.filling.reconcile import Reconciler
from app.holding.freshness import Freshness, stale_at_ms
from app.holding.inventory import Inventory
from app.holding.wish import CLOSE_GRACE_MS
from app.kinds.klines import KLINES
from app.node.exchange_clock import ExchangeClock
from app.node.health import SYNC_AGE_MS_MAX, Health, Vitals
from app.node.role import Role
from app.node.supervisor import Supervisor
from app.ports.collector import OutboxStats
from tests.collecting.control import Stage
from tests.fakes import BTC, DAY0_MS, NOW_MS, Rig, rig, turn
from tests.filling.reconcile_bench import Bench
from tests.market.held_whole import CLOSED_MS, whole, wish_of


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as here:
        yield here


class FakeRole:
    """The role of a writer, of which only the reconciler is real."""

    is_writer = True
    write_queue_depth = 0

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.complaint: str | None = None

    @property
    def missing_klines(self) -> int | None:
        return self.reconciler.missing_klines

    @property
    def paused(self) -> str | None:
        return self.reconciler.paused

    @property
    def fetch_error(self) -> str | None:
        return self.reconciler.last_error

    def log_complaint(self) -> str | None:
        return self.complaint

    def sockets_status(self) -> dict[str, object]:
        return {}


class Patient:
    """A node's Health with everything that a test can put wrong."""

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
        self.role = FakeRole(self.bench.reconciler)
        self.store_error: str | None = None
        self.notes: list[str] = []
        self.collector: CollectorHealth | None = None
        self.read_ms: int | None = None
        freshness = Freshness(self._as_of_ms, Inventory(made.holdings, lambda: self.wish))
        vitals = Vitals(
            role=lambda: cast("Role", self.role),  # Health uses only these members of a role
            store_error=lambda: self.store_error,
            stand_down=lambda: self.standing,
            upstream_complaints=list,
            streams=dict,
            notes=lambda: self.notes,
            gathered=dict,
            collector=lambda: self.collector,
        )
        self.health = Health(self.exchange_clock, made.symbols, freshness, self.supervisor, vitals)

    def _as_of_ms(self) -> int:
        return self.rig.clock.ms if self.read_ms is None else self.read_ms

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


async def test_a_note_degrades_nothing(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    assert patient.health.report()["notes"] == []
    patient.notes = ["SQLite 3.40.1 may lose commits"]
    assert patient.health.report()["notes"] == patient.notes
    assert patient.reasons() == []


async def test_everything_that_is_wrong_is_a_reason(made: Rig) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    faults: list[tuple[Callable[[], None], str]] = [
        (lambda: setattr(patient, "standing", (NOW_MS + 5, "banned")), f"standing down until {NOW_MS + 5}: banned"),
        (lambda: made.clock.put(4_000), "off by 4000 ms"),
        (lambda: setattr(made.symbols, "unlisted", ("BTCUSTD",)), "BTCUSTD: not listed by the exchange"),
        (lambda: setattr(patient, "store_error", "the database cannot be written"), "cannot be written"),
        (lambda: setattr(patient.role, "complaint", "the log has grown"), "the log has grown"),
        (lambda: setattr(patient.bench.reconciler, "paused", "disk is full"), "backfill is paused: disk is full"),
    ]
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
    """Tasks run, sockets are open and nothing reports a failure, but no newer kline arrives."""
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
    hours = Series(KLINES, "BTCUSDT", INTERVALS["1h"])
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
    ledgers[Series(KLINES, "ETHUSDT", M1)] = Ledger().record(
        Spans([Span(start_ms, CLOSED_MS - 5 * MINUTE_MS)]), Source.WS
    )
    made.holdings.load(ledgers, {}, {})
    tails = patient.health.report()["tails"]
    assert isinstance(tails, dict)
    assert tails["1m"] == {"symbol": "ETHUSDT", "state": "stale", "age_ms": 5 * MINUTE_MS + 30_000}
    assert tails["1h"]["state"] == "fresh"
    del ledgers[Series(KLINES, "ETHUSDT", M1)]
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
    end_ms = grid.floor(1_706_745_600_000 - 31 * DAY_MS)  # 2024-01-01: January and February 2024 have 60 days
    after_ms += DAY_MS if code == "1M" else 0
    assert stale_at_ms(grid, end_ms, stale_s * 1000) == end_ms + after_ms


async def test_what_is_proven_absent_is_no_fresh_tail(made: Rig) -> None:
    """The exchange kept answering, but without klines: nobody has newer ones, and readiness reports that."""
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
    gone, span = Series(KLINES, "GONEUSDT", M1), Span(DAY0_MS - 9 * DAY_MS, DAY0_MS - 8 * DAY_MS)
    patient.wish = dataclasses.replace(patient.wish, extra={gone: span})
    made.holdings.load({**whole(patient.wish), gone: Ledger().record(Spans([span]), Source.REST)}, {}, {})
    assert patient.health.ready()[0]


async def test_old_weeks_that_a_user_asked_for_are_not_stale_while_no_week_is_wished(made: Rig) -> None:
    """Found by the simulation: two days are wished, and a query for weeks of June was kept."""
    await made.symbols.refresh()
    patient = Patient(made)
    patient.wish = wish_of("1m", "1w", days=2)
    weeks = Series(KLINES, "BTCUSDT", INTERVALS["1w"])
    first_ms = weeks.interval.grid.floor(DAY0_MS - 150 * DAY_MS)
    kept = Ledger().record(Spans([Span(first_ms, first_ms + 14 * DAY_MS)]), Source.REST)
    made.holdings.load({**whole(patient.wish), weeks: kept}, {}, {})
    is_ready, detail = patient.health.ready()
    assert (is_ready, detail["series"]) == (True, {"fresh": 2, "stale": 0, "not_whole": 0})


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
    patient.read_ms = NOW_MS
    made.clock.ms = CLOSED_MS + MINUTE_MS + CLOSE_GRACE_MS + 500
    assert patient.health.ready()[0], "the minute that closed since may be in the store"
    made.clock.ms += 5_000
    patient.read_ms = made.clock.ms
    assert not patient.health.ready()[0], "it is not"


async def test_a_fault_of_the_collector_degrades_the_node_that_has_it(made: Rig, tmp_path: Path) -> None:
    await made.symbols.refresh()
    patient = Patient(made)
    assert patient.health.report()["collector"] is None
    stage = Stage(tmp_path)
    patient.collector = stage.collector.health
    assert patient.reasons() == []
    stage.control.set_outbox(OutboxStats(3, 0, 0.0, "NATS does not answer"))
    assert patient.reasons() == ["collector: NATS does not answer"]
    assert patient.health.ready()[0], "klines are served whatever the collector does"
    report = patient.health.report()["collector"]
    assert isinstance(report, dict)
    assert report["waiting"] == 3
