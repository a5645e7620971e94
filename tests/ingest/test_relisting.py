"""A name that comes back as another coin: the exchange's own klines decide, and nobody is served the wrong ones."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from app.binance.stream_event import KlineEvent
from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline, Precision, normalise
from app.domain.ledger import Source
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.domain.symbol import Symbol
from app.events import Relisted, RelistingRefuted, Reprinted
from app.holding.rolling import Rolling
from app.ingest.live import LiveIngest
from app.ingest.relisting import CONFIRM_S, RECHECK_S, RETRY_S, Relistings
from app.kinds.klines import KLINES
from tests.fakes import BTC, NOW_MS, Asked, Counter, Rig, disputes_of, listing, rig, running, truth, unavailable

ETH = Series(KLINES, "ETHUSDT", M1)
FIVES = Series(KLINES, "BTCUSDT", INTERVALS["5m"])
HELD_MS = M1.grid.floor(NOW_MS) - 100 * MINUTE_MS
FIRST_MS = HELD_MS + 62 * MINUTE_MS
MINUTES = 100


class Stage:
    """A rig in which two symbols are held and the exchange's list is recorded."""

    def __init__(self, made: Rig) -> None:
        self.rig = made
        self.dropped = Counter()
        self.settled = Counter()
        self.relistings = self.restarted({})

    def restarted(self, recorded: dict[str, Listing]) -> Relistings:
        made = self.rig
        copies = replace(made.copies, drop=self.dropped)
        made.holdings.set_listings(recorded.values())
        self.relistings = Relistings(made.runtime, made.exchange, made.store, made.committer, copies, self.settled)
        return self.relistings

    async def hold(self, *all_series: Series) -> None:
        for series in all_series:
            grid = series.interval.grid
            opens = list(grid.opens(HELD_MS, HELD_MS + MINUTES * MINUTE_MS))
            rows = [truth(series.symbol, series.interval, open_ms) for open_ms in opens]
            spans = Spans([Span(opens[0], grid.shift(opens[-1], 1))])
            await self.rig.committer.commit([Batch(series, Source.REST, spans, rows)])

    async def listed(self, **changes: object) -> None:
        """The exchange's list, with these changes of BTCUSDT, is read."""
        changed = replace(listing("BTCUSDT"), **changes)  # type: ignore[arg-type]
        self.rig.exchange.symbols = [changed, listing("ETHUSDT")]
        await self.rig.symbols.refresh()
        self.relistings.look()
        await self.relistings.save()

    def held(self, series: Series = BTC) -> Spans:
        return self.rig.holdings.ledger(series).held


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as stage:
        yield stage


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    async with rig(folder) as made:
        stage = Stage(made)
        await stage.listed()
        await stage.hold(BTC, ETH, FIVES)
        yield stage


WHOLE = Spans([Span(HELD_MS, HELD_MS + MINUTES * MINUTE_MS)])


