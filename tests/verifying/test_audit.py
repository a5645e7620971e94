"""The audit: held klines against the exchange's daily ones, with corruption planted in a real database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from app.domain.interval import D1, DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS, MO1
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import IntervalsDisagree, KlinesMended, KlinesVerified
from app.filling.absence import Absence
from app.filling.fill import Filler
from app.holding.inventory import Inventory
from app.holding.wish import Wish
from app.kinds.klines import KLINES
from app.ports.errors import UpstreamGarbage
from app.ports.exchange import Exchange
from app.verifying.audit import SETTLE_MS, Auditor, Tally
from app.verifying.verify import EVER
from infra.sqlite.library import sqlite3
from tests.fakes import ANCHOR_MS, BTC, DAY0_MS, NOW_MS, Rig, encoded, listing, rig, truth
from tests.stored import change

FIVES, HOURS, DAYS = (Series(KLINES, "BTCUSDT", INTERVALS[code]) for code in ("5m", "1h", "1d"))
WEEKS, MONTHS, THREES = (Series(KLINES, "BTCUSDT", INTERVALS[code]) for code in ("1w", "1M", "3d"))
FIRST_MS = DAY0_MS - 3 * DAY_MS
HELD = Span(FIRST_MS, DAY0_MS + 12 * HOUR_MS)


class Desk:
    """An auditor on a rig."""

    def __init__(self, made: Rig, folder: Path) -> None:
        self.rig, self.file = made, folder / "klinenode.db"
        wish = Wish(("BTCUSDT",), tuple(INTERVALS.values()), 4, {"BTCUSDT": listing("BTCUSDT")}, {})
        absence = Absence(made.clock, made.holdings, wish.listings.get, made.vault)
        filler = Filler(
            made.runtime,
            Exchange(made.exchange, made.vault),
            made.store,
            made.committer,
            Inventory(made.holdings, lambda: wish),
            absence,
        )
        self.auditor = Auditor(made.clock, made.observe, made.exchange, made.store, made.holdings, filler)

    async def hold(self, series: Series, span: Span = HELD, source: Source = Source.ARCHIVE) -> None:
        grid = self.rig.holdings.grid(series)
        span = Span(grid.ceil(span.start_ms), grid.floor(span.end_ms))
        rows = [self.rig.exchange.kline(series, each) for each in self.rig.exchange.opens(series, span)]
        await self.rig.committer.commit([Batch(series, source, Spans([span]), rows)])

    async def audit(self, *series: Series, since_ms: int = 1 << 50) -> Tally:
        tally = Tally()
        self.rig.exchange.asked.clear()
        due = {each: self.auditor.due(each, EVER, since_ms) for each in series}
        await self.auditor.audit(due, tally)
        return tally

    def plant(self, series: Series, open_ms: int, column: str, value: object) -> None:
        """Change a column of a row in the database without the node's knowledge."""
        change(self.file, series, open_ms, f"{column} = ?", value)

    def revisions(self) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(
                "SELECT interval, open_time, volume, old_source, new_source FROM revision"
            ).fetchall()

    async def is_true(self, series: Series) -> bool:
        exchange = self.rig.exchange
        held = [self.rig.exchange.kline(series, each) for span in (await self.rig.ledger(series)).held
                for each in exchange.opens(series, span)]  # fmt: skip
        return encoded(series, await self.rig.stored(series)) == encoded(series, held)

    def asked(self) -> list[str]:
        return [asked.series.interval.code for asked in self.rig.exchange.asked]


@asynccontextmanager
async def desk(folder: Path, *, first_ms: int = 0) -> AsyncIterator[Desk]:
    async with rig(folder, first_ms=first_ms) as made:
        yield Desk(made, folder)


