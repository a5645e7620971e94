"""The comparison of every row: it finds what the sums of a day cannot show, and nothing else counts as compared."""

from pathlib import Path

from app.domain.interval import D1, DAY_MS, HOUR_MS, MINUTE_MS
from app.domain.ledger import Source
from app.domain.span import Span, Spans
from app.verifying.row_audit import PAGE_TRIES_MAX
from tests.fakes import BTC, Asked, truth, unavailable
from tests.verifying.test_audit import DAYS, FIRST_MS, FIVES, HELD, HOURS, desk
from tests.verifying.test_verify import at_work, report, verifier

PAGE_MS = 499 * MINUTE_MS
WRONG_MS = FIRST_MS + DAY_MS + 5 * HOUR_MS + 7 * MINUTE_MS
PAGES = 11  # of the 5,040 minutes of HELD


async def test_a_wrong_close_inside_a_day_passes_the_sums_and_is_found_row_by_row(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        await here.hold(FIVES, source=Source.ROLLUP)
        here.plant(BTC, WRONG_MS, "close", truth("BTCUSDT", BTC.interval, WRONG_MS).low)
        made = verifier(here, every_days=0)
        by_sums = made.request([BTC, FIVES], HELD)
        by_rows = made.request([BTC, FIVES], HELD, by_rows=True)
        async with at_work(made, here):
            await here.rig.advance(1)
            assert (report(made, by_sums)["state"], report(made, by_sums)["mismatched"]) == ("done", 0)
            found = report(made, by_rows)
            assert (found["state"], found["rows"], found["uncompared"]) == ("done", True, [])
            assert (found["total"], found["compared"]) == (PAGES + 3, PAGES + 3), "the mark of the sums hid a row"
            assert (found["mismatched"], found["rows_replaced"], found["disagreements"]) == (1, 1, 0)
        for series in (BTC, FIVES):
            assert await here.is_true(series)
            assert here.rig.holdings.ledger(series).held == Spans([HELD]), "a roll-up was deleted and not fetched again"
        assert not any(asked.series == DAYS for asked in here.rig.exchange.asked[2:]), "the sums were compared as well"
        assert {int(asked.priority) for asked in here.rig.exchange.asked} == {3}


async def test_after_an_error_the_audit_goes_on_where_it_was(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        made = verifier(here, every_days=0)
        number = made.request([BTC], HELD, by_rows=True)

        async def gate(asked: Asked) -> None:
            here.rig.clock.ms += 100
            if len(here.rig.exchange.asked) == 5:
                raise unavailable()

        here.rig.exchange.gate = gate
        async with at_work(made, here):
            await here.rig.advance(1)
            assert (report(made, number)["state"], report(made, number)["compared"]) == ("running", 4)
            assert here.rig.holdings.verification(BTC).spans == Spans([Span(FIRST_MS, FIRST_MS + 4 * PAGE_MS)])
            await here.rig.advance(120)
            assert (report(made, number)["state"], report(made, number)["compared"]) == ("done", PAGES)
        starts_ms = [window.start_ms - FIRST_MS for window in here.rig.exchange.windows()]
        assert starts_ms == [page * PAGE_MS for page in (0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10)]
        assert len(here.rig.holdings.verification(BTC).checks) == 2, "a check for each time it went on, not each page"


async def test_a_page_that_the_exchange_does_not_have_whole_is_named_and_holds_up_no_other(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        here.plant(BTC, FIRST_MS + 3 * PAGE_MS, "open", "1.00")
        here.rig.exchange.lacking.add((BTC, FIRST_MS + PAGE_MS + MINUTE_MS))
        made = verifier(here, every_days=0)
        number = made.request([BTC], HELD, by_rows=True)
        async with at_work(made, here):
            await here.rig.advance(600)
        found = report(made, number)
        assert (found["state"], found["compared"], found["rows_replaced"]) == ("done", PAGES - 1, 1)
        [left_out] = found["uncompared"]
        page = Span(FIRST_MS + PAGE_MS, FIRST_MS + 2 * PAGE_MS)
        assert (left_out["start"], left_out["end"], "1 held klines are missing" in left_out["why"]) == (*page, True)
        assert here.rig.exchange.windows().count(page) == PAGE_TRIES_MAX
        assert here.rig.holdings.verification(BTC).spans == Spans([HELD]) - Spans([page])


async def test_what_the_exchange_contradicts_is_recorded_once_and_repaired_once(tmp_path: Path) -> None:
    day_ms = FIRST_MS + DAY_MS
    true = truth("BTCUSDT", D1, day_ms)
    stated = true._replace(trades=true.trades + 1)
    async with desk(tmp_path) as here:
        for series in (BTC, HOURS, DAYS):
            await here.hold(series, source=Source.ROLLUP if series == DAYS else Source.ARCHIVE)
        here.rig.exchange.stated[DAYS, day_ms] = stated
        made = verifier(here, every_days=0)
        async with at_work(made, here):
            number = made.request([DAYS], HELD, by_rows=True)
            await here.rig.advance(1)
            found = report(made, number)
            assert (found["mismatched"], found["rows_replaced"], found["disagreements"]) == (1, 1, 1)
            assert found["compared"] == 1 + 3, "the minutes of the day that differs are compared, and no others"
            assert list(here.rig.holdings.disagreements(BTC)) == [(day_ms, D1)]
            for by_rows in (True, False, True):
                number = made.request([BTC, HOURS, DAYS], HELD, by_rows=by_rows)
                here.rig.clock.ms += 1
                await here.rig.advance(1)
                again = report(made, number)
                replaced, contradicted = again["rows_replaced"], again["disagreements"]
                assert (again["state"], replaced, contradicted) == ("done", 0, int(not by_rows)), by_rows
        assert stated in await here.rig.stored(DAYS), "the exchange's own row of the asked interval is served"
