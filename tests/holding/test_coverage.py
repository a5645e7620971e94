"""What the node reports of its data: coverage, the estimate, and wishes beyond the settings."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from app.binance.digits import Rounding, Rule
from app.binance.evidence import Evidence
from app.binance.rest_form import Mismatch, SymbolDigits
from app.domain.interval import DAY_MS, HOUR_MS, M1, MINUTE_MS
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.filling.backfill import Backfill
from app.filling.estimate import GATHERED_ROW_DISK_BYTES, ROW_ZIP_BYTES, estimate
from app.filling.room import ROW_DISK_BYTES
from app.holding.coverage import DESCRIBE_S_MAX, Coverage
from app.holding.inventory import Inventory
from app.holding.ledger_cache import LedgerCache
from app.kinds.metrics import METRICS
from app.ports.coordination import NO_WRITER
from app.ports.errors import StoreUnavailable
from app.ports.store import StoreWriter
from tests.fakes import BTC, DAY0_MS, NOW_MS, ManualClock, Rig, rig
from tests.market.held_whole import CLOSED_MS, holding, whole, wish_of
from tests.programs.sim.loop import SimLoop


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as here:
        yield here


@pytest.mark.parametrize(("missing", "percent"), [(0, "100.00"), (1, "99.97"), (3731, "0.00")])
def test_completeness_is_a_hundred_only_when_nothing_is_missing(made: Rig, missing: int, percent: str) -> None:
    wish = wish_of("1m")
    assert sum(M1.grid.count(*span) for span in wish.spans(BTC, M1.grid, NOW_MS)) == 3730
    lost = Spans([Span(CLOSED_MS - missing * MINUTE_MS, CLOSED_MS)])
    coverage = Coverage(made.clock, Inventory(holding(whole(wish, but=lost)), lambda: wish))
    report = coverage.report(None, None, 0, 10)
    assert (report["completeness"], report["missing"]) == (percent, min(missing, 3730))


def test_one_missing_kline_of_very_many_is_not_a_hundred_percent(made: Rig) -> None:
    wish = wish_of("1m", days=3000)
    lost = Spans([Span(CLOSED_MS - MINUTE_MS, CLOSED_MS)])
    coverage = Coverage(made.clock, Inventory(holding(whole(wish, but=lost)), lambda: wish))
    assert coverage.report(None, None, 0, 1)["completeness"] == "99.99"


def test_coverage_lists_what_is_held_absent_and_missing(made: Rig) -> None:
    wish = wish_of("1m", "1h")
    start_ms = DAY0_MS - 2 * DAY_MS
    ledger = Ledger().record(Spans([Span(0, start_ms + HOUR_MS)]), Source.ABSENT)
    ledger = ledger.record(Spans([Span(start_ms + HOUR_MS, CLOSED_MS - HOUR_MS)]), Source.REST)
    coverage = Coverage(made.clock, Inventory(holding({BTC: ledger}), lambda: wish))
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
    coverage = Coverage(made.clock, Inventory(holding({BTC: whole(wish)[BTC]}), lambda: wish))
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


cost = partial(estimate, weight_per_minute=2400, row_disk_bytes=ROW_DISK_BYTES)


def test_the_estimate_of_an_empty_store_is_about_right() -> None:
    wish = wish_of("1m", "1h", days=31)
    told = cost(wish, LedgerCache(), NOW_MS, disk_free_bytes=7, disk_free_bytes_min=0)
    minutes = 31 * 1440 + 14 * 60 + 10
    assert (told.series, told.klines, told.missing_klines) == (2, minutes + 31 * 24 + 14, told.klines)
    by_rest = 1440 + 14 * 60 + 10  # yesterday and today
    assert told.weight == 2 * (-(-by_rest // 499) + 2)  # and two pages for the tail of 1h
    assert told.download_bytes == (minutes - by_rest) * ROW_ZIP_BYTES
    assert told.disk_bytes == told.klines * ROW_DISK_BYTES
    assert told.disk_free_bytes == 7
    assert told.expected_s < 60
    assert told.summary == (
        "1 symbols, 2 series, 31 days back: still to come are about 5.3 MB of disk (7 bytes are free), "
        "1.6 MB of download and 1 s"
    )
    assert told.shortage is not None
    assert "needs about 5.3 MB of disk" in told.shortage
    for name in ("BACKFILL_DAYS", "SYMBOLS", "AUTO_SYNC_SYMBOLS=false", "DISK_FREE_BYTES_MIN"):
        assert name in told.shortage


def test_the_estimate_counts_the_disk_of_gathered_series() -> None:
    wish = replace(wish_of("1m", days=31), others={METRICS["openInterestHist"]: ("BTCUSDT",)})
    told = cost(wish, LedgerCache(), NOW_MS, disk_free_bytes=7, disk_free_bytes_min=0)
    bare = cost(replace(wish, others={}), LedgerCache(), NOW_MS, disk_free_bytes=7, disk_free_bytes_min=0)
    rows = 31 * 288 + (NOW_MS % DAY_MS) // (5 * MINUTE_MS)
    more = (told.disk_bytes - bare.disk_bytes) // GATHERED_ROW_DISK_BYTES
    assert rows - 1 <= more <= rows, "the newest may not be due"
    assert told.weight == bare.weight


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)])
def test_the_estimate_says_whether_the_wish_fits_beside_what_is_kept_free(spare: int, *, fits: bool) -> None:
    wish = wish_of("1m", "1h", days=31)
    needed = cost(wish, LedgerCache(), NOW_MS, disk_free_bytes=0, disk_free_bytes_min=0)
    told = cost(
        wish,
        LedgerCache(),
        NOW_MS,
        disk_free_bytes=needed.disk_bytes + 1000 + spare,
        disk_free_bytes_min=1000,
    )
    assert (told.shortage is None) is fits


def test_the_estimate_of_a_filled_store_is_nothing() -> None:
    wish = wish_of("1m", "1h")
    told = cost(wish, holding(whole(wish)), NOW_MS, disk_free_bytes=7, disk_free_bytes_min=0)
    assert (told.missing_klines, told.requests, told.weight, told.download_bytes, told.expected_s) == (0, 0, 0, 0, 0)


class Lent:
    """A process that has no store to write to until the test gives it one."""

    store: StoreWriter | None = None

    def lent(self) -> StoreWriter:
        if self.store is None:
            raise StoreUnavailable(NO_WRITER)
        return self.store


async def test_an_extra_wish_is_kept_widened_and_wakes_the_reconciler(made: Rig) -> None:
    woken: list[bool] = []
    store = Lent()
    backfill = Backfill(made.holdings, store.lent, lambda: woken.append(True))
    with pytest.raises(StoreUnavailable, match="lease"):
        await backfill.request([BTC], Span(0, 1))
    assert (woken, made.holdings.extra_wishes) == ([], {})
    store.store = made.store
    await backfill.request([BTC], Span(10 * DAY_MS, 20 * DAY_MS))
    await backfill.request([BTC], Span(15 * DAY_MS, 25 * DAY_MS))
    assert made.holdings.extra_wishes == {BTC: Span(10 * DAY_MS, 25 * DAY_MS)} == await made.store.extra_wishes()
    assert len(woken) == 2


@pytest.mark.parametrize(
    ("withdrawn", "left", "told"),
    [
        (Span(10, 20), None, (1, 0)),
        (Span(0, 99), None, (1, 0)),
        (Span(0, 15), Span(15, 20), (1, 0)),
        (Span(15, 20), Span(10, 15), (1, 0)),
        (Span(15, 99), Span(10, 15), (1, 0)),
        (Span(20, 30), Span(10, 20), (0, 0)),
        (Span(12, 15), Span(10, 20), (0, 1)),
    ],
)
async def test_an_extra_wish_can_be_withdrawn(
    made: Rig, withdrawn: Span, left: Span | None, told: tuple[int, int]
) -> None:
    woken: list[bool] = []
    store = Lent()
    backfill = Backfill(made.holdings, store.lent, lambda: woken.append(True))
    with pytest.raises(StoreUnavailable, match="lease"):
        await backfill.withdraw([BTC], withdrawn)
    store.store = made.store
    other = BTC._replace(symbol="ETHUSDT")
    await backfill.request([BTC, other], Span(10, 20))
    assert await backfill.withdraw([BTC], withdrawn) == told
    wishes = {other: Span(10, 20)} | ({} if left is None else {BTC: left})
    assert made.holdings.extra_wishes == wishes == await made.store.extra_wishes()
    assert len(woken) == 2


async def test_what_was_learned_of_rows_from_the_archive_is_reported_by_column(made: Rig) -> None:
    kind, other = METRICS["openInterestHist"], METRICS["takerlongshortRatio"]
    rule = Rule(8, is_trimmed=False, rounding=Rounding.HALF_UP)
    found = Mismatch(DAY0_MS, kind.name, "sum_open_interest", "1.50000000", "2.50000000")
    digits = SymbolDigits({(kind.name, "sum_open_interest"): Evidence({rule: 0}, 288, 1)}, [found])
    wish = replace(wish_of("1m"), others={kind: {"BTCUSDT"}, other: {"BTCUSDT"}})
    error: StoreUnavailable | None = None

    async def digits_of(symbol: str) -> SymbolDigits:
        assert symbol == "BTCUSDT"
        if error is not None:
            raise error
        return digits

    coverage = Coverage(made.clock, Inventory(LedgerCache(), lambda: wish), digits_of)
    report = await coverage.full_report(None, None, 0, 100)
    described: Any = {each["symbol"]: each.get("digits") for each in cast(Any, report)["series"]}
    assert described == {
        BTC.name: None,
        Series(kind, "BTCUSDT", M1).name: {
            "columns": {
                "sum_open_interest": {
                    "verdict": "decided", "rule": "8 decimals, half-up", "pairs": 288, "mismatches": 1
                }
            },
            "mismatches": [
                {"open": DAY0_MS, "column": "sum_open_interest", "archive": "1.50000000", "rest": "2.50000000"}
            ],
        },
        Series(other, "BTCUSDT", M1).name: {"columns": {}, "mismatches": []},
    }  # fmt: skip
    without = [{key: each[key] for key in each if key != "digits"} for each in cast(Any, report)["series"]]
    assert coverage.report(None, None, 0, 100) == {**report, "series": without}
    error = StoreUnavailable("locked")
    assert await coverage.full_report(None, None, 0, 100) == {**report, "series": without}


@pytest.mark.parametrize("fails_after_s", [1.0, 600.0])
def test_the_report_of_many_series_waits_once_for_a_store_that_does_not_answer(fails_after_s: float) -> None:
    kind, symbols = METRICS["openInterestHist"], tuple(f"C{number:02}USDT" for number in range(50))
    wish = replace(wish_of("1m", symbols=symbols), others={kind: set(symbols)})
    asked: list[str] = []

    async def digits_of(symbol: str) -> SymbolDigits:
        asked.append(symbol)
        if len(asked) > 2:
            failed = asyncio.Event()
            asyncio.get_running_loop().call_later(fails_after_s, failed.set)
            await failed.wait()
            raise StoreUnavailable("the database does not answer")
        return SymbolDigits()

    async def work() -> None:
        coverage = Coverage(ManualClock(), Inventory(LedgerCache(), lambda: wish), digits_of)
        report: Any = await coverage.full_report(None, None, 0, 1_000)
        assert report["total"] == len(report["series"]) == 100
        assert sum("digits" in series for series in report["series"]) == 2
        assert len(asked) == 3

    with asyncio.Runner(loop_factory=SimLoop) as runner:  # on virtual time
        runner.run(work())
        assert runner.get_loop().time() == pytest.approx(min(fails_after_s, DESCRIBE_S_MAX), abs=0.1)
