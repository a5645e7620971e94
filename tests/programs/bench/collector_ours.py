"""The collector's own work on recorded frames: decoding them, the session's rules, and the way into JetStream.

It needs `app` and `infra` only, so that the interpreter of those it is compared with can run it too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import msgspec

from app.collecting.book_chain import BookRule
from app.collecting.effects import Effect, Emit, Open
from app.collecting.kept_outbox import Batching, Hooks, KeptOutbox
from app.collecting.ledger import SequenceLedger
from app.collecting.plans import StreamLimits, stream_plans
from app.collecting.session import Session
from app.deribit.venue import DeribitVenue
from app.domain.instrument import Instrument, Market
from app.domain.market_events import Trades
from app.domain.records import DataType, Feed, Record, Trade
from app.okx.venue import OkxVenue
from app.ports.venue import Venue
from infra.nats.publisher import JetStreamPublisher
from infra.process.clock import SystemClock
from infra.spill.segments import SegmentSpill

SOCKET: Final = 1
"""The number that a session gives its first socket."""
STREAM_BYTES: Final = 1 << 30
CHUNK: Final = 64  # frames that a busy socket hands over at once
WAITING_MAX: Final = 4_000
"""Records that may wait for the stream while frames are fed as fast as it takes them: no spill begins."""


class Exchange(NamedTuple):
    """How an exchange is read."""

    make: Callable[[], Venue]
    book_rule: BookRule


EXCHANGES: Final = {
    "okx": Exchange(OkxVenue, BookRule(is_delete_known=True)),
    "deribit": Exchange(DeribitVenue, BookRule(is_delete_known=True)),
}


class Case(msgspec.Struct, frozen=True):
    """A feed whose frames are measured; `rate` is the trades a second that its exchange makes."""

    name: str
    exchange: str
    data_type: DataType
    market: Market
    symbol: str
    rate: float


class Tape(msgspec.Struct, frozen=True):
    """What the session of `case` hears: first what opens it, then `frames`, each with the time it was received.

    `instruments` are answers that list the exchange's instruments; `route` is that of the only socket.
    """

    case: Case
    instruments: list[str]
    route: str
    opening: list[tuple[int, str]]
    frames: list[tuple[int, str]]


class Reader:
    """A tape with what reads it."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.exchange = EXCHANGES[tape.case.exchange]
        self.venue: Venue = self.exchange.make()
        instruments = [each for body in tape.instruments for each in self.venue.read_instruments(body.encode())]
        self.venue.learn(instruments)
        self.feed = feed_of(tape.case, instruments)
        self.frames = [(received_ms, text.encode()) for received_ms, text in tape.frames]

    def decode(self) -> tuple[int, float]:
        """How many trades, or frames of a book, and the processor time in seconds: bytes to values."""
        read, route = self.venue.read, self.tape.route
        began_s = time.process_time()
        for received_ms, frame in self.frames:
            read(route, frame, received_ms)
        spent_s = time.process_time() - began_s
        return self.count(), spent_s

    def follow(self) -> tuple[int, float]:
        """The same for everything up to the records: bytes to what shall be published, sequences checked."""
        session = self.session()
        received, records = session.received, 0
        began_s = time.process_time()
        for received_ms, frame in self.frames:
            records += len(received(SOCKET, frame, received_ms))
        spent_s = time.process_time() - began_s
        counters = session.status().counters
        assert counters.keys() <= {"messages"}, f"frames without fault, but {counters}"
        is_book = self.feed.data_type is DataType.ORDERBOOK  # of whose frames some change nothing
        assert is_book or records == self.count(), f"{records} records of {self.count()}"
        return self.count(), spent_s

    def session(self, effects: list[Effect] | None = None) -> Session:
        """A session that has heard the tape's opening; what it wanted done is added to `effects`."""
        begin_ms = self.tape.opening[0][0]
        session = Session(self.venue, SequenceLedger(), self.exchange.book_rule, begin_ms, Random(1))
        opened = session.follow(frozenset([self.feed]), begin_ms)
        assert any(type(each) is Open and each.socket == SOCKET for each in opened), "the session opens its socket"
        session.opened(SOCKET, begin_ms)
        for received_ms, text in self.tape.opening:
            wanted = session.received(SOCKET, text.encode(), received_ms)
            if effects is not None:
                effects += wanted
        return session

    def count(self) -> int:
        """The trades on the tape, or the frames of a book."""
        if self.feed.data_type is not DataType.TRADE:
            return len(self.frames)
        events = (event for at_ms, frame in self.frames for event in self.venue.read(self.tape.route, frame, at_ms))
        return sum(len(event.trades) for event in events if type(event) is Trades)