async def test_what_the_exchange_does_not_have_any_more_is_the_former_listing_s(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    await on.listed(onboard_ms=FIRST_MS - 7 * MINUTE_MS)  # the date is a hint; the klines begin later
    assert on.rig.holdings.doubted == {"BTCUSDT"}
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert (on.rig.holdings.doubted, on.relistings.last_error) == (frozenset(), None)
    assert on.held() == Spans([Span(FIRST_MS, WHOLE.hull.end_ms)])
    assert on.held(FIVES).hull.start_ms == FIVES.interval.grid.ceil(FIRST_MS)
    assert on.held(ETH) == WHOLE
    assert on.rig.holdings.since_ms == {"BTCUSDT": FIRST_MS}
    assert on.rig.seen(Relisted) == [Relisted("BTCUSDT", FIRST_MS)]
    assert on.settled.calls, "what is missing now is planned"
    assert (await on.rig.store.listings())["BTCUSDT"].since_ms == FIRST_MS
    asked = [each for each in on.rig.exchange.asked if each.series == BTC]
    assert len(asked) == 2, "one answer proves nothing"


@pytest.mark.parametrize(
    "changes",
    [
        {"onboard_ms": HELD_MS + 10 * MINUTE_MS},  # later than what is held, like BTCUSDT's
        {"precision": Precision(6, 0)},
        {"onboard_ms": 1},
    ],
)
async def test_a_corrected_list_changes_nothing_that_is_held(on: Stage, changes: dict[str, object]) -> None:
    await on.listed(**changes)
    assert on.rig.holdings.doubted == {"BTCUSDT"}
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert (on.rig.holdings.doubted, on.held(), on.rig.holdings.since_ms) == (frozenset(), WHOLE, {})
    before = on.rig.exchange.asked[:]
    await on.listed(**changes)
    assert on.rig.holdings.doubted == frozenset(), "the same list is not doubted again"
    assert on.rig.exchange.asked == before


async def test_an_earlier_date_is_only_a_better_hint(on: Stage) -> None:
    await on.listed(onboard_ms=FIRST_MS)
    async with running(on.relistings.run):
        await on.rig.advance(1)
    await on.listed(onboard_ms=FIRST_MS - 1)
    assert on.rig.holdings.doubted == frozenset()


async def test_an_exchange_that_has_lost_everybody_s_history_is_not_believed(on: Stage) -> None:
    on.rig.exchange.first_ms = FIRST_MS
    await on.listed(onboard_ms=FIRST_MS)
    async with running(on.relistings.run):
        await on.rig.advance(3 * (CONFIRM_S + RETRY_S))
        assert (on.rig.holdings.doubted, on.held()) == (frozenset(("BTCUSDT",)), WHOLE)
        assert "lacks klines of ETHUSDT too" in str(on.relistings.last_error)
        on.rig.exchange.first_ms = 0
        await on.rig.advance(CONFIRM_S + RETRY_S)
    assert (on.rig.holdings.doubted, on.held()) == (frozenset(), WHOLE)


async def test_an_exchange_that_changes_its_mind_is_asked_again(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    await on.listed(onboard_ms=FIRST_MS)
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S / 2)
        on.rig.exchange.begins_ms.clear()
        await on.rig.advance(CONFIRM_S + RETRY_S)
    assert (on.rig.holdings.doubted, on.held()) == (frozenset(), WHOLE)


async def test_a_doubt_outlives_a_restart_and_an_exchange_that_does_not_answer(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    await on.listed(onboard_ms=FIRST_MS)
    on.rig.exchange.error = unavailable()
    async with running(on.relistings.run):
        await on.rig.advance(60)
    assert (on.rig.holdings.doubted, on.held()) == (frozenset(("BTCUSDT",)), WHOLE)
    on.restarted(await on.rig.store.listings())
    assert on.rig.holdings.doubted == {"BTCUSDT"}
    on.rig.exchange.error = None
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert on.held() == Spans([Span(FIRST_MS, WHOLE.hull.end_ms)])


async def test_a_relisting_while_the_node_was_down_is_noticed_at_its_start(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    on.restarted(await on.rig.store.listings())
    await on.listed(onboard_ms=FIRST_MS)
    assert on.rig.holdings.doubted == {"BTCUSDT"}


async def test_what_an_older_version_held_from_before_the_list_s_date_is_doubted(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    on.restarted({})
    await on.listed(onboard_ms=FIRST_MS)
    assert on.rig.holdings.doubted == {"BTCUSDT"}
    assert on.dropped.calls, "nobody is answered from a copy"
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert (on.rig.holdings.doubted, on.held()) == (frozenset(), Spans([Span(FIRST_MS, WHOLE.hull.end_ms)]))


async def test_klines_that_change_hands_later_than_the_list_are_noticed(on: Stage) -> None:
    await on.listed(onboard_ms=FIRST_MS, status="PENDING_TRADING")
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
        assert (on.rig.holdings.doubted, on.held()) == (frozenset(), WHOLE)
        on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
        await on.rig.advance(RECHECK_S)
        on.rig.exchange.begins_ms.clear()
        await on.rig.advance(RECHECK_S)
        on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
        await on.rig.advance(RECHECK_S + CONFIRM_S)
        assert (on.rig.holdings.doubted, on.held()) == (frozenset(), WHOLE), "it may have lost them for a while"
        await on.rig.advance(RECHECK_S)
    assert on.rig.seen(Relisted) == [Relisted("BTCUSDT", FIRST_MS)]
    assert on.held() == Spans([Span(FIRST_MS, WHOLE.hull.end_ms)])


async def test_a_name_that_cannot_be_judged_holds_up_no_other(on: Stage) -> None:
    async def refuse(asked: Asked) -> None:
        if asked.series.symbol == "BTCUSDT":
            raise unavailable()

    on.rig.exchange.gate = refuse
    on.rig.exchange.begins_ms["ETHUSDT"] = FIRST_MS
    on.rig.exchange.symbols = [replace(listing(each), onboard_ms=FIRST_MS) for each in ("BTCUSDT", "ETHUSDT")]
    await on.rig.symbols.refresh()
    on.relistings.look()
    assert on.rig.holdings.doubted == {"BTCUSDT", "ETHUSDT"}
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert on.rig.holdings.doubted == {"BTCUSDT"}
    assert on.held(ETH).hull.start_ms == FIRST_MS


async def test_one_other_kline_that_the_exchange_lacks_is_no_lost_history(on: Stage) -> None:
    await on.hold(Series(KLINES, "SOLUSDT", M1))
    on.rig.exchange.lacking.add((ETH, HELD_MS))
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    on.rig.exchange.symbols = [
        replace(listing("BTCUSDT"), onboard_ms=FIRST_MS),
        listing("ETHUSDT"),
        listing("SOLUSDT"),
    ]
    await on.rig.symbols.refresh()
    on.relistings.look()
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert on.held().hull.start_ms == FIRST_MS


async def test_a_new_listing_without_klines_yet_leaves_nothing_of_the_old_one(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = NOW_MS + 3_600_000
    await on.listed(onboard_ms=NOW_MS + 3_600_000, status="PENDING_TRADING")
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert (on.rig.holdings.doubted, on.held()) == (frozenset(), Spans())


async def test_another_precision_of_the_new_listing_has_its_rows_fetched_anew(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    await on.listed(onboard_ms=FIRST_MS, precision=Precision(6, 0))
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert on.held() == Spans()
    assert on.rig.holdings.ledger(BTC).absent == Spans([Span(0, FIRST_MS)])


async def test_what_the_archive_has_of_the_former_listing_is_never_taken_for_the_new_one_s(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    await on.listed(onboard_ms=FIRST_MS)
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    span = Span(FIRST_MS - 10 * MINUTE_MS, FIRST_MS + 2 * MINUTE_MS)
    rows = [truth("BTCUSDT", M1, open_ms) for open_ms in M1.grid.opens(*span)]
    await on.rig.committer.commit([Batch(BTC, Source.ARCHIVE, Spans([span]), rows)])
    assert on.held().hull.start_ms == FIRST_MS
    assert [row.open_ms for row in await on.rig.stored() if row.open_ms < FIRST_MS] == []


async def test_a_relisting_that_the_exchange_refutes_later_is_taken_back(on: Stage) -> None:
    on.rig.exchange.begins_ms["BTCUSDT"] = FIRST_MS
    await on.listed(onboard_ms=FIRST_MS)
    async with running(on.relistings.run):
        await on.rig.advance(RECHECK_S + CONFIRM_S)
        assert on.rig.holdings.ledger(BTC).absent.hull == Span(0, FIRST_MS), "confirmed once more"
        on.rig.exchange.begins_ms.clear()
        await on.rig.advance(RECHECK_S)
    assert on.rig.seen(RelistingRefuted) == [RelistingRefuted("BTCUSDT", FIRST_MS)]
    assert on.rig.holdings.since_ms == {}
    assert on.rig.holdings.ledger(BTC).known == on.held() == Spans([Span(FIRST_MS, WHOLE.hull.end_ms)])
    assert not on.rig.holdings.ledger(FIVES).absent, "what is unknown is asked for"
    assert (await on.rig.ledger()).entries == on.rig.holdings.ledger(BTC).entries
    listings = await on.rig.store.listings()
    assert (listings["BTCUSDT"].since_ms, listings["BTCUSDT"].onboard_ms) == (0, FIRST_MS)


async def test_a_name_of_which_nothing_is_held_is_not_doubted(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        stage = Stage(made)
        await stage.listed()
        await stage.listed(onboard_ms=FIRST_MS)
        assert made.holdings.doubted == frozenset()
        assert (await made.store.listings())["BTCUSDT"].onboard_ms == FIRST_MS
        assert stage.dropped.calls, "what was read through of the former coin is not remembered either"


@pytest.mark.parametrize(
    ("recorded", "now", "is_doubtful"),
    [
        ({}, {}, False),
        ({"status": "SETTLING", "delivery_ms": NOW_MS - 1}, {"status": "SETTLING", "delivery_ms": NOW_MS - 1}, False),
        ({"status": "SETTLING", "delivery_ms": NOW_MS - 1}, {}, True),
        ({"delivery_ms": NOW_MS + 1}, {}, False),  # a delisting that was called off
        ({}, {"onboard_ms": 1}, True),
    ],
)
def test_what_gives_reason_to_ask(*, recorded: dict[str, object], now: dict[str, object], is_doubtful: bool) -> None:
    before: Symbol = replace(listing("BTCUSDT"), **recorded)  # type: ignore[arg-type]
    after: Symbol = replace(listing("BTCUSDT"), **now)  # type: ignore[arg-type]
    assert Listing.of(before).may_be_another(after, NOW_MS) is is_doubtful


async def test_rows_in_another_listing_s_decimals_are_fetched_again_though_none_is_older(on: Stage) -> None:
    """Found by the simulation: sockets brought a new coin's first minute before the list had told its precision."""
    precision = Precision(6, 3)
    for series, opens in ((BTC, M1.grid.opens(*WHOLE.hull)), (FIVES, FIVES.interval.grid.opens(*WHOLE.hull))):
        for open_ms in opens:
            on.rig.exchange.stated[series, open_ms] = normalise(truth("BTCUSDT", series.interval, open_ms), precision)
    on.rig.exchange.begins_ms["BTCUSDT"] = WHOLE.hull.start_ms
    await on.listed(precision=precision)
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert (on.rig.holdings.doubted, on.relistings.last_error) == (frozenset(), None)
    assert (on.held(), on.held(FIVES), on.held(ETH)) == (Spans(), Spans(), WHOLE)
    assert on.rig.seen(Reprinted) == [Reprinted("BTCUSDT")]
    assert on.rig.seen(Relisted) == []
    assert on.settled.calls, "what is missing now is planned"
    assert await on.rig.stored() == [], "nobody reads them from the store either"
    before = on.rig.exchange.asked[:]
    await on.listed(precision=precision)
    assert (on.rig.holdings.doubted, on.rig.exchange.asked) == (frozenset(), before), "it is asked once"


class Queue:
    """Live ingest beside a stage, whose store cannot be written to at first: klines that close wait in the queue."""

    def __init__(self, on: Stage, rolling: Rolling) -> None:
        self.rig = on.rig
        self.rig.store.failing = True
        copies = on.rig.copies_with(rolling)
        self.live = LiveIngest(
            on.rig.runtime,
            on.rig.streams,
            copies,
            on.rig.committer,
            disputes_of(on.rig),
            lambda _: on.rig.clock.now_ms(),
        )

    async def close(self, open_ms: int) -> Kline:
        """Close a minute, told with few decimals as sockets do."""
        self.rig.clock.ms = max(self.rig.clock.ms, open_ms + MINUTE_MS + 500)
        kline = Kline(open_ms, "1.5", "1.5", "1.5", "1.5", "2", "3", 1, "1", "1.5")
        await self.live.take(KlineEvent("BTCUSDT", M1, open_ms + MINUTE_MS, True, kline))
        return kline

    async def write(self) -> None:
        """The store can be written to again."""
        self.rig.store.failing = False
        await self.live.flush()
        assert self.live.queue_depth == 0


OTHER = Precision(6, 3)
END_MS = WHOLE.hull.end_ms


async def reprint(on: Stage) -> None:
    """Another coin has the name: the list and all of the exchange's klines have other decimals."""
    for series in (BTC, FIVES):
        for open_ms in series.interval.grid.opens(*WHOLE.hull):
            on.rig.exchange.stated[series, open_ms] = normalise(truth("BTCUSDT", series.interval, open_ms), OTHER)
    on.rig.exchange.begins_ms["BTCUSDT"] = WHOLE.hull.start_ms
    await on.listed(precision=OTHER)
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert on.rig.seen(Reprinted) == [Reprinted("BTCUSDT")]


async def test_klines_that_waited_to_be_written_in_a_former_listing_s_decimals_are_not_written(on: Stage) -> None:
    """The disk was full when they closed, and had room again after all rows of the name had been deleted."""
    queue = Queue(on, Rolling([INTERVALS["5m"]]))
    for open_ms in M1.grid.opens(END_MS, END_MS + 5 * MINUTE_MS):
        await queue.close(open_ms)
    assert queue.live.queue_depth >= 5
    await reprint(on)
    kept = normalise(await queue.close(END_MS + 5 * MINUTE_MS), OTHER)
    await queue.write()
    assert await on.rig.stored() == [kept], "those that closed after the list was read have the right ones"
    assert (await on.rig.stored(FIVES), on.held(FIVES)) == ([], Spans())
    assert on.held() == Spans([Span(kept.open_ms, kept.open_ms + MINUTE_MS)]), "the others are planned"


async def test_klines_in_former_decimals_are_not_written_where_nothing_held_gives_them_away(tmp_path: Path) -> None:
    """All klines of the name still wait, so that there is no held row to compare with REST's."""
    async with rig(tmp_path) as made:
        stage = Stage(made)
        await stage.listed()
        queue = Queue(stage, Rolling([]))
        await queue.close(END_MS)
        await stage.listed(precision=OTHER)
        assert made.holdings.doubted == frozenset()
        await queue.write()
        assert (await made.stored(), stage.held()) == ([], Spans())
        kept = normalise(await queue.close(END_MS + MINUTE_MS), OTHER)
        await queue.write()
        assert await made.stored() == [kept]


async def test_klines_that_will_not_be_written_are_not_served_either(on: Stage) -> None:
    """A reader sees a closing kline before its commit; when the commit rejects it, nobody does any longer."""
    queue = Queue(on, Rolling([]))
    await queue.close(END_MS)
    on.rig.exchange.symbols = [replace(listing("BTCUSDT"), precision=OTHER)]
    await on.rig.symbols.refresh()
    on.rig.dropped.clear()
    await queue.write()
    tail = on.rig.tail.get(BTC)
    assert tail is not None
    assert not tail.rows
    assert on.rig.dropped == [(BTC, Span(END_MS, END_MS + MINUTE_MS))]


async def test_klines_of_a_delisted_symbol_that_waited_are_written(on: Stage) -> None:
    queue = Queue(on, Rolling([]))
    await queue.close(END_MS)
    on.rig.exchange.symbols = [listing("ETHUSDT")]
    await on.rig.symbols.refresh()
    await queue.write()
    assert on.held() == Spans([Span(HELD_MS, END_MS + MINUTE_MS)])


async def test_klines_of_a_former_listing_that_waited_are_not_written_under_the_new_one(on: Stage) -> None:
    """Even if both have the same decimals."""
    queue, first_ms = Queue(on, Rolling([])), END_MS + 2 * MINUTE_MS
    for open_ms in (END_MS, END_MS + MINUTE_MS):
        await queue.close(open_ms)
    on.rig.clock.ms = first_ms + 10 * MINUTE_MS
    on.rig.exchange.begins_ms["BTCUSDT"] = first_ms
    await on.listed(onboard_ms=first_ms)
    async with running(on.relistings.run):
        await on.rig.advance(CONFIRM_S + 1)
    assert on.rig.holdings.since_ms == {"BTCUSDT": first_ms}
    await queue.write()
    assert (await on.rig.stored(), on.held()) == ([], Spans())
