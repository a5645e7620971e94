"""What a session wants is done on sockets and by requests, and what happens there is told to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from app.collecting.book_chain import BookRule
from app.collecting.ledger import SequenceLedger
from app.collecting.run import SENDS_WAITING_MAX, VenueRunner, _Wire
from app.collecting.session import Session
from app.collector_events import VenueSocketLost
from app.domain.records import DataType, Feed, Record
from app.events import Event
from app.ports.venue_io import Answer, VenueLost
from app.runtime import Runtime
from tests.collecting.fake_venue_io import FakeSocket, FakeVenueIo
from tests.collecting.made import BTC, chance, feed, shown, trades_body, venue
from tests.fakes import ManualClock, turn

TRADES = feed(DataType.TRADE)
TURNS = 20  # of the event loop: more than any step of these tests needs


class Running:
    """A runner with its fakes. Time stands still unless a test moves it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.io = FakeVenueIo()
        self.records: list[Record] = []
        self.events: list[Event] = []
        self.session = Session(venue(), SequenceLedger(), BookRule(1_000), 1, chance())
        self.runner = VenueRunner(self.session, self.io, self._publish, Runtime(self.clock, self.events.append))

    def _publish(self, records: Sequence[Record]) -> None:
        self.records += records

    @asynccontextmanager
    async def run(self, *feeds: Feed) -> AsyncIterator[None]:
        if feeds:
            self.runner.follow(frozenset(feeds))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.runner.run())
            await turn(TURNS)
            try:
                yield
            finally:
                task.cancel()

    async def pass_s(self, seconds: float) -> None:
        await self.clock.advance(seconds, lambda: turn(TURNS))

    async def opened(self, number: int) -> FakeSocket:
        """Let time pass until so many sockets were opened; return the last one."""
        for _ in range(100):
            if len(self.io.sockets) >= number:
                break
            await self.pass_s(1)
        return self.io.sockets[number - 1]

    async def accept(self, socket: FakeSocket) -> None:
        """Accept the socket's subscription."""
        wishes = [msgspec.json.decode(text) for text in socket.sent]
        wish = next(each for each in wishes if each["op"] == "subscribe")
        socket.push(msgspec.json.encode({"kind": "accepted", "id": wish["id"], "names": wish["names"]}))
        await turn(TURNS)


def frame(*sequences: int) -> bytes:
    rows = [[each, str(each), "10.5", "1", each * 100] for each in sequences]
    return msgspec.json.encode({"kind": "trades", "native": BTC.native, "rows": rows})


async def test_frames_become_records_and_a_gap_is_filled_by_a_request() -> None:
    running = Running()
    running.io.answer = Answer(200, {}, trades_body(5, 6, 7, 8))
    async with running.run(TRADES):
        [socket] = running.io.sockets
        assert socket.route == "/market"
        await running.accept(socket)
        socket.push(frame(5), frame(8))
        await turn(TURNS)
        assert [request.path for request in running.io.requests] == ["/trades"]
    assert shown(running.records) == [
        5,
        ("open", "sequence_broken", 6, 8),
        8,
        6,
        7,
        ("closed", "sequence_broken", 6, 8),
    ]
    assert socket.closes == 1


async def test_a_lost_socket_is_a_gap_the_library_s_words_are_logged_and_another_is_opened() -> None:
    running = Running()
    async with running.run(TRADES):
        [socket] = running.io.sockets
        await running.accept(socket)
        socket.push(frame(5))
        socket.lose("the other end closed it")
        await turn(TURNS)
        assert socket.closes == 1
        successor = await running.opened(2)
        await running.accept(successor)
        successor.push(frame(7))
        await turn(TURNS)
    assert running.events == [VenueSocketLost("model", "/market", "the other end closed it")], "not of one closed by us"
    assert shown(running.records)[:2] == [5, ("open", "disconnected", 6, 7)]


async def test_a_socket_that_is_not_accepted_and_a_request_that_fails_are_told() -> None:
    running = Running()
    running.io.refusal = "HTTP 403"
    async with running.run(TRADES):
        assert not any(each.is_open for each in running.session.status().sockets)
        running.io.refusal = ""
        running.io.answer = VenueLost("timed out")
        assert running.events == [VenueSocketLost("model", "/market", "HTTP 403")]
        socket = await running.opened(1)
        await running.accept(socket)
        socket.push(frame(5, 8))
        await turn(TURNS)
        assert running.session.status().fault == "timed out"
        assert running.session.status().counters["requests_failed"] == 1


async def test_a_socket_that_takes_nothing_is_closed_when_its_queue_is_full() -> None:
    wire = _Wire()
    for number in range(SENDS_WAITING_MAX):
        wire.send(str(number))
    assert (wire.is_wanted, wire.closing.is_set()) == (True, False)
    wire.send("one more")
    assert (wire.is_wanted, wire.closing.is_set()) == (False, True)


async def test_a_stuck_socket_ends_when_the_session_wants_it_no_longer() -> None:
    running = Running()
    async with running.run(TRADES):
        [socket] = running.io.sockets
        await running.accept(socket)
        socket.is_stuck = True
        await running.opened(2)  # keep-alives wait, and nothing is heard
        assert socket.closes == 1


async def test_frames_that_come_after_the_session_has_closed_a_socket_are_not_taken() -> None:
    running = Running()
    async with running.run(TRADES):
        [socket] = running.io.sockets
        await running.accept(socket)
        running.runner.follow(frozenset())
        socket.push(frame(5))
        await turn(TURNS)
        await running.pass_s(1)
    assert running.records == []


async def test_a_second_run_goes_on_with_what_the_first_one_knew() -> None:
    running = Running()
    async with running.run(TRADES):
        [first] = running.io.sockets
        await running.accept(first)
        first.push(frame(5))
        await turn(TURNS)
    assert first.closes == 1
    assert not any(each.is_open for each in running.session.status().sockets)
    async with running.run():
        second = await running.opened(2)
        await running.accept(second)
        second.push(frame(7))
        await turn(TURNS)
    assert shown(running.records)[:3] == [5, ("open", "disconnected", 6, 7), 7]
