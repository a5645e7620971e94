"""When verification runs: on request with a report, in rounds, on samples; and what a change of rows invalidates."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.domain.interval import D1, DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.inventory import Inventory
from app.holding.wish import Wish
from app.kinds.klines import KLINES
from app.kinds.price_klines import INDEX, MARK
from app.ports.coordination import NO_WRITER
from app.ports.errors import StandDown, StoreUnavailable, UpstreamRejected
from app.verifying.absence_audit import ABSENT_SPANS_MAX, AbsenceAuditor
from app.verifying.audit import ROW_AGE_MS
from app.verifying.verify import AUDITS_KEPT_MAX, Auditors, TooManyAudits, Verifier
from tests.fakes import BTC, DAY0_MS, NOW_MS, Asked, listing, running, truth, unavailable
from tests.verifying.test_audit import DAYS, FIRST_MS, FIVES, HELD, HOURS, WEEKS, Desk, desk

DUE = Spans([Span(FIRST_MS, DAY0_MS)])


def verifier(here: Desk, *, every_days: int = 30, auditor: bool = True) -> Verifier:
    intervals = tuple(INTERVALS[code] for code in ("1m", "5m", "1h"))
    wish = Wish(("BTCUSDT",), intervals, 4, {"BTCUSDT": listing("BTCUSDT")}, {})
    rig = here.rig
    absence = AbsenceAuditor(rig.clock, rig.observe, rig.exchange, rig.store, rig.holdings, rig.committer)

    def auditors() -> Auditors:
        if not auditor:
            raise StoreUnavailable(NO_WRITER)
        return Auditors(here.auditor, absence)

    inventory = Inventory(rig.holdings, lambda: wish)
    return Verifier(rig.clock, inventory, random.Random(1), auditors, every_days=every_days)


@asynccontextmanager
async def at_work(made: Verifier, here: Desk) -> AsyncIterator[None]:
    async with running(made.run):
        await here.rig.advance(0)
        yield


def report(made: Verifier, number: int) -> dict[str, Any]:
    audits = made.report()["audits"]
    assert isinstance(audits, list)
    return next(audit for audit in audits if audit["audit"] == number)


async def test_an_audit_is_carried_out_and_reported(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        here.plant(BTC, FIRST_MS + 5 * MINUTE_MS, "volume", "1.126")
        made = verifier(here, every_days=0)
        number = made.request([BTC, HOURS], HELD)
        assert report(made, number)["state"] == "waiting"
        async with at_work(made, here):
            await here.rig.advance(1)
        found = report(made, number)
        assert (found["state"], found["total"], found["compared"], found["mismatched"]) == ("done", 5, 5, 1)
        assert (found["rows_replaced"], len(str(found["findings"])) > 20) == (1, True)


async def test_an_audit_waits_out_a_stand_down_and_goes_on(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        made = verifier(here, every_days=0)
        here.rig.exchange.error = StandDown(NOW_MS + 7_200_000, "418")
        number = made.request([BTC], HELD)
        async with at_work(made, here):
            await here.rig.advance(7_190)
            assert len(here.rig.exchange.asked) == 1, "asked again during a stand-down"
            assert (report(made, number)["state"], "418" in str(report(made, number)["error"])) == ("running", True)
            here.rig.exchange.error = None
            await here.rig.advance(2_000)
        assert (report(made, number)["state"], report(made, number)["error"]) == ("done", None)
        assert here.rig.holdings.verification(BTC).spans == Spans([HELD])


async def test_an_exchange_that_stays_away_ends_the_audit_with_the_reason(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        here.rig.exchange.error = unavailable()
        made = verifier(here, every_days=0)
        number = made.request([BTC], HELD)
        async with at_work(made, here):
            await here.rig.advance(3_600)
        assert (report(made, number)["state"], "down" in str(report(made, number)["error"])) == ("failed", True)


@pytest.mark.parametrize(
    ("series", "span", "wrong_ms"),
    [
        (BTC, Span(FIRST_MS + HOUR_MS, FIRST_MS + 2 * HOUR_MS), FIRST_MS + HOUR_MS),
        (BTC, Span(FIRST_MS + 1, FIRST_MS + MINUTE_MS + 1), FIRST_MS + MINUTE_MS),
        (BTC, Span(DAY0_MS - HOUR_MS, DAY0_MS + 12 * HOUR_MS), DAY0_MS + 11 * HOUR_MS),
        (BTC, Span(FIRST_MS + HOUR_MS, DAY0_MS + HOUR_MS), FIRST_MS + 2 * HOUR_MS),
        (BTC, Span(FIRST_MS + HOUR_MS, DAY0_MS + HOUR_MS), FIRST_MS + DAY_MS + 7 * MINUTE_MS),
        (FIVES, Span(FIRST_MS + HOUR_MS, FIRST_MS + 2 * HOUR_MS), FIRST_MS + HOUR_MS + 5 * MINUTE_MS),
        (HOURS, Span(DAY0_MS, HELD.end_ms), DAY0_MS + 3 * HOUR_MS),
        (Series(MARK, "BTCUSDT", M1), Span(DAY0_MS + HOUR_MS, DAY0_MS + 2 * HOUR_MS), DAY0_MS + HOUR_MS),
    ],
)
async def test_less_than_whole_days_is_compared_row_by_row(
    tmp_path: Path, series: Series, span: Span, wrong_ms: int
) -> None:
    async with desk(tmp_path) as here:
        await here.hold(series)
        here.plant(series, wrong_ms, "volume", "1.126")
        made = verifier(here, every_days=0)
        number = made.request([series], span)
        async with at_work(made, here):
            await here.rig.advance(1)
            found = report(made, number)
            assert (found["state"], found["error"], found["uncompared"]) == ("done", None, [])
            assert (found["mismatched"], found["rows_replaced"]) == (1, 1)
            assert found["compared"] == found["total"]
            assert await here.is_true(series)
            again = made.request([series], span)
            await here.rig.advance(1)
            assert (report(made, again)["state"], report(made, again)["mismatched"]) == ("done", 0)


def _ago(ms: int) -> Span:
    return Span(NOW_MS - ms, NOW_MS)


@pytest.mark.parametrize(
    ("series", "span", "why"),
    [
        (BTC, Span(NOW_MS + DAY_MS, NOW_MS + 2 * DAY_MS), "have not closed"),
        (BTC, _ago(ROW_AGE_MS - MINUTE_MS), "have not closed"),
        (BTC, Span(FIRST_MS - 9 * DAY_MS, FIRST_MS - 8 * DAY_MS), "not held"),
        (Series(KLINES, "ETHUSDT", M1), HELD, "not held"),
        (BTC, Span(FIRST_MS + 1, FIRST_MS + 2), "no 1m kline opens in it"),
        (WEEKS, Span(FIRST_MS, FIRST_MS + HOUR_MS), "no 1w kline opens in it"),
        (Series(KLINES, "ETHUSDT", INTERVALS["3d"]), HELD, "nothing of it is held"),
        (Series(INDEX, "BTCUSDT", HOURS.interval), HELD, "not held"),
    ],
)
async def test_a_check_that_compared_nothing_is_no_success(
    tmp_path: Path, series: Series, span: Span, why: str
) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        made = verifier(here, every_days=0)
        number = made.request([series], span)
        async with at_work(made, here):
            await here.rig.advance(1)
        found = report(made, number)
        assert (found["state"], found["compared"], found["uncompared_total"]) == ("failed", 0, 1)
        assert "nothing was compared" in str(found["error"])
        assert why in str(found["error"])
        [left_out] = found["uncompared"]
        assert (left_out["symbol"], left_out["interval"]) == (series.name, series.interval.code)
        assert why in left_out["why"]


async def test_what_could_not_be_compared_stands_beside_what_was(tmp_path: Path) -> None:
    hole = Span(FIRST_MS + 5 * HOUR_MS, FIRST_MS + 6 * HOUR_MS)
    async with desk(tmp_path) as here:
        await here.hold(BTC, Span(FIRST_MS, hole.start_ms))
        await here.hold(BTC, Span(hole.end_ms, HELD.end_ms))
        here.plant(BTC, hole.end_ms, "volume", "1.126")
        made = verifier(here, every_days=0)
        number = made.request([BTC, FIVES], Span(FIRST_MS, NOW_MS + DAY_MS))
        async with at_work(made, here):
            await here.rig.advance(1)
        found = report(made, number)
        assert (found["state"], found["mismatched"], found["until"]) == ("done", 1, NOW_MS - ROW_AGE_MS)
        lacking = {(each["interval"], each["start"], each["end"]) for each in found["uncompared"]}
        assert {("1m", *hole), ("5m", FIRST_MS, FIVES.interval.grid.floor(NOW_MS - ROW_AGE_MS))} <= lacking
        assert here.rig.holdings.verification(BTC).spans == Spans([HELD]) - Spans([hole])


async def test_a_symbol_that_the_exchange_refuses_is_said_and_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        await here.hold(Series(KLINES, "GONEUSDT", M1))
        made = verifier(here, every_days=0)

        async def gate(asked: Asked) -> None:
            if asked.series.symbol == "GONEUSDT":
                raise UpstreamRejected(400, -1121, "Invalid symbol.")

        here.rig.exchange.gate = gate
        number = made.request([Series(KLINES, "GONEUSDT", M1), BTC], HELD)
        alone = made.request([Series(KLINES, "GONEUSDT", M1)], HELD)
        async with at_work(made, here):
            await here.rig.advance(1)
        found = report(made, number)
        assert (found["state"], found["compared"], found["uncompared_total"]) == ("done", 5, 1)
        assert "Invalid symbol" in str(found["uncompared"])
        assert (report(made, alone)["state"], "refuses" in str(report(made, alone)["error"])) == ("failed", True)


async def test_a_day_of_which_a_part_was_compared_is_compared_whole_in_its_round(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        made = verifier(here)
        made.request([BTC], Span(FIRST_MS + HOUR_MS, FIRST_MS + 2 * HOUR_MS))
        async with at_work(made, here):
            await here.rig.advance(60)
        assert here.rig.holdings.verification(BTC).spans == DUE


async def test_audits_are_bounded_and_old_reports_make_room(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        made = verifier(here, every_days=0)
        for _ in range(AUDITS_KEPT_MAX):
            made.request([BTC], HELD)
        with pytest.raises(TooManyAudits, match="ask again when"):
            made.request([BTC], HELD)
        async with at_work(made, here):
            await here.rig.advance(1)
            assert made.request([BTC], HELD) == AUDITS_KEPT_MAX + 1
        assert len(made.report()["audits"]) == AUDITS_KEPT_MAX  # type: ignore[arg-type]


async def test_a_process_that_does_not_write_refuses(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        made = verifier(here, auditor=False)
        with pytest.raises(StoreUnavailable, match="writer lease"):
            made.request([BTC], HELD)
        with pytest.raises(StoreUnavailable, match="writer lease"):
            made.report()


async def test_rounds_compare_what_was_not_compared_for_long(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        for series in (BTC, FIVES, HOURS):
            await here.hold(series)
        here.plant(FIVES, FIRST_MS, "volume", "1.126")
        made = verifier(here)
        async with at_work(made, here):
            for _ in range(30):  # a round has pauses, whose number depends on the database's thread
                if here.rig.holdings.verification(HOURS).spans == DUE:
                    break
                await here.rig.advance(2)
            assert made.background.mismatched == 1
            assert [here.rig.holdings.verification(each).spans for each in (BTC, FIVES, HOURS)] == [DUE, DUE, DUE]
            asked = len([each for each in here.rig.exchange.asked if each.series == DAYS])
            await here.rig.advance(1_800)
            assert len([each for each in here.rig.exchange.asked if each.series == DAYS]) == asked
            assert {int(each.priority) for each in here.rig.exchange.asked} == {3}


async def test_nothing_is_compared_unasked_when_it_is_turned_off(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        async with at_work(verifier(here, every_days=0), here):
            await here.rig.advance(600)
        assert here.rig.exchange.asked == []


async def test_a_roll_up_that_has_just_closed_wrong_is_caught_within_minutes(tmp_path: Path) -> None:
    closed = Span(DAY0_MS + 14 * 3_600_000, DAY0_MS + 14 * 3_600_000 + 5 * MINUTE_MS)
    async with desk(tmp_path) as here:
        await here.hold(BTC, Span(DAY0_MS + 13 * 3_600_000, NOW_MS), Source.WS)
        wrong = truth("BTCUSDT", FIVES.interval, closed.start_ms)._replace(volume="5.000")
        await here.rig.committer.commit([Batch(FIVES, Source.ROLLUP, Spans([closed]), [wrong])])
        made = verifier(here)
        here.rig.clock.ms = closed.end_ms + 60_000
        async with at_work(made, here):
            await here.rig.advance(200)
        assert await here.is_true(FIVES)
        assert (await here.rig.ledger(FIVES)).source_at(closed.start_ms) is Source.REST
        assert made.background.mended == 1


async def test_rows_from_the_archive_are_sampled(tmp_path: Path) -> None:
    old = Span(DAY0_MS - DAY_MS, DAY0_MS - DAY_MS + 40 * MINUTE_MS)  # less than a day: rounds skip it
    async with desk(tmp_path) as here:
        await here.hold(BTC, old)
        here.plant(BTC, old.end_ms - MINUTE_MS, "close", "1.00")
        async with at_work(verifier(here), here):
            await here.rig.advance(600)
        assert await here.is_true(BTC)


# --- what a change invalidates -----------------------------------------------------------------------------------


async def test_a_roll_up_made_of_rows_that_were_replaced_meanwhile_is_not_written(tmp_path: Path) -> None:
    bucket = Span(FIRST_MS, FIRST_MS + 5 * MINUTE_MS)
    other = Span(bucket.end_ms, bucket.end_ms + 5 * MINUTE_MS)
    rows = [truth("BTCUSDT", FIVES.interval, each) for each in (bucket.start_ms, other.start_ms)]
    async with desk(tmp_path) as here:
        await here.hold(BTC, source=Source.WS)
        as_of = here.rig.committer.epoch
        minute = truth("BTCUSDT", M1, FIRST_MS + MINUTE_MS)._replace(trades=5)
        span = Span(minute.open_ms, minute.open_ms + MINUTE_MS)
        await here.rig.committer.commit([Batch(BTC, Source.REST, Spans([span]), [minute])])
        both = Spans([bucket, other])
        await here.rig.committer.commit([Batch(FIVES, Source.ROLLUP, both, rows, as_of)])
        assert (await here.rig.ledger(FIVES)).held == Spans([other])
        await here.rig.committer.commit([Batch(FIVES, Source.ROLLUP, both, rows, here.rig.committer.epoch)])
        assert (await here.rig.ledger(FIVES)).held == both


async def test_a_replaced_row_voids_every_longer_roll_up_but_not_the_exchanges_own(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        await here.hold(FIVES, source=Source.ROLLUP)
        await here.hold(HOURS, source=Source.REST)
        await here.hold(DAYS, source=Source.ROLLUP)
        await here.hold(Series(KLINES, "ETHUSDT", FIVES.interval), source=Source.ROLLUP)
        minute = truth("BTCUSDT", M1, FIRST_MS + 61 * MINUTE_MS)._replace(trades=5)
        span = Span(minute.open_ms, minute.open_ms + MINUTE_MS)
        (result,) = await here.rig.committer.commit([Batch(BTC, Source.REST, Spans([span]), [minute])])
        five = Span(FIRST_MS + 60 * MINUTE_MS, FIRST_MS + 65 * MINUTE_MS)
        voided = {each.series: each.spans for each in result.unheld}
        assert voided == {FIVES: Spans([five]), DAYS: Spans([Span(FIRST_MS, FIRST_MS + DAY_MS)])}
        for series, spans in voided.items():
            stored = await here.rig.ledger(series)
            assert stored.entries == here.rig.holdings.ledger(series).entries
            assert not stored.known & spans
            opens = [row.open_ms for row in await here.rig.stored(series)]
            assert not any(spans.span_at(each) for each in opens), "a row that no ledger line speaks of was left"
        assert len(here.revisions()) == 3
        assert here.rig.holdings.ledger(HOURS).held.covers(Span(FIRST_MS, FIRST_MS + DAY_MS))
        assert here.rig.holdings.ledger(Series(KLINES, "ETHUSDT", FIVES.interval)).held.covers(five)
        assert D1.grid.count(FIRST_MS, DAY0_MS) == 3


@pytest.mark.parametrize("is_round", [True, False])
async def test_what_is_recorded_absent_is_asked_again_and_taken_back(tmp_path: Path, *, is_round: bool) -> None:
    async with desk(tmp_path) as here:
        hole = Span(FIRST_MS + 5 * MINUTE_MS, FIRST_MS + 7 * MINUTE_MS)
        before, others = Span(0, FIRST_MS), Spans([HELD]) - Spans([hole])
        for span in others:
            await here.hold(BTC, span)
        await here.rig.committer.commit([Batch(BTC, Source.ABSENT, Spans([before, hole]), [])])
        await here.rig.committer.commit([Batch(HOURS, Source.ABSENT, Spans([before]), [])])
        made = verifier(here, every_days=30 if is_round else 0)
        number = None if is_round else made.request([BTC, HOURS], Span(0, NOW_MS))
        async with at_work(made, here):
            await here.rig.advance(60 if is_round else 5)
        tally = made.background if number is None else made._audits[0].tally
        assert tally.mismatched >= 3
        assert any("recorded absent" in finding for finding in tally.findings)
        for series in (BTC, HOURS):
            assert not here.rig.holdings.ledger(series).absent
            assert (await here.rig.ledger(series)).entries == here.rig.holdings.ledger(series).entries


async def test_what_is_absent_still_is_asked_once_a_round(tmp_path: Path) -> None:
    async with desk(tmp_path, first_ms=FIRST_MS) as here:
        await here.hold(BTC)
        await here.rig.committer.commit([Batch(BTC, Source.ABSENT, Spans([Span(0, FIRST_MS)]), [])])
        made = verifier(here)
        async with at_work(made, here):
            await here.rig.advance(600)
        assert here.rig.holdings.ledger(BTC).absent == Spans([Span(0, FIRST_MS)])
        assert [window for window in here.rig.exchange.windows() if window.start_ms == 0] == [Span(0, FIRST_MS)]


async def test_absence_that_is_too_much_to_ask_for_at_once_is_named(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        opens_ms = [FIRST_MS + 2 * number * MINUTE_MS for number in range(ABSENT_SPANS_MAX + 3)]
        here.rig.exchange.lacking.update((BTC, open_ms) for open_ms in opens_ms)
        absent = Spans(Span(open_ms, open_ms + MINUTE_MS) for open_ms in opens_ms)
        await here.rig.committer.commit([Batch(BTC, Source.ABSENT, absent, [])])
        made = verifier(here, every_days=0)
        number = made.request([BTC], Span(FIRST_MS, opens_ms[-1] + MINUTE_MS))
        async with at_work(made, here):
            await here.rig.advance(1)
        left = [each for each in report(made, number)["uncompared"] if each["why"].startswith("recorded absent")]
        assert [each["start"] for each in left] == opens_ms[:3]
        assert report(made, number)["compared"] == ABSENT_SPANS_MAX
