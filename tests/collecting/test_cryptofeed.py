"""cryptofeed as an oracle: it makes equal trades and equal books of the sandbox's frames, where it loses none."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

import msgspec
import pytest

from app.collecting.effects import Effect, Emit
from app.domain.records import BookDelta, BookSnapshot, DataType, Record, Trade
from tests.programs.bench.collector_oracle import Seen
from tests.programs.bench.collector_ours import SOCKET, Reader, Tape
from tests.programs.bench.collector_tapes import record_all
from tests.programs.bench.part_collector import PEERS, is_alone, run_there
from tests.programs.bench.pinned import PinnedClock

FRAMES = 40
LACKING = f"no cryptofeed: {PEERS} names an interpreter that has it (docs/benchmarks.md)"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Tape, Seen]]:
    """Every tape with what cryptofeed saw."""
    if is_alone():
        pytest.skip(LACKING)
    tapes = list(record_all(FRAMES, PinnedClock.made(tmp_path_factory.mktemp("tapes") / "clock", 0)))
    answer = run_there("tests.programs.bench.collector_oracle", tapes)
    seen = msgspec.json.decode(answer, type=list[Seen] | None)
    if seen is None:
        pytest.skip(LACKING)
    return list(zip(tapes, seen, strict=True))


def test_cryptofeed_makes_the_same_trades_of_the_same_frames(pairs: list[tuple[Tape, Seen]]) -> None:
    for tape, seen in pairs:
        if tape.case.data_type is DataType.TRADE:
            mine = [
                (each.trade_id, Decimal(each.price), Decimal(each.amount), each.is_buyer_maker, each.timestamp_ms)
                for each in records(tape)
                if isinstance(each, Trade)
            ]
            theirs = [
                (each.trade_id, Decimal(each.price), Decimal(each.amount), each.side == "sell", each.timestamp_ms)
                for each in seen.trades
            ]
            assert len(theirs) >= FRAMES
            assert mine == theirs, tape.case.name


def test_cryptofeed_holds_the_same_book_at_every_sequence_number(pairs: list[tuple[Tape, Seen]]) -> None:
    for tape, seen in pairs:
        if tape.case.data_type is DataType.ORDERBOOK:
            mine = dict(books(records(tape)))
            assert len(seen.books) >= FRAMES // 2
            for theirs in seen.books:
                assert mine[theirs.sequence] == (exact(theirs.bids.items()), exact(theirs.asks.items())), tape.case.name


def records(tape: Tape) -> list[Record]:
    """The records of a session that hears the tape, opening included."""
    effects: list[Effect] = []
    session = Reader(tape).session(effects)
    for received_ms, text in tape.frames:
        effects += session.received(SOCKET, text.encode(), received_ms)
    return [each.record for each in effects if isinstance(each, Emit)]


def books(found: Iterable[Record]) -> Iterator[tuple[int, tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]]]:
    """A reader's book by the exchange's sequence number."""
    sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
    for record in found:
        if isinstance(record, BookSnapshot):
            sides = (exact(record.bids), exact(record.asks))
        elif isinstance(record, BookDelta):
            for side, levels in zip(sides, (record.bids, record.asks), strict=True):
                side.update(exact(levels))
                for price in [price for price, amount in side.items() if not amount]:
                    del side[price]
        else:
            continue
        yield record.native_sequence, (dict(sides[0]), dict(sides[1]))


def exact(levels: Iterable[tuple[str, str]]) -> dict[Decimal, Decimal]:
    """Amounts by price, whatever zeros they are written with."""
    return {Decimal(price): Decimal(amount) for price, amount in levels}
