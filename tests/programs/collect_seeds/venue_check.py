"""Whether what a reader has of a seed is the sandbox's truth, or is named as missing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from app.collecting.kline_sequence import grid_of, sequence_of
from app.domain.instrument import QUANTITY_DECIMALS, Instrument
from app.domain.records import DataType, Feed
from infra.sandbox.grid import HOUR_MS, MINUTE_MS
from infra.sandbox.venue_truth import VenueTruth
from tests.programs.collect_seeds.book_check import TrueBook, book_faults
from tests.programs.collect_seeds.reader import Market, Reader, ReadGap, ReadTrade, time_ms
from tests.programs.collect_seeds.venue_klines import true_klines
from tests.programs.collect_seeds.venue_world import VenueWorld

IN_FLIGHT_MS: Final = 4_000
"""What happened so shortly before the end may still be on its way."""
FINAL_MS: Final = 30_000
"""A final kline is there so long after its end."""
PAID_MS: Final = 60_000
"""A paid rate is there so long after it was paid."""
FRESH_MS: Final = {"binance": 70_000, "okx": 20_000, "deribit": 20_000}
"""A state is not older at the end; Binance's open interest is polled every minute."""
BOOK_LEVELS: Final = {"binance": 1_000, "okx": 400, "deribit": 1_000}
REQUESTS_A_MINUTE: Final = 90
SENDS_A_MINUTE: Final = 150
OPENS_A_MINUTE: Final = 40


def failures(world: VenueWorld, reader: Reader | None = None) -> list[str]:
    """What is wrong with a seed that was played; `reader` is what read its stream."""
    reader = reader or Reader(world.stream.stored)
    found = [*world.failures, *reader.faults, *_pace(world), *_standing(world)]
    for feed in sorted(world.feeds, key=str):
        name = f"{feed.instrument.native} {feed.data_type}"
        found += [f"{name}: {fault}" for fault in _feed(world, feed, reader)]
    return found


