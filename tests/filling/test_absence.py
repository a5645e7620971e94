"""The exchange's claim that it has no klines in a span is believed late, and never after one answer."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app.binance.archive_csv import ArchiveFile
from app.domain.interval import D1, DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.filling import absence
from app.filling.absence import AGAIN_MS, ANSWER_AFTER_MS, RECORD_AFTER_MS, Doubt, Unproven
from app.filling.fill import ABSENT_AGE_MS
from app.filling.plan import Fetch
from app.kinds.klines import KLINES
from app.ports.errors import UpstreamGarbage
from app.querying.answer import KlineQuery
from tests.fakes import BTC, DAY0_MS, NOW_MS, Asked, listing, running, unavailable
from tests.filling.reconcile_bench import Bench, bench
from tests.querying.query_desk import HOURS, Asking, Desk, desk, opens, refused

EIGHTS = Series(KLINES, "BTCUSDT", INTERVALS["8h"])
LONG_AGO_MS = DAY0_MS - 900 * DAY_MS
BEGIN_MS = DAY0_MS - 40 * DAY_MS + 7 * HOUR_MS
"""Where the klines begin, or seem to begin."""


def lose_history(on: Bench | Desk, before_ms: int) -> Callable[[], None]:
    """Let REST have no klines before `before_ms`, while the archive keeps all; return a function that restores them."""
    exchange, vault = on.rig.exchange, on.rig.vault
    kept = exchange.first_ms
    exchange.first_ms = before_ms
    vault.first_ms = kept

    def recover() -> None:
        exchange.first_ms = kept

    return recover


# --- the ledger ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("onboard_ms", [LONG_AGO_MS, DAY0_MS])
@pytest.mark.parametrize("is_archive_silent", [True, False])
async def test_history_that_is_lost_for_a_while_is_never_recorded_absent(
    tmp_path: Path, onboard_ms: int, *, is_archive_silent: bool
) -> None:
    """A listing that is later than the first kline that REST still has says nothing about what was before."""
    async with bench(tmp_path, codes=("1m", "1h"), days=3, onboard_ms=onboard_ms) as on:
        recover = lose_history(on, DAY0_MS - DAY_MS + 5 * HOUR_MS)
        on.rig.vault.error = unavailable() if is_archive_silent else None
        async with running(on.reconciler.run):
            await on.rig.advance(RECORD_AFTER_MS[Doubt.NO_FILE] // 1000 + 60)
            assert not on.rig.holdings.ledger(BTC).absent
            assert not on.rig.holdings.ledger(HOURS).absent
            recover()
            on.rig.vault.error = None
            await on.until_whole(1_200)
        assert not on.rig.holdings.ledger(BTC).absent
        await on.holds_the_truth()


async def test_a_proof_does_not_wait_for_a_clock_that_was_put_back(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",), days=3, onboard_ms=LONG_AGO_MS) as on:
        lose_history(on, DAY0_MS - DAY_MS)
        on.rig.vault.error = unavailable()
        job = Fetch(BTC, Span(DAY0_MS - DAY_MS - 10 * MINUTE_MS, DAY0_MS - DAY_MS), is_tail=False)
        numbers = []
        for put_back_ms in (0, 0, HOUR_MS):
            on.rig.clock.ms -= put_back_ms
            with pytest.raises(Unproven):
                await on.filler.fill(job)
            numbers.append(len(on.rig.exchange.asked))
        assert numbers[0] == numbers[1] < numbers[2]


async def test_an_exchange_that_denies_every_kline_proves_nothing_before_a_late_listing(tmp_path: Path) -> None:
    listed_ms = DAY0_MS - DAY_MS
    async with bench(tmp_path, codes=("1m",), days=3, onboard_ms=listed_ms) as on:
        on.rig.exchange.last_ms = 0
        on.rig.vault.error = unavailable()
        job = Fetch(BTC, Span(listed_ms - 10 * MINUTE_MS, listed_ms), is_tail=False)
        for _ in range(4):
            with pytest.raises(UpstreamGarbage):
                await on.filler.fill(job)
            on.rig.clock.ms += RECORD_AFTER_MS[Doubt.NONE]
        assert not on.rig.holdings.ledger(BTC).absent


@pytest.mark.parametrize("held", [HOURS, Series(KLINES, "BTCUSDT", D1)])
async def test_held_rows_of_any_interval_refute_that_there_was_nothing(tmp_path: Path, held: Series) -> None:
    """The listing agrees with the exchange, the archive has no file, and half an hour passes."""
    async with bench(tmp_path, codes=("1m",), days=3, onboard_ms=DAY0_MS - DAY_MS) as on:
        day_ms = DAY0_MS - 2 * DAY_MS
        rows = [on.rig.exchange.kline(held, each) for each in held.interval.grid.opens(day_ms, day_ms + DAY_MS)]
        batch = _batch(held, Span(day_ms, day_ms + DAY_MS), rows)
        await on.rig.committer.commit([batch])
        on.rig.exchange.first_ms = DAY0_MS - DAY_MS
        async with running(on.reconciler.run):
            await on.rig.advance(120)
        assert not on.rig.holdings.ledger(BTC).absent.clip(Span(day_ms, day_ms + DAY_MS))


async def test_rows_before_the_listing_s_date_are_wished_and_held(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m", "1h"), days=4, onboard_ms=DAY0_MS - DAY_MS) as on:
        on.rig.exchange.first_ms = LONG_AGO_MS
        async with running(on.reconciler.run):
            await on.until_whole(600)
        assert on.rig.holdings.ledger(BTC).held.hull.start_ms <= DAY0_MS - 4 * DAY_MS
        await on.holds_the_truth()


@pytest.mark.parametrize("codes", [("1m", "5m", "1h"), ("5m",)])
async def test_a_coin_that_was_listed_this_minute_lacks_nothing(tmp_path: Path, codes: tuple[str, ...]) -> None:
    """What is before its listing is absent at once, not when it is ten minutes old."""
    async with bench(tmp_path, codes=codes, onboard_ms=NOW_MS // MINUTE_MS * MINUTE_MS) as on:
        on.rig.exchange.first_ms = on.onboard_ms
        async with running(on.reconciler.run):
            await on.until_whole(90)
        await on.holds_the_truth()


async def test_the_newest_minutes_are_not_declared_absent_by_a_listing_that_disagrees(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m",), onboard_ms=NOW_MS - DAY_MS) as on:
        lose_history(on, NOW_MS // MINUTE_MS * MINUTE_MS - 2 * MINUTE_MS)
        on.rig.vault.error = unavailable()
        async with running(on.reconciler.run):
            await on.rig.advance(180)
        assert on.rig.holdings.ledger(BTC).absent
        assert not on.rig.holdings.ledger(BTC).absent.clip(Span(on.rig.clock.ms - ABSENT_AGE_MS, NOW_MS))


async def test_no_longer_kline_is_made_of_minutes_with_a_hole(tmp_path: Path) -> None:
    """The exchange may have the hour although it lacks some of its minutes: the hour is fetched."""
    async with bench(tmp_path, codes=("1m", "1h"), days=1) as on:
        hour_ms = DAY0_MS + 3 * HOUR_MS
        on.rig.exchange.lacking.update((BTC, hour_ms + n * MINUTE_MS) for n in range(5))
        await on.rig.committer.commit([_batch(BTC, Span(hour_ms, hour_ms + 5 * MINUTE_MS), [])])
        async with running(on.reconciler.run):
            await on.until_whole(300)
        assert on.rig.holdings.ledger(HOURS).source_at(hour_ms) is Source.REST
        assert on.rig.holdings.ledger(HOURS).source_at(hour_ms - HOUR_MS) is Source.ROLLUP
        await on.holds_the_truth()


# --- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_writer", [True, False])
@pytest.mark.parametrize(
    "asked",
    [
        {"start_ms": 0, "limit": 3},
        {"start_ms": BEGIN_MS - 5 * DAY_MS, "end_ms": BEGIN_MS + DAY_MS, "limit": 99},
        {"end_ms": BEGIN_MS + DAY_MS, "limit": 99},
        {"start_ms": BEGIN_MS - 5 * DAY_MS, "end_ms": BEGIN_MS - 4 * DAY_MS},
        {"end_ms": BEGIN_MS - DAY_MS, "limit": 9},
        {"limit": 500},
    ],
)
async def test_a_listing_long_before_the_first_kline_is_a_hint(
    tmp_path: Path, asked: Asking, *, is_writer: bool
) -> None:
    async with desk(tmp_path, first_ms=BEGIN_MS, is_writer=is_writer) as at:
        at.rig.symbols.listings["BTCUSDT"] = listing("BTCUSDT", LONG_AGO_MS)
        for series in (EIGHTS, HOURS) if "start_ms" in asked else (EIGHTS,):
            caught = await refused(at, series, **asked)
            assert caught.retry_after_s == AGAIN_MS // 1000
            at.rig.clock.ms += AGAIN_MS
            query = _query(series, asked)
            assert (await at.answer(series, **asked)).body == at.oracle(query)
        assert not at.rig.holdings.ledger(EIGHTS).absent


@pytest.mark.parametrize("asked", [{"start_ms": BEGIN_MS, "end_ms": BEGIN_MS + DAY_MS}, {"end_ms": BEGIN_MS + DAY_MS}])
async def test_a_late_listing_does_not_excuse_an_exchange_that_denies_every_kline(
    tmp_path: Path, asked: Asking
) -> None:
    """Found by the simulation: 200 [] before the date stated, while REST lost the rows of every answer."""
    async with desk(tmp_path, first_ms=BEGIN_MS, is_writer=False) as at:
        at.rig.symbols.listings["BTCUSDT"] = listing("BTCUSDT", BEGIN_MS + 5 * DAY_MS)
        at.rig.exchange.last_ms = 0
        for _ in range(3):
            await refused(at, HOURS, **asked)
            at.rig.clock.ms += AGAIN_MS
        at.rig.exchange.last_ms = 1 << 60
        assert (await at.answer(HOURS, **asked)).body == at.oracle(_query(HOURS, asked))


async def test_before_a_listing_that_the_first_kline_agrees_with_there_is_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path, first_ms=BEGIN_MS, is_writer=False) as at:
        at.rig.symbols.listings["BTCUSDT"] = listing("BTCUSDT", BEGIN_MS)
        assert opens(await at.answer(HOURS, start_ms=BEGIN_MS - DAY_MS, end_ms=BEGIN_MS - HOUR_MS)) == []
        assert opens(await at.answer(HOURS, end_ms=BEGIN_MS - HOUR_MS)) == []


@pytest.mark.parametrize("is_archive_silent", [False, True])
async def test_the_first_kline_of_a_symbol_with_a_late_listing_is_answered_at_once(
    tmp_path: Path, *, is_archive_silent: bool
) -> None:
    """BTCUSDT's klines begin 17 days before its listing's date, and clients ask for its first one before all others."""
    async with desk(tmp_path, first_ms=BEGIN_MS, is_writer=False) as at:
        at.rig.symbols.listings["BTCUSDT"] = listing("BTCUSDT", BEGIN_MS + 17 * DAY_MS)
        at.rig.vault.first_ms = BEGIN_MS
        at.rig.vault.error = unavailable() if is_archive_silent else None
        if is_archive_silent:
            assert (await refused(at, HOURS, start_ms=0, limit=1)).retry_after_s == AGAIN_MS // 1000
            at.rig.clock.ms += AGAIN_MS
        assert opens(await at.answer(HOURS, start_ms=0, limit=1)) == [BEGIN_MS]


@pytest.mark.parametrize("onboard_ms", [LONG_AGO_MS, BEGIN_MS + 17 * DAY_MS])
@pytest.mark.parametrize("asked", [{"start_ms": 0, "limit": 3}, {"end_ms": BEGIN_MS + 2 * DAY_MS, "limit": 99}])
async def test_lost_history_is_not_answered_with(tmp_path: Path, asked: Asking, onboard_ms: int) -> None:
    async with desk(tmp_path, first_ms=LONG_AGO_MS, is_writer=False) as at:
        at.rig.symbols.listings["BTCUSDT"] = listing("BTCUSDT", onboard_ms)
        recover = lose_history(at, BEGIN_MS)
        for _ in range(20):
            await refused(at, EIGHTS, **asked)
            at.rig.clock.ms += 10_000
        recover()
        assert (await at.answer(EIGHTS, **asked)).body == at.oracle(_query(EIGHTS, asked))


@pytest.mark.parametrize("status", ["SETTLING", "CLOSE"])
@pytest.mark.parametrize(
    "asked",
    [
        {"start_ms": BEGIN_MS + 9 * DAY_MS, "end_ms": BEGIN_MS + 12 * DAY_MS},
        {"start_ms": BEGIN_MS + 9 * DAY_MS},
        {"start_ms": BEGIN_MS - 2 * DAY_MS, "end_ms": BEGIN_MS + 2 * DAY_MS, "limit": 99},
        {"end_ms": BEGIN_MS + 9 * DAY_MS, "limit": 7},
        {"end_ms": BEGIN_MS + DAY_MS, "limit": 7},
        {"limit": 7},
        {"limit": 7, "only_final": False},
    ],
)
async def test_behind_the_last_kline_of_a_settled_symbol_there_is_nothing(
    tmp_path: Path, asked: Asking, status: str
) -> None:
    async with desk(tmp_path, first_ms=LONG_AGO_MS, is_writer=False) as at:
        gone = replace(listing("BTCUSDT", LONG_AGO_MS, status=status), delivery_ms=BEGIN_MS)
        at.rig.symbols.listings["BTCUSDT"] = gone
        at.rig.exchange.last_ms = BEGIN_MS
        for series in (EIGHTS, HOURS, Series(KLINES, "BTCUSDT", INTERVALS["1d"])):
            assert (await at.answer(series, **asked)).body == at.oracle(_query(series, asked)), series


@pytest.mark.parametrize("is_writer", [True, False])
@pytest.mark.parametrize("hours", [1, 3, 60])
@pytest.mark.parametrize(
    "asked",
    [
        {"start_ms": BEGIN_MS - DAY_MS, "end_ms": BEGIN_MS + 4 * DAY_MS, "limit": 500},
        {"start_ms": BEGIN_MS - DAY_MS, "limit": 30},
        {"start_ms": BEGIN_MS, "limit": 3},
        {"start_ms": BEGIN_MS - DAY_MS, "end_ms": BEGIN_MS, "limit": 99},
        {"start_ms": BEGIN_MS, "end_ms": BEGIN_MS},
        {"end_ms": BEGIN_MS + 4 * DAY_MS, "limit": 99},
        {"end_ms": BEGIN_MS, "limit": 4},
    ],
)
async def test_a_hole_that_the_exchange_stands_by_is_answered_and_named(
    tmp_path: Path, asked: Asking, hours: int, *, is_writer: bool
) -> None:
    async with desk(tmp_path, first_ms=LONG_AGO_MS, is_writer=is_writer) as at:
        at.rig.exchange.lacking.update((HOURS, BEGIN_MS + n * HOUR_MS) for n in range(hours))
        assert (await refused(at, HOURS, **asked)).retry_after_s == AGAIN_MS // 1000
        known = at.rig.holdings.ledger(HOURS).known
        assert not known, "what was refused is not kept"
        at.rig.clock.ms += AGAIN_MS
        answer = await at.answer(HOURS, **asked)
        assert answer.body == at.oracle(_query(HOURS, asked))
        assert answer.holes
        assert answer.holes[0].start_ms == max(BEGIN_MS, asked.get("start_ms") or 0)
        assert not at.rig.holdings.ledger(HOURS).absent, "the ledger takes longer to believe it"


async def test_several_holes_take_no_longer_than_one(tmp_path: Path) -> None:
    async with desk(tmp_path, first_ms=LONG_AGO_MS, is_writer=False) as at:
        at.rig.exchange.lacking.update((HOURS, BEGIN_MS + n * HOUR_MS) for n in range(0, 12, 2))
        asked: Asking = {"start_ms": BEGIN_MS - DAY_MS, "end_ms": BEGIN_MS + DAY_MS, "limit": 99}
        await refused(at, HOURS, **asked)
        at.rig.clock.ms += AGAIN_MS
        answer = await at.answer(HOURS, **asked)
        assert answer.body == at.oracle(_query(HOURS, asked))
        assert len(answer.holes) == 6


async def test_a_hole_that_is_not_there_when_asked_in_another_way_is_refused(tmp_path: Path) -> None:
    async with desk(tmp_path, first_ms=LONG_AGO_MS, is_writer=False) as at:
        exchange = at.rig.exchange
        window = Span(BEGIN_MS - DAY_MS, BEGIN_MS + DAY_MS)

        async def lie(question: Asked) -> None:
            is_lying = question.window is not None and question.window.start_ms == window.start_ms
            exchange.lacking = {(HOURS, BEGIN_MS)} if is_lying else set()

        exchange.gate = lie
        for _ in range(4):
            await refused(at, HOURS, start_ms=window.start_ms, end_ms=window.end_ms - 1, limit=99)
            at.rig.clock.ms += AGAIN_MS
        exchange.gate = None
        exchange.lacking = set()
        found = await at.answer(HOURS, start_ms=window.start_ms, end_ms=window.end_ms - 1, limit=99)
        assert len(opens(found)) == 48


async def test_an_archive_that_does_not_answer_keeps_no_reader_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ArchiveFile] = []

    async def hang(file: ArchiveFile) -> bool:
        asked.append(file)
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(absence, "FILE_S_MAX", 0.01)
    async with desk(tmp_path) as at:
        at.rig.symbols.listings["BTCUSDT"] = listing("BTCUSDT", LONG_AGO_MS)
        monkeypatch.setattr(at.rig.vault, "has", hang)
        for number, later_ms in ((1, 0), (1, MINUTE_MS - 1), (2, 1)):
            at.rig.clock.ms += later_ms
            assert await at.absence.doubt(HOURS, HOURS.interval.grid, BEGIN_MS) is Doubt.UNHEARD
            assert len(asked) == number


async def test_two_lapses_far_apart_are_no_proof(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        judge, span = at.absence, Span(0, BEGIN_MS)
        assert judge.note_claim(BTC, span, MINUTE_MS) == 0
        at.rig.clock.ms += MINUTE_MS
        assert judge.note_claim(BTC, span, MINUTE_MS) == MINUTE_MS
        at.rig.clock.ms += MINUTE_MS + 1
        assert judge.note_claim(BTC, Span(0, BEGIN_MS - 1), MINUTE_MS) == 0
        assert judge.note_claim(BTC, span) == 2 * MINUTE_MS + 1, "a user may have waited longer"
        judge.found(BTC, Span(BEGIN_MS - 5, BEGIN_MS))
        assert judge.note_claim(BTC, span) == 0


def test_users_never_wait_longer_than_the_docs_say() -> None:
    assert max(ANSWER_AFTER_MS.values()) == 30 * MINUTE_MS


def _query(series: Series, asked: Asking) -> KlineQuery:
    return KlineQuery(series, None, None, 5, True)._replace(**asked)


def _batch(series: Series, span: Span, rows: Sequence[Kline]) -> Batch:
    return Batch(series, Source.REST if rows else Source.ABSENT, Spans([span]), rows)
