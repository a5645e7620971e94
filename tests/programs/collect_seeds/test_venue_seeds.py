"""Seeds of the whole collector against the sandbox's exchanges end whole, and each of the checks can fail."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

import pytest

from app.collecting.effects import Effect, Emit
from app.collecting.rest_gate import RestGate
from app.domain.interval import MINUTE_MS
from app.domain.records import DataType
from infra.sandbox.venue import Answer
from tests.programs.collect_seeds.reader import Market, Reader, ReadGap
from tests.programs.collect_seeds.run import play
from tests.programs.collect_seeds.venue_check import failures
from tests.programs.collect_seeds.venue_plan import EXCHANGES, plan
from tests.programs.collect_seeds.venue_process import Process, stand_down_ms
from tests.programs.collect_seeds.venue_world import VenueWorld

SEEDS: Final = 5  # of each exchange; `make collect-sim` plays thousands


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_seeds_end_whole(exchange: str, seed: int) -> None:
    found, _ = play(seed, exchange)
    assert found == [], f"make collect-sim SEEDS=1 SEED={seed} EXCHANGE={exchange}"


def test_a_seed_plays_the_same_every_time() -> None:
    streams = []
    for _ in range(2):
        world = VenueWorld(plan(3, "binance"))
        world.run()
        streams.append(world.stream.stored)
    assert streams[0] == streams[1]


def test_a_number_that_looks_like_a_refusal_is_none() -> None:
    assert stand_down_ms(Answer(200, {}, b'{"openInterest":"10028.5","symbol":"BTCUSDT"}'), 1_000) == 0
    assert stand_down_ms(Answer(400, {}, b'{"error":{"message":"too_many_requests","code":10028}}'), 1_000) > 1_000


@cache
def whole_world() -> VenueWorld:
    """A seed of which everything is followed, with kills and lost frames."""
    wanted = {"gap", "kill"}
    found = (plan(seed, "okx") for seed in range(1_000))
    chosen = next(
        each
        for each in found
        if len(each.types) == len(DataType) and each.is_double and wanted <= {kind for _, kind in each.mishaps}
    )
    world = VenueWorld(chosen)
    world.run()
    return world


class Broken:
    """A reader whose stream is spoiled in one point, and the names to find it."""

    def __init__(self) -> None:
        self.world = whole_world()
        self.reader = Reader(self.world.stream.stored)
        instrument = self.world.instruments[0]
        self.market = Market(instrument.native, instrument.market.value)
        self.trades = self.reader.trades[self.market]
        self.middle = sorted(self.trades)[len(self.trades) // 2]

    def gap(self, data_type: str, state: str, first: int | None, end: int | None) -> None:
        """Add a gap of the last minute."""
        now_ms = self.world.now_ms
        gap = ReadGap(state, "made", now_ms - MINUTE_MS, now_ms, first, end)
        self.reader.gaps[self.market, data_type].append(gap)


def test_the_world_that_is_spoiled_below_is_whole() -> None:
    assert failures(whole_world()) == []


def lose_a_trade(broken: Broken) -> None:
    del broken.trades[broken.middle]


def change_a_digit(broken: Broken) -> None:
    trade = broken.trades[broken.middle]
    broken.trades[broken.middle] = trade._replace(price=trade.price + "1")


def turn_a_side(broken: Broken) -> None:
    trade = broken.trades[broken.middle]
    broken.trades[broken.middle] = trade._replace(is_buyer_maker=not trade.is_buyer_maker)


def call_a_trade_lost(broken: Broken) -> None:
    broken.gap("trade", "confirmed", broken.middle, broken.middle + 1)


def leave_a_gap_of_trades_open(broken: Broken) -> None:
    newest = max(broken.trades)
    broken.gap("trade", "open", newest, newest + 2)


def lose_a_final(broken: Broken) -> None:
    finals = broken.reader.finals[broken.market]
    del finals[sorted(finals)[1]]


def change_a_final(broken: Broken) -> None:
    finals = broken.reader.finals[broken.market]
    open_ms = min(finals)
    finals[open_ms] = {**finals[open_ms], "volume": "0"}


def lose_a_paid_rate(broken: Broken) -> None:
    paid = broken.reader.paid[broken.market]
    del paid[max(paid)]


def change_a_paid_rate(broken: Broken) -> None:
    paid = broken.reader.paid[broken.market]
    paid[max(paid)] += "1"


def lose_a_change_of_the_book(broken: Broken) -> None:
    deltas = [each for each in broken.reader.books[broken.market] if not each["is_snapshot"] and each["bids"]]
    chosen = deltas[len(deltas) // 2]
    chosen["bids"] = chosen["bids"][1:]


def lose_a_record_of_the_book_and_count_on(broken: Broken) -> None:
    records = broken.reader.books[broken.market]
    lost = next(index for index, each in enumerate(records) if index > 20 and not each["is_snapshot"] and each["bids"])
    epoch = records[lost]["epoch"]
    for each in records[lost + 1 :]:
        each["sequence"] -= each["epoch"] == epoch
    del records[lost]


def leave_a_gap_of_the_book_open(broken: Broken) -> None:
    broken.gap("orderbook", "open", None, None)


def leave_a_gap_of_the_ticker_open(broken: Broken) -> None:
    broken.gap("ticker", "open", None, None)


def change_an_open_interest(broken: Broken) -> None:
    broken.reader.states[broken.market, "open_interest"][-1]["amount"] += "1"


def let_the_ticker_end(broken: Broken) -> None:
    del broken.reader.states[broken.market, "ticker"][10:]


SPOILED: Final[Sequence[tuple[Callable[[Broken], None], str]]] = (
    (lose_a_trade, "lost in silence"),
    (change_a_digit, "is not"),
    (turn_a_side, "is not"),
    (call_a_trade_lost, "called lost"),
    (leave_a_gap_of_trades_open, "stays open"),
    (lose_a_final, "lost in silence"),
    (change_a_final, "instead of"),
    (lose_a_paid_rate, "is lost"),
    (change_a_paid_rate, "instead of"),
    (lose_a_change_of_the_book, "BTC"),
    (lose_a_record_of_the_book_and_count_on, "BTC"),
    (leave_a_gap_of_the_book_open, "stays open"),
    (leave_a_gap_of_the_ticker_open, "stays open"),
    (change_an_open_interest, "instead of"),
    (let_the_ticker_end, "the newest is old"),
)


@pytest.mark.parametrize(("spoil", "fault"), SPOILED, ids=lambda each: getattr(each, "__name__", None))
def test_the_check_finds_a_stream_that_is_wrong(spoil: Callable[[Broken], None], fault: str) -> None:
    broken = Broken()
    spoil(broken)
    found = failures(broken.world, broken.reader)
    assert found, "it survives"
    assert fault in found[0]


def ledger_is_written_before_storing(patch: pytest.MonkeyPatch) -> None:
    """What is only in memory is noted as stored."""
    do: Callable[[Process, list[Effect]], None] = Process._do

    def hasty(self: Process, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Emit):
                self._stored([effect.record])
        do(self, effects)

    patch.setattr(Process, "_do", hasty)


def requests_go_on_in_a_stand_down(patch: pytest.MonkeyPatch) -> None:
    """What the exchange says about its limits is not heard."""
    patch.setattr(RestGate, "stand_down", lambda self, until_ms: None)


@pytest.mark.parametrize(
    ("mutate", "mishaps", "fault"),
    [
        (ledger_is_written_before_storing, ("stream_away", "kill"), "lost in silence"),
        (requests_go_on_in_a_stand_down, ("http_429", "kill"), "before the stand-down ended"),
    ],
)
def test_the_check_finds_a_collector_that_is_wrong(
    mutate: Callable[[pytest.MonkeyPatch], None],
    mishaps: tuple[str, str],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    first, second = mishaps
    usual = plan(1, "deribit")
    times = ((usual.begin_ms + 20_000, first), (usual.begin_ms + 21_800, second))
    types = (DataType.TRADE, DataType.KLINE, DataType.FUNDING_RATE)
    world = VenueWorld(replace(usual, active_ms=50_000, rate=2.0, types=types, is_double=True, mishaps=times))
    world.run()
    assert any(fault in each for each in failures(world)), f"{mutate.__name__} survives"