async def test_a_year_of_every_short_interval_costs_one_request(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        for series in (BTC, FIVES, HOURS, DAYS):
            await here.hold(series)
        tally = await here.audit(BTC, FIVES, HOURS, DAYS)
        assert (tally.compared, tally.mismatched, here.asked()) == (12, 0, ["1d"])
        for series in (BTC, FIVES, HOURS, DAYS):
            assert here.rig.holdings.verification(series).checks == (((FIRST_MS, DAY0_MS), NOW_MS),)
        assert sum(event.compared for event in here.rig.seen(KlinesVerified)) == 12
        assert (await here.audit(BTC, since_ms=NOW_MS)).compared == 0, "it was compared just now"
        assert (await here.rig.store.verifications())[BTC].checks == here.rig.holdings.verification(BTC).checks


@pytest.mark.parametrize(
    ("column", "value"),
    [("volume", "1.126"), ("high", "99999.95"), ("low", "0.05"), ("trades", 7), ("quote_volume", "1.00000"),
     ("taker_buy_volume", "0.001"), ("taker_buy_quote_volume", "0.00001")],
)  # fmt: skip
async def test_one_wrong_digit_in_a_minute_is_found_and_mended(tmp_path: Path, column: str, value: object) -> None:
    wrong_ms = FIRST_MS + DAY_MS + 5 * HOUR_MS + 7 * MINUTE_MS
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        await here.hold(FIVES, source=Source.ROLLUP)
        here.plant(BTC, wrong_ms, column, value)
        tally = await here.audit(BTC)
        assert (tally.compared, tally.mismatched, tally.mended, tally.disagreements) == (3, 1, 1, 0)
        assert here.asked() == ["1d", "1h", "1m"], "the day, its hours, and the minutes of one of them"
        assert here.rig.exchange.asked[-1].window == Span(
            FIRST_MS + DAY_MS + 5 * HOUR_MS, FIRST_MS + DAY_MS + 6 * HOUR_MS
        )
        assert await here.is_true(BTC)
        kept = here.revisions()
        assert [row[:2] + row[3:] for row in kept] == [
            ("1m", wrong_ms, "archive", "rest"), ("5m", wrong_ms - 2 * MINUTE_MS, "rollup", "rest"),
        ]  # fmt: skip
        assert here.rig.holdings.verification(BTC).spans == Spans([Span(FIRST_MS, DAY0_MS)])
        assert here.rig.holdings.revisions == {BTC: 1, FIVES: 1}
        assert [event.rows for event in here.rig.seen(KlinesMended)] == [1]
        made_of = Span(wrong_ms - 2 * MINUTE_MS, wrong_ms + 3 * MINUTE_MS)
        assert not here.rig.holdings.ledger(FIVES).held.covers(made_of), "the roll-up of the wrong row is made anew"
        assert (await here.audit(BTC)).mismatched == 0


async def test_a_roll_up_that_a_mended_minute_let_go_of_is_no_mismatch(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        await here.hold(FIVES, source=Source.ROLLUP)
        here.plant(BTC, FIRST_MS, "volume", "1.126")
        tally = await here.audit(BTC, FIVES)
        assert (tally.compared, tally.mismatched, tally.mended, tally.disagreements) == (6, 1, 1, 0)
        for series in (BTC, FIVES):
            assert await here.is_true(series)
            assert here.rig.holdings.verification(series).spans == Spans([Span(FIRST_MS, DAY0_MS)])


@pytest.mark.parametrize("series", [FIVES, HOURS, DAYS])
async def test_a_wrong_row_of_any_interval_is_found(tmp_path: Path, series: Series) -> None:
    async with desk(tmp_path) as here:
        await here.hold(series)
        here.plant(series, FIRST_MS + DAY_MS, "volume", "123456.789")
        tally = await here.audit(series)
        assert (tally.mismatched, tally.mended, tally.disagreements) == (1, 1, 0)
        assert await here.is_true(series)


async def test_a_row_that_vanished_from_the_database_is_found(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        with closing(sqlite3.connect(here.file, isolation_level=None)) as connection:
            connection.execute("DELETE FROM kline_1m WHERE open_time = ?", (FIRST_MS + 61 * MINUTE_MS,))
        tally = await here.audit(BTC)
        assert tally.mismatched == 1
        assert await here.is_true(BTC)


async def test_intervals_longer_than_a_day_are_compared_row_by_row(tmp_path: Path) -> None:
    long_ago = Span(DAY0_MS - 100 * DAY_MS, DAY0_MS)
    async with desk(tmp_path) as here:
        await here.rig.committer.save_anchor("BTCUSDT", ANCHOR_MS)
        for series in (WEEKS, MONTHS, THREES):
            await here.hold(series, long_ago)
        wrong_ms = MO1.grid.ceil(long_ago.start_ms)
        here.plant(MONTHS, wrong_ms, "trades", 1)
        tally = await here.audit(WEEKS, MONTHS, THREES)
        assert (tally.compared, tally.mismatched, tally.mended) == (3, 1, 1)
        for series in (WEEKS, MONTHS, THREES):
            assert await here.is_true(series)
            assert here.rig.holdings.verification(series).spans == here.rig.holdings.ledger(series).held


async def test_what_the_exchange_contradicts_is_recorded_once_and_not_fetched_for_ever(tmp_path: Path) -> None:
    day_ms = FIRST_MS + DAY_MS
    true = truth("BTCUSDT", D1, day_ms)
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        here.rig.exchange.stated[DAYS, day_ms] = true._replace(trades=true.trades + 1)
        tally = await here.audit(BTC)
        assert (tally.mismatched, tally.mended, tally.disagreements) == (1, 0, 1)
        found = here.rig.holdings.disagreements(BTC)[day_ms, D1]
        assert found.ours != found.theirs
        assert await here.rig.store.disagreements() == [found]
        assert len(here.rig.seen(IntervalsDisagree)) == 1
        assert here.rig.holdings.verification(BTC).spans == Spans([Span(FIRST_MS, DAY0_MS)])
        again = await here.audit(BTC)
        assert (again.mismatched, here.asked()) == (0, ["1d"])

        here.plant(BTC, day_ms + 90 * MINUTE_MS, "volume", "1.126")
        later = await here.audit(BTC)
        assert (later.mismatched, later.mended) == (1, 1), "what changes on such a day is still seen"
        assert await here.is_true(BTC)


async def test_absence_that_the_exchange_disproves_is_filled(tmp_path: Path) -> None:
    hole = Span(FIRST_MS + 2 * HOUR_MS, FIRST_MS + 2 * HOUR_MS + 3 * MINUTE_MS)
    async with desk(tmp_path) as here:
        await here.hold(BTC, Span(FIRST_MS, hole.start_ms))
        await here.rig.committer.commit([Batch(BTC, Source.ABSENT, Spans([hole]), [])])
        await here.hold(BTC, Span(hole.end_ms, HELD.end_ms))
        tally = await here.audit(BTC)
        assert (tally.mismatched, tally.mended) == (1, 3)
        assert not (await here.rig.ledger()).absent


async def test_the_day_of_a_listing_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    listed_ms = FIRST_MS + 9 * HOUR_MS + 17 * MINUTE_MS
    async with desk(tmp_path, first_ms=listed_ms) as here:
        await here.hold(BTC, Span(listed_ms, HELD.end_ms))
        await here.rig.committer.commit([Batch(BTC, Source.ABSENT, Spans([Span(0, listed_ms)]), [])])
        tally = await here.audit(BTC)
        assert (tally.compared, tally.mismatched) == (3, 0)
        assert here.rig.exchange.asked[0].window == Span(FIRST_MS, DAY0_MS), "nothing is asked of the time before"


async def test_only_whole_settled_days_are_compared(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC, Span(FIRST_MS + HOUR_MS, DAY0_MS))
        assert here.auditor.due(BTC, EVER, 1 << 50) == Spans([Span(FIRST_MS + DAY_MS, DAY0_MS)])
        here.rig.clock.ms = DAY0_MS + SETTLE_MS - 1
        assert here.auditor.due(BTC, EVER, 1 << 50) == Spans([Span(FIRST_MS + DAY_MS, DAY0_MS - DAY_MS)])


async def test_a_row_changed_since_the_comparison_began_is_not_verified(tmp_path: Path) -> None:
    day = Span(FIRST_MS, FIRST_MS + DAY_MS)
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        row = truth("BTCUSDT", M1, FIRST_MS)
        await here.rig.committer.commit(
            [Batch(BTC, Source.REST, Spans([Span(FIRST_MS, FIRST_MS + MINUTE_MS)]), [row._replace(trades=9)])]
        )
        saved = await here.rig.store.save_verified(BTC, Spans([day]), NOW_MS - 1)
        assert saved.spans == Spans([Span(FIRST_MS + MINUTE_MS, day.end_ms)])
        saved = await here.rig.store.save_verified(BTC, Spans([day]), NOW_MS + 1)
        assert saved.spans == Spans([day])
        await here.rig.committer.commit([Batch(BTC, Source.REST, Spans([Span(FIRST_MS, FIRST_MS + MINUTE_MS)]), [row])])
        stored = (await here.rig.store.verifications())[BTC]
        assert stored.spans == Spans([Span(FIRST_MS + MINUTE_MS, day.end_ms)])


async def test_a_longer_row_that_was_wrong_has_its_minutes_looked_into(tmp_path: Path) -> None:
    hour = Span(DAY0_MS + HOUR_MS, DAY0_MS + 2 * HOUR_MS)
    async with desk(tmp_path) as here:
        await here.hold(BTC, source=Source.WS)
        here.plant(BTC, hour.start_ms, "volume", "1.126")
        wrong = truth("BTCUSDT", HOURS.interval, hour.start_ms)._replace(volume="5.000")
        await here.rig.committer.commit([Batch(HOURS, Source.ROLLUP, Spans([hour]), [wrong])])
        tally = Tally()
        replaced = await here.auditor.compare(HOURS, hour, tally)
        assert replaced == Spans([hour])
        await here.auditor.explain(HOURS, hour.start_ms, tally)
        assert (tally.mended, tally.disagreements) == (2, 0)
        assert await here.is_true(BTC)
        assert await here.is_true(HOURS)


async def test_a_longer_row_that_its_minutes_do_not_make_is_a_contradiction(tmp_path: Path) -> None:
    hour = Span(DAY0_MS + HOUR_MS, DAY0_MS + 2 * HOUR_MS)
    async with desk(tmp_path) as here:
        await here.hold(BTC, source=Source.WS)
        await here.hold(HOURS, hour, Source.ROLLUP)
        stated: Kline = truth("BTCUSDT", HOURS.interval, hour.start_ms)._replace(volume="5.000")
        here.rig.exchange.stated[HOURS, hour.start_ms] = stated
        tally = Tally()
        await here.auditor.compare(HOURS, hour, tally)
        await here.auditor.explain(HOURS, hour.start_ms, tally)
        assert (tally.mended, tally.disagreements) == (1, 1)
        assert await here.rig.stored(HOURS) == [stated], "the exchange's own row of the asked interval is served"
        assert list(here.rig.holdings.disagreements(BTC)) == [(hour.start_ms, HOURS.interval)]


async def test_an_answer_that_lacks_klines_proves_no_contradiction(tmp_path: Path) -> None:
    wrong_ms = FIRST_MS + DAY_MS + 5 * HOUR_MS + 7 * MINUTE_MS
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        here.plant(BTC, wrong_ms, "volume", "1.126")
        here.rig.exchange.lacking.add((BTC, wrong_ms))
        with pytest.raises(UpstreamGarbage, match="1 held klines are missing"):
            await here.audit(BTC)
        assert here.rig.holdings.disagreements(BTC) == {}
        day = Span(FIRST_MS + DAY_MS, FIRST_MS + 2 * DAY_MS)
        assert not here.rig.holdings.verification(BTC).spans.covers(day)
        here.rig.exchange.lacking.clear()
        assert (await here.audit(BTC)).mended == 1
        assert await here.is_true(BTC)


async def test_a_day_without_a_daily_kline_is_compared_by_its_rows(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        here.plant(BTC, FIRST_MS + DAY_MS + HOUR_MS, "volume", "1.126")
        here.rig.exchange.lacking.add((DAYS, FIRST_MS + DAY_MS))
        tally = await here.audit(BTC)
        assert (tally.compared, tally.mismatched, tally.mended, here.asked()) == (5, 1, 1, ["1d", "1m", "1m", "1m"])
        assert here.rig.holdings.verification(BTC).spans == Spans([Span(FIRST_MS, DAY0_MS)])
        assert await here.is_true(BTC)


async def test_a_day_of_which_the_exchange_has_nothing_is_left_for_the_next_time(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.hold(BTC)
        here.rig.exchange.lacking.add((DAYS, FIRST_MS + DAY_MS))
        here.rig.exchange.lacking.update((BTC, FIRST_MS + DAY_MS + each * MINUTE_MS) for each in range(1440))
        tally = await here.audit(BTC)
        assert (tally.compared, tally.uncompared, tally.mismatched, tally.disagreements) == (2, 1, 0, 0)
        assert "not compared" in tally.findings[0]
        verified = here.rig.holdings.verification(BTC).spans
        assert verified == Spans([Span(FIRST_MS, FIRST_MS + DAY_MS), Span(FIRST_MS + 2 * DAY_MS, DAY0_MS)])