class Published(NamedTuple):
    """Trades that the stream has acknowledged, and what that took."""

    trades: int
    wall_s: float
    cpu_s: float


def feed_of(case: Case, instruments: Sequence[Instrument]) -> Feed:
    """The feed of a case."""
    wanted = (case.market, case.symbol)
    return Feed(next(each for each in instruments if (each.market, each.symbol) == wanted), case.data_type)


async def publish(reader: Reader, url: str, folder: Path) -> Published:
    """Feed the tape as fast as the stream takes it."""
    async with _outbox(url, folder, lambda _: None) as outbox:
        session = reader.session()
        frames = reader.frames
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for at in range(0, len(frames), CHUNK):
            for received_ms, frame in frames[at : at + CHUNK]:
                _put(outbox, session.received(SOCKET, frame, received_ms))
            await _turn()
            while outbox.status().waiting > WAITING_MAX:
                await _turn()
        await outbox.flush()
        found = Published(reader.count(), time.perf_counter() - began_s, time.process_time() - cpu_s)
        status = outbox.status()
        assert (status.refused, status.is_spilling) == (0, False), f"all goes to the stream at once, but {status}"
    return found


async def latencies(reader: Reader, url: str, folder: Path, per_s: float) -> list[float]:
    """The times in ms from a frame to the acknowledgement of its trades, with so many frames a second."""
    begun_s: dict[int, float] = {}
    found: list[float] = []

    def stored(records: Sequence[Record]) -> None:
        now_s = time.perf_counter()
        found.extend((now_s - begun_s[each.sequence]) * 1_000 for each in records if type(each) is Trade)

    async with _outbox(url, folder, stored) as outbox:
        session, clock = reader.session(), SystemClock()
        began_s = time.perf_counter()
        for number, (received_ms, frame) in enumerate(reader.frames):
            due_s = began_s + number / per_s
            while time.perf_counter() < due_s:
                await clock.sleep(max(0.0, due_s - time.perf_counter()))
            now_s = time.perf_counter()
            effects = session.received(SOCKET, frame, received_ms)
            for effect in effects:
                if type(effect) is Emit and type(effect.record) is Trade:
                    begun_s[effect.record.sequence] = now_s
            _put(outbox, effects)
        await outbox.flush()
    return found


def _put(outbox: KeptOutbox, effects: Sequence[Effect]) -> None:
    for effect in effects:
        if type(effect) is Emit:
            outbox.put(effect.record)


@asynccontextmanager
async def _outbox(url: str, folder: Path, stored: Callable[[Sequence[Record]], None]) -> AsyncIterator[KeptOutbox]:
    """The outbox of trades, publishing to `url`."""
    clock, chance = SystemClock(), Random(1)
    plans = stream_plans(StreamLimits(STREAM_BYTES, 3_600, 600))
    publisher = JetStreamPublisher(url, plans, clock, chance)

    def damaged(what: str) -> None:
        raise AssertionError(what)

    spill = SegmentSpill(folder, STREAM_BYTES, damaged)
    hooks = Hooks(stored, lambda _, reason: damaged(reason), lambda reason: None)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(publisher.run())]
        while publisher.fault() is not None:
            await clock.sleep(0.01)
        outbox = KeptOutbox(publisher, spill, clock, chance, hooks, Batching())
        running.append(tasks.create_task(outbox.run()))
        try:
            yield outbox
        finally:
            for task in running:
                task.cancel()
            spill.close()


async def _turn() -> None:
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    await passed.wait()
