"""Whether what the stream holds is the truth, or says where it is not."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Final

from app.collecting.kline_sequence import grid_of, sequence_of
from app.collecting.open_gaps import is_counted
from app.domain.gap_reason import GapReason
from app.domain.interval import MINUTE_MS
from app.domain.records import (
    BookDelta,
    BookSnapshot,
    DataType,
    Feed,
    FundingRate,
    Gap,
    GapState,
    KlineRecord,
    Record,
    Trade,
    feed_of,
)
from tests.collecting.model_exchange import ModelInstrument
from tests.programs.collect_seeds.schedule import BEGIN_MS
from tests.programs.collect_seeds.world import FEEDS, World

FRESH_MS: Final = 15_000


def failures(world: World) -> list[str]:
    """What is wrong with a seed that was played."""
    if world.failures:
        return world.failures
    found = [*_standing(world)]
    by_feed: dict[Feed, list[Record]] = defaultdict(list)
    for record in world.stream:
        by_feed[feed_of(record)].append(record)
    for feed in world.feeds:
        found += [f"{feed.instrument.symbol} {feed.data_type}: {fault}" for fault in _feed(world, feed, by_feed[feed])]
    for feed in FEEDS - world.feeds:
        found += [f"left {feed.instrument.symbol} {feed.data_type}: {fault}" for fault in _left(by_feed[feed])]
    return found


def _left(records: list[Record]) -> Iterator[str]:
    """What is wrong with a feed that is followed no longer."""
    yield from _state_gaps(records)
    stored = {each.sequence for each in records if isinstance(each, Trade)}
    opens = {each.open_ms for each in records if isinstance(each, KlineRecord) and each.is_final}
    grid = grid_of("1m")
    gaps = [each for each in records if isinstance(each, Gap) and is_counted(each)]
    yield from _open_gaps(gaps, stored | {sequence_of(grid, open_ms) for open_ms in opens})


def _standing(world: World) -> Iterator[str]:
    status = world.session.status()
    for feed in status.feeds:
        if feed.open_gaps or feed.state != "live":
            name = f"{feed.feed.instrument.symbol} {feed.feed.data_type}"
            yield f"{name} ends as {feed.state}, {feed.open_gaps} open gaps"
    for socket in status.sockets:
        if socket.channels != socket.wanted and socket.since_ms < world.now_ms - FRESH_MS:
            yield f"{socket} lacks channels"
    if status.refused:
        yield f"refused: {status.refused}"


def _feed(world: World, feed: Feed, records: list[Record]) -> Iterator[str]:
    instrument = world.instruments[feed.instrument.native]
    gaps = [record for record in records if isinstance(record, Gap)]
    if not records:
        yield "nothing was stored"
        return
    match feed.data_type:
        case DataType.TRADE:
            begin_ms = world.begun_ms[feed]
            yield from _trades(instrument, [each for each in records if isinstance(each, Trade)], gaps, begin_ms)
        case DataType.KLINE:
            begin_ms = world.begun_ms[feed]
            klines = [each for each in records if isinstance(each, KlineRecord)]
            yield from _klines(instrument, klines, gaps, (begin_ms, world.now_ms - MINUTE_MS - FRESH_MS))
        case DataType.ORDERBOOK:
            yield from _book(instrument, records, world.now_ms)
            yield from _state_gaps(records)
        case DataType.FUNDING_RATE:
            yield from _funding(instrument, [each for each in records if isinstance(each, FundingRate)], world.now_ms)
        case DataType.TICKER | DataType.OPEN_INTEREST:
            last = next(each for each in reversed(records) if not isinstance(each, Gap))
            if last.timestamp_ms < world.now_ms - 2 * FRESH_MS:
                yield "the newest is old"
            yield from _state_gaps(records)


def _trades(instrument: ModelInstrument, trades: list[Trade], gaps: list[Gap], begin_ms: int) -> Iterator[str]:
    stored: dict[str, Trade] = {}
    for trade in trades:
        if (trade.price, trade.quantity, trade.sequence) != _first(stored, trade):
            yield f"trade {trade.trade_id} was stored twice and differs"
        stored.setdefault(trade.trade_id, trade)
    truth = {row[1]: row for row in instrument.trades}
    for trade_id, trade in stored.items():
        if truth.get(trade_id) != [trade.sequence, trade_id, trade.price, trade.quantity, trade.timestamp_ms]:
            yield f"trade {trade_id} never happened"
    confirmed = [gap for gap in gaps if gap.state is GapState.CONFIRMED]
    for sequence, trade_id, _, _, time_ms in instrument.trades:
        if time_ms < begin_ms:
            continue
        covering = [gap for gap in confirmed if _covers(gap, sequence, time_ms)]
        if trade_id not in stored and not covering:
            yield f"trade {trade_id} at {time_ms - BEGIN_MS} is lost in silence"
        is_served = trade_id.startswith(f"{len(instrument.era_begins)}-")  # numbers used again hide the older trades
        if is_served and any(gap.reason != GapReason.RESET for gap in covering):
            yield f"trade {trade_id} is called lost ({covering[0].reason}), and the exchange has it"
    if confirmed and len(instrument.era_begins) == 1 and any(gap.reason == GapReason.RESET for gap in confirmed):
        yield "a reset that never was"
    yield from _open_gaps(gaps, {trade.sequence for trade in trades})


def _first(stored: dict[str, Trade], trade: Trade) -> tuple[str, str, int]:
    first = stored.get(trade.trade_id, trade)
    return first.price, first.quantity, first.sequence


def _covers(gap: Gap, sequence: int, time_ms: int) -> bool:
    if gap.from_sequence is None or gap.to_sequence is None or gap.reason == GapReason.RESET:
        return gap.from_ms <= time_ms <= gap.to_ms
    return gap.from_sequence <= sequence < gap.to_sequence and gap.from_ms <= time_ms <= gap.to_ms


def _klines(
    instrument: ModelInstrument, klines: list[KlineRecord], gaps: list[Gap], opens: tuple[int, int]
) -> Iterator[str]:
    grid = grid_of("1m")
    stored = {kline.open_ms: kline for kline in klines if kline.is_final}
    for kline in klines:
        row = instrument.klines.get(kline.open_ms)
        if kline.is_final and (row is None or [kline.open, kline.close, kline.volume] != [row[1], row[4], row[5]]):
            yield f"the final of {kline.open_ms} differs"
    lost: set[int] = set()
    for gap in gaps:
        if gap.state is GapState.CONFIRMED and gap.from_sequence is not None and gap.to_sequence is not None:
            lost.update(range(gap.from_sequence, gap.to_sequence))
    finals = [open_ms for open_ms, row in instrument.klines.items() if row[6]]
    for open_ms in range(*opens, MINUTE_MS):
        sequence = sequence_of(grid, open_ms)
        if open_ms not in stored and sequence not in lost:
            yield f"the final of {open_ms - BEGIN_MS} is lost in silence"
        if open_ms in finals and sequence in lost:
            yield f"the final of {open_ms - BEGIN_MS} is called lost, and the exchange has it"
    yield from _open_gaps(gaps, {sequence_of(grid, open_ms) for open_ms in stored})


def _open_gaps(gaps: list[Gap], stored: set[int]) -> Iterator[str]:
    ended: set[int] = set()
    for gap in gaps:
        if gap.state is not GapState.OPEN and gap.from_sequence is not None and gap.to_sequence is not None:
            ended.update(range(gap.from_sequence, gap.to_sequence))
    for gap in gaps:
        if gap.state is GapState.OPEN:
            assert gap.from_sequence is not None, "gaps of sequences have sequences"
            assert gap.to_sequence is not None, "gaps of sequences have sequences"
            left = [each for each in range(gap.from_sequence, gap.to_sequence) if each not in ended | stored]
            if left:
                yield f"the gap [{gap.from_sequence}, {gap.to_sequence}) {gap.reason} stays open at {left[:5]}"


def _state_gaps(records: list[Record]) -> Iterator[str]:
    for index, gap in enumerate(records):
        if isinstance(gap, Gap) and gap.state is GapState.OPEN and not is_counted(gap):
            later = [each for each in records[index:] if isinstance(each, Gap) and each.state is not GapState.OPEN]
            if not any(each.to_ms >= gap.from_ms for each in later):
                yield f"the gap from {gap.from_ms - BEGIN_MS} ({gap.reason}) stays open"


def _book(instrument: ModelInstrument, records: list[Record], now_ms: int) -> Iterator[str]:
    epoch = sequence = -1
    bids: dict[str, str] | None = None
    asks: dict[str, str] = {}
    last: BookSnapshot | BookDelta | None = None
    for record in records:
        if isinstance(record, Gap):
            if record.state is GapState.OPEN and record.from_sequence is not None:
                if record.from_sequence != sequence + 1:
                    yield f"a gap numbered {record.from_sequence} after {sequence}"
                bids, sequence = None, sequence + 1
            continue
        assert isinstance(record, BookSnapshot | BookDelta), "a book's records"
        if epoch == record.epoch and record.sequence != sequence + 1:
            yield f"record {record.sequence} follows {sequence}"
        if epoch > record.epoch:
            yield "an old epoch"
        if epoch != record.epoch:
            bids = None
        epoch, sequence, last = record.epoch, record.sequence, record
        if isinstance(record, BookSnapshot):
            bids, asks = dict(record.bids), dict(record.asks)
            if list(record.bids) != sorted(record.bids, key=_price, reverse=True):
                yield "bids are not descending"
            if list(record.asks) != sorted(record.asks, key=_price):
                yield "asks are not ascending"
        elif bids is None:
            yield f"a delta {record.sequence} without a snapshot"
            continue
        else:
            yield from _apply(bids, record.bids)
            yield from _apply(asks, record.asks)
        if not any(
            _is_best_of(bids, truth[0], best=max) and _is_best_of(asks, truth[1], best=min)
            for truth in instrument.books.get(record.native_sequence, ())
        ):
            yield f"the book differs at {record.native_sequence}, own {record.sequence}"
            return
    if last is None or last.timestamp_ms < now_ms - FRESH_MS:
        yield "the book's newest record is old"


def _apply(side: dict[str, str], levels: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for price, amount in levels:
        if amount != "0":
            if side.get(price) == amount:
                yield f"a change of {price} that changes nothing"
            side[price] = amount
        elif side.pop(price, None) is None:
            yield f"a delete of {price}, which is not in the book"


def _is_best_of(held: dict[str, str], truth: dict[str, str], best: object) -> bool:
    """Whether `held` are exactly the levels of `truth` up to the worst price held."""
    if not held or held.keys() - truth.keys():
        return False
    prices = [_decimal(price) for price in held]
    expected = {
        price: amount
        for price, amount in truth.items()
        if (_decimal(price) >= min(prices) if best is max else _decimal(price) <= max(prices))
    }
    return held == expected


def _price(level: tuple[str, str]) -> int:
    return _decimal(level[0])


@cache
def _decimal(price: str) -> int:
    whole, _, fraction = price.partition(".")
    return int(whole) * 10 + int(fraction or "0")


def _funding(instrument: ModelInstrument, rates: list[FundingRate], now_ms: int) -> Iterator[str]:
    paid = {rate.funding_ms: rate.rate for rate in rates if rate.is_final}
    for rate, funding_ms, _, _ in instrument.paid:
        if funding_ms < now_ms - 10 * MINUTE_MS and paid.get(funding_ms) != rate:
            yield f"the rate of {funding_ms - BEGIN_MS} is lost"
    finals = [rate.funding_ms for rate in rates if rate.is_final]
    if paid.keys() - {row[1] for row in instrument.paid}:
        yield "a rate that was never paid"
    if len(finals) > len(set(finals)) * 3:
        yield "paid rates are repeated"