def _pace(world: VenueWorld) -> Iterator[str]:
    for process in world.processes:
        if process.counts["ticks"] > 1_000 + (world.now_ms - world.plan.begin_ms) * TICKS_PER_S_MAX // 1_000:
            yield f"the session was woken {process.counts['ticks']} times"
    for name, limit in (("fetched_ms", REQUESTS_A_MINUTE), ("sent_ms", SENDS_A_MINUTE), ("opened_ms", OPENS_A_MINUTE)):
        times = Counter(at_ms // MINUTE_MS for process in world.processes for at_ms in getattr(process, name))
        if times and max(times.values()) > limit:
            yield f"a storm: {max(times.values())} in a minute of {name}"


TICKS_PER_S_MAX: Final = 20


def _standing(world: VenueWorld) -> Iterator[str]:
    status = world.process.session.status()
    for feed in status.feeds:
        if feed.open_gaps or feed.state != "live":
            name = f"{feed.feed.instrument.native} {feed.feed.data_type}"
            yield f"{name} ends as {feed.state}, {feed.open_gaps} open gaps"
    for socket in status.sockets:
        if socket.channels != socket.wanted and socket.since_ms < world.now_ms - 30_000:
            yield f"{socket} lacks channels"
    if status.refused:
        yield f"refused at the end: {status.refused}"


def _feed(world: VenueWorld, feed: Feed, reader: Reader) -> Iterator[str]:
    instrument = feed.instrument
    market = Market(instrument.native, instrument.market.value)
    gaps = reader.gaps[market, "kline" if feed.interval else feed.data_type.value]
    match feed.data_type:
        case DataType.TRADE:
            yield from trade_faults(world, feed, reader.trades[market], gaps)
        case DataType.KLINE:
            yield from _klines(world, feed, reader.finals[market], gaps)
        case DataType.ORDERBOOK:
            plan = world.plan
            truth = VenueTruth(world.venues)
            true = TrueBook(truth, plan.exchange, instrument.native, BOOK_LEVELS[plan.exchange], world.now_ms)
            may_break = any(kind.startswith(("stream", "kill")) for _, kind in plan.mishaps)
            yield from book_faults(
                reader.books[market], gaps, true, is_windowed=plan.exchange == "binance", may_break=may_break
            )
            yield from _state_gaps(gaps)
        case DataType.FUNDING_RATE:
            yield from _fundings(world, instrument, reader.paid[market])
        case DataType.TICKER | DataType.OPEN_INTEREST:
            yield from _states(world, feed, reader.states[market, feed.data_type.value])
            yield from _state_gaps(gaps)


def trade_faults(world: VenueWorld, feed: Feed, trades: dict[int, ReadTrade], gaps: list[ReadGap]) -> Iterator[str]:
    """What is wrong with the trades of one instrument."""
    first = world.machine.begun.get(feed)
    if first is None or not trades:
        yield "nothing was stored"
        return
    until_ms = world.now_ms - IN_FLIGHT_MS
    truth = {row["number"]: row for row in _true_trades(world, feed.instrument, min(first, *trades))}
    for sequence, trade in trades.items():
        row = truth.get(sequence)
        if row is None or not _is_equal(feed.instrument, trade, row):
            yield f"{trade} is not {row}"
    lost = _spans(gaps, "confirmed")
    for sequence, row in truth.items():
        if sequence < first or row["time_ms"] > until_ms:
            continue
        if sequence not in trades and sequence not in lost:
            yield f"trade {sequence} is lost in silence"
        if sequence in lost:
            yield f"trade {sequence} is called lost, and the exchange has it"
    yield from _open_gaps(gaps, trades.keys())


def _true_trades(world: VenueWorld, instrument: Instrument, first: int) -> list[dict[str, Any]]:
    truth, exchange, native = VenueTruth(world.venues), world.plan.exchange, instrument.native
    if exchange == "binance":
        return truth.aggregates(native, first, 1 << 60, world.now_ms)
    return truth.trades(exchange, native, first, 1 << 60, world.now_ms)


def _is_equal(instrument: Instrument, trade: ReadTrade, row: dict[str, Any]) -> bool:
    price, amount = Decimal(row["price"]), Decimal(row["size"])
    quantity = amount * Decimal(instrument.contract_size)
    if instrument.is_inverse:
        quantity = (quantity / price).quantize(Decimal(1).scaleb(-QUANTITY_DECIMALS))
    return (
        (Decimal(trade.price), Decimal(trade.amount), trade.timestamp_ms) == (price, amount, row["time_ms"])
        and Decimal(trade.quantity) == quantity
        and trade.trade_id != ""
        and trade.is_buyer_maker == (row["side"] == "sell")
    )


def _klines(world: VenueWorld, feed: Feed, finals: dict[int, dict[str, str]], gaps: list[ReadGap]) -> Iterator[str]:
    if not finals:
        yield "no final was stored"
        return
    truth = true_klines(world, feed.instrument, min(finals))
    grid, lost = grid_of(feed.interval), _spans(gaps, "confirmed")
    for open_ms, final in finals.items():
        if final != truth.get(open_ms):
            yield f"the final of {open_ms} is {final} instead of {truth.get(open_ms)}"
    for open_ms in range(min(finals), world.now_ms - MINUTE_MS - FINAL_MS + 1, MINUTE_MS):
        sequence = sequence_of(grid, open_ms)
        if open_ms not in finals and sequence not in lost:
            yield f"the final of {open_ms} is lost in silence"
        if sequence in lost:
            yield f"the final of {open_ms} is called lost, and the exchange has it"
    yield from _open_gaps(gaps, {sequence_of(grid, open_ms) for open_ms in finals})


def _fundings(world: VenueWorld, instrument: Instrument, paid: dict[int, str]) -> Iterator[str]:
    if not paid:
        yield "no paid rate was stored"
        return
    paid = {at_ms // MINUTE_MS * MINUTE_MS: rate for at_ms, rate in paid.items()}  # Binance prints some ms later
    first_ms = world.plan.begin_ms - 23 * HOUR_MS
    rows = VenueTruth(world.venues).fundings(
        world.plan.exchange, instrument.native, min(first_ms, *paid), world.now_ms, world.now_ms
    )
    hours = 8 if world.plan.exchange == "deribit" else 1  # the truth has rates for eight hours, paid is one
    truth = {row["time_ms"]: Decimal(row["rate"]) / hours for row in rows}
    for at_ms, rate in paid.items():
        if truth.get(at_ms) != Decimal(rate):
            yield f"the rate paid at {at_ms} is {rate} instead of {truth.get(at_ms)}"
    for at_ms in truth:
        if first_ms <= at_ms < world.now_ms - PAID_MS and at_ms not in paid:
            yield f"the rate paid at {at_ms} is lost"


def _states(world: VenueWorld, feed: Feed, states: list[dict[str, Any]]) -> Iterator[str]:
    if not states or states[-1]["at_ms"] < world.now_ms - FRESH_MS[world.plan.exchange]:
        yield "the newest is old"
    for before, after in pairwise(states):
        if before["timestamp"] == after["timestamp"] and before["received"] > after["received"]:
            yield f"{after['timestamp']} comes behind a newer one"
    if feed.data_type is DataType.OPEN_INTEREST:
        yield from _interests(world, feed.instrument, states)


def _interests(world: VenueWorld, instrument: Instrument, states: Iterable[dict[str, Any]]) -> Iterator[str]:
    truth = VenueTruth(world.venues)
    for state in states:
        at_ms = time_ms(state["timestamp"])
        real = truth.open_interest(world.plan.exchange, instrument.native, at_ms)["size"]
        if Decimal(state["amount"]) != Decimal(real):
            yield f"the open interest at {at_ms} is {state['amount']} instead of {real}"


def _spans(gaps: list[ReadGap], state: str) -> set[int]:
    found: set[int] = set()
    for gap in gaps:
        if gap.state == state and gap.first is not None and gap.end is not None:
            found.update(range(gap.first, gap.end))
    return found


def _open_gaps(gaps: list[ReadGap], stored: Iterable[int]) -> Iterator[str]:
    ended = {*_spans(gaps, "closed"), *_spans(gaps, "confirmed"), *stored}
    for gap in gaps:
        if gap.state == "open":
            assert gap.first is not None, "gaps of sequences have sequences"
            assert gap.end is not None, "gaps of sequences have sequences"
            left = [each for each in range(gap.first, gap.end) if each not in ended]
            if left:
                yield f"the gap [{gap.first}, {gap.end}) {gap.reason} stays open at {left[:5]}"


def _state_gaps(gaps: list[ReadGap]) -> Iterator[str]:
    for index, gap in enumerate(gaps):
        if gap.state == "open" and not any(
            later.state == "confirmed" and later.to_ms >= gap.from_ms for later in gaps[index:]
        ):
            yield f"the gap from {gap.from_ms} ({gap.reason}) stays open"
