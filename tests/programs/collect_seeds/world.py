"""One seed in virtual time: the exchange, the network, the process with its ledger, and the stream that stores."""

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from random import Random
from typing import Final

import msgspec

from app.collecting.book_chain import BookRule
from app.collecting.effects import Close, Effect, Emit, Fetch, Open, Send
from app.collecting.ledger import SequenceLedger
from app.collecting.session import Session
from app.domain.records import DataType, Feed, Gap, GapState, Record, feed_of
from app.domain.venue import Request
from tests.collecting.model_exchange import SNAPSHOT_LEVELS, ModelInstrument
from tests.collecting.model_venue import INSTRUMENTS, LIMITS, ModelVenue
from tests.programs.collect_seeds.network import Connection, Faults, Network, read_message
from tests.programs.collect_seeds.schedule import ACTIVE_MS, BEGIN_MS, QUIET_MS, Plan

TYPES: Final = tuple(DataType)
FEEDS: Final = frozenset(
    Feed(instrument, data_type, "1m" if data_type is DataType.KLINE else "")
    for instrument in INSTRUMENTS
    for data_type in TYPES
)
TRADES_END_MS: Final = 100_000
"""Trades stop so long before the end, so that the last are only found by asking."""
SAVE_EVERY_MS: Final = 5_000
RESET_TWICE_MS: Final = (200, 4_000)
"""So long after a count of trades has begun, another one begins in half of the cases."""
LEFT: Final = 3
"""Feeds that are left for good."""
CALM_PACE: Final = 4  # at the end trades and books come so much slower, to spare processor time
TICKS_PER_S_MAX: Final = 20


class World:
    """Everything of one seed. `failures` says what broke a rule on the way; `check.py` judges the stream."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chance = Random(f"world {plan.seed}")
        self.now_ms = BEGIN_MS
        self.end_ms = BEGIN_MS + ACTIVE_MS + QUIET_MS
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.stream: list[Record] = []
        self.venue = self._venue()
        self.instruments = {
            each.native: ModelInstrument(
                each.native, Random(f"{each.native} {plan.seed}"), self.venue, BEGIN_MS, absent_part=plan.absent_part
            )
            for each in INSTRUMENTS
        }
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._event = 0
        self._saved = SequenceLedger().to_text()
        self._faults = Faults()
        self._epoch = 0
        self._ticks = 0
        self._run = 0
        self.feeds = FEEDS
        self.wished = FEEDS
        """What is followed for good; `feeds` is what is followed at present."""
        self.begun_ms: dict[Feed, int] = {}
        """Where each feed begins: the time of the first that the written ledger ever held."""
        self._begin_process()

    def run(self) -> None:
        """Play the seed."""
        for instrument in self.instruments.values():
            self._every(1_500, instrument.trade, until_ms=self.end_ms - TRADES_END_MS)
            self._every(900, instrument.move_book)
            self._every(10_000, instrument.kline)
            self._every(20_000, instrument.fund)
            self._every(5_000, instrument.tick)
        for time_ms, kind in self.plan.mishaps:
            self.later(time_ms - self.now_ms, lambda kind=kind: self._mishap(kind))  # type: ignore[misc]
        self.later(ACTIVE_MS, self._calm)
        while self._events and self._events[0][0] <= self.end_ms and not self.failures:
            self.now_ms, _, call = heappop(self._events)
            call()
        self.counts.update(self.session.status().counters)

    def later(self, after_ms: int, call: Callable[[], None]) -> None:
        """Call something later."""
        self._event += 1
        heappush(self._events, (self.now_ms + after_ms, self._event, call))

    # --- the exchange

    def _every(
        self, mean_ms: int, happen: Callable[[int], Iterable[tuple[str, bytes]]], until_ms: int | None = None
    ) -> None:
        def go() -> None:
            if until_ms is not None and self.now_ms >= until_ms:
                return
            for name, frame in happen(self.now_ms):
                self.network.push(name, frame, self.now_ms)
            calm = CALM_PACE if self.now_ms > BEGIN_MS + ACTIVE_MS and mean_ms < 5_000 else 1
            self.later(calm * self.chance.randint(mean_ms // 2, mean_ms * 3 // 2), go)

        self.later(self.chance.randint(0, mean_ms), go)

    # --- the process

    def _venue(self) -> ModelVenue:
        plan = self.plan
        venue = ModelVenue(plan.is_streamed, plan.has_final_flag, plan.is_newest_page)
        venue.learn(INSTRUMENTS)
        return venue

    def _begin_process(self) -> None:
        self._run += 1
        self._epoch += 1_000
        self.ledger = SequenceLedger.from_text(self._saved)
        rule = BookRule(None, True) if self.plan.is_streamed else BookRule(SNAPSHOT_LEVELS, False)
        self.session = Session(self.venue, self.ledger, rule, self._epoch, Random(f"{self.plan.seed} {self._run}"))
        self.network = Network(self.chance, self.later, self._deliver, self._faults)
        self._stored_ms = self.now_ms
        self._under_way: set[int] = set()
        self._woken_ms = 0
        self._do(self.session.follow(self.feeds, self.now_ms))
        for gap in self.ledger.ends(self.venue.name, self.feeds, self.now_ms):
            self._publish(gap)
        self._save(self._run)

    def _end_process(self) -> None:
        self.counts.update(self.session.status().counters)
        self.network.is_gone = True
        self.network.connections.clear()
        self._run += 1

    def _save(self, run: int) -> None:
        if run == self._run:
            self._write()
            self.later(SAVE_EVERY_MS, lambda: self._save(run))

    def _write(self) -> None:
        self._saved = self.ledger.to_text()
        for feed in FEEDS:
            if feed not in self.begun_ms and (span := next(iter(self.ledger.known(feed)), None)) is not None:
                self.begun_ms[feed] = span.from_ms

    def _deliver(self, number: int, frame: bytes) -> None:
        self._do(self.session.received(number, frame, self.now_ms))

    def _wake(self, run: int, wake_ms: int) -> None:
        if run == self._run and wake_ms == self._woken_ms:
            self._woken_ms = 0
            self._ticks += 1
            if self._ticks > 1_000 + TICKS_PER_S_MAX * (self.now_ms - BEGIN_MS) // 1_000:
                self.failures.append("the session wants to be woken all the time")
            self._do(self.session.tick(self.now_ms))

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Emit(record):
                    self._publish(record)
                case Open(number, route):
                    self._open(Connection(number, route))
                case Close(number):
                    self._close(number)
                case Send(number, text):
                    self._send(number, text)
                case Fetch(number, request):
                    self._fetch(number, request)
        wake_ms = self.session.wake_ms()
        wake_ms = max(wake_ms, self.now_ms + 1)
        if wake_ms != self._woken_ms and wake_ms < self.end_ms:
            self._woken_ms, run = wake_ms, self._run
            self.later(wake_ms - self.now_ms, lambda: self._wake(run, wake_ms))

    # --- the stream

    def _publish(self, record: Record) -> None:
        run, ledger = self._run, self.ledger
        if isinstance(record, Gap):
            ledger.announce(record)
            if record.state is GapState.OPEN:
                self._write()
        self._stored_ms = max(self._stored_ms, self.now_ms) + self.chance.choice((0, 0, 1, 30))

        def store() -> None:
            if run == self._run:
                self.stream.append(record)
                self.later(self.chance.randint(0, 400), acknowledge)

        def acknowledge() -> None:
            if run == self._run:
                for gap in ledger.record(record):
                    self._publish(gap)
                if feed_of(record) not in self.begun_ms:
                    self._write()

        self.later(self._stored_ms - self.now_ms, store)

    # --- sockets

    def _open(self, connection: Connection) -> None:
        self.network.connections[connection.number] = connection
        run = self._run

        def open_it() -> None:
            if run != self._run or connection.number not in self.network.connections:
                return
            if self.now_ms < self._faults.no_connects_until_ms:
                self._cut(connection, "refused")
                return
            connection.is_open = True
            self._do(self.session.opened(connection.number, self.now_ms))

        self.later(self.network.latency_ms(self.now_ms) * 2, open_it)

    def _close(self, number: int) -> None:
        run = self._run
        connection = self.network.connections.pop(number, None)
        if connection is not None and connection.is_open:
            self.later(5, lambda: self._closed(run, number, "closed by us"))

    def _closed(self, run: int, number: int, reason: str) -> None:
        if run == self._run:
            self._do(self.session.closed(number, reason, self.now_ms))

    def _cut(self, connection: Connection, reason: str) -> None:
        if self.network.connections.pop(connection.number, None) is not None:
            self._closed(self._run, connection.number, reason)

    def _send(self, number: int, text: str) -> None:
        connection = self.network.connections.get(number)
        if connection is None or not connection.is_open:
            self.failures.append(f"sent on socket {number}, which is not open")
            return
        connection.heard_ms = max(connection.heard_ms, self.now_ms + self.network.latency_ms(self.now_ms))
        self.later(connection.heard_ms - self.now_ms, lambda: self._hear(connection, text))

    def _hear(self, connection: Connection, text: str) -> None:
        message = read_message(text)
        match message["op"]:
            case "pong":
                pass
            case "ping":
                self._answer(connection, {"kind": "pong"})
            case "unsubscribe":
                connection.names.difference_update(message["names"])
                connection.muted.difference_update(message["names"])
                self._answer(connection, {"kind": "accepted", "id": message["id"], "names": []})
            case "subscribe":
                self._subscribe(connection, message["id"], message["names"])

    def _subscribe(self, connection: Connection, request_id: int, names: list[str]) -> None:
        refused = [name for name in names if name in self._faults.refused]
        accepted = [name for name in names if name not in refused]
        if len(connection.names) + len(accepted) > LIMITS.channels_per_socket_max:
            self.failures.append("too many channels on one socket")
        if self._faults.acknowledgements_lost:
            self._faults.acknowledgements_lost -= 1
        else:
            for name in refused:
                self._answer(connection, {"kind": "refused", "id": request_id, "name": name})
            if accepted:
                self._answer(connection, {"kind": "accepted", "id": request_id, "names": accepted})
        connection.names.update(accepted)
        for name in accepted:
            if name.startswith("book:") and self.plan.is_streamed:
                if self._faults.snapshots_missing:
                    self._faults.snapshots_missing -= 1
                    continue
                snapshot = self.instruments[name.partition(":")[2]].snapshot(self.now_ms, 1_000)
                self.network.send(connection, snapshot, self.now_ms)

    def _answer(self, connection: Connection, value: dict[str, object]) -> None:
        self.network.send(connection, msgspec.json.encode(value), self.now_ms)

    # --- requests

    def _fetch(self, number: int, request: Request) -> None:
        self.counts["fetches"] += 1
        self._under_way.add(number)
        if len(self._under_way) > 4:
            self.failures.append("too many requests at once")
        params = dict(request.params)
        run, arrives_ms = self._run, self.network.latency_ms(self.now_ms)

        def arrive() -> None:
            if self.now_ms < self._faults.rest_fails_until_ms:
                failure = self.chance.choice(("failed", "500", "garbage"))
                self.later(300, lambda: self._end_fetch(run, number, failure, b""))
            elif self.now_ms < self._faults.rest_limited_until_ms:
                self.later(30, lambda: self._end_fetch(run, number, "429", b""))
            else:
                body = self.instruments[params["native"]].answer(request.path, params, self.now_ms)
                self.later(self.network.latency_ms(self.now_ms), lambda: self._end_fetch(run, number, "", body))

        self.later(arrives_ms, arrive)

    def _end_fetch(self, run: int, number: int, failure: str, body: bytes) -> None:
        if run != self._run:
            return
        self._under_way.discard(number)
        match failure:
            case "failed":
                self._do(self.session.failed(number, "timed out", self.now_ms))
            case "garbage":
                self._do(self.session.answered(number, 200, {}, b"<html>", self.now_ms))
            case "500":
                self._do(self.session.answered(number, 500, {}, b"oops", self.now_ms))
            case "429":
                self._do(self.session.answered(number, 429, {"retry-after": "5"}, b"{}", self.now_ms))
            case _:
                self._do(self.session.answered(number, 200, {}, body, self.now_ms))

    # --- mishaps

    def _calm(self) -> None:
        for instrument in self.instruments.values():
            instrument.absent_part = 0.0
        self._faults = Faults()
        self.network.faults = self._faults
        for connection in self.network.connections.values():
            connection.muted.clear()

    def _mishap(self, kind: str) -> None:
        self.counts[f"mishap {kind}"] += 1
        faults, chance = self._faults, self.chance
        connections = [each for each in self.network.connections.values() if each.is_open]
        one = chance.choice(connections) if connections else None
        name = chance.choice(sorted(one.names)) if one is not None and one.names else ""
        lasting_ms = self.now_ms + chance.randint(2_000, 60_000)
        match kind:
            case "gap":
                faults.drop += chance.randint(1, 6)
            case "duplicate":
                faults.repeat += chance.randint(1, 20)
            case "delay":
                faults.slow_until_ms = lasting_ms
            case "refuse_connects":
                faults.no_connects_until_ms = lasting_ms
            case "refuse_channel":
                refused = f"{chance.choice(('trade', 'book', 'ticker'))}:{chance.choice(sorted(self.instruments))}"
                faults.refused.add(refused)
                self.later(lasting_ms - self.now_ms, lambda: faults.refused.discard(refused))
            case "lose_acknowledgement":
                faults.acknowledgements_lost += chance.randint(1, 3)
            case "rest_fails":
                faults.rest_fails_until_ms = lasting_ms
            case "rest_limited":
                faults.rest_limited_until_ms = lasting_ms
            case "snapshot_missing":
                faults.snapshots_missing += 1
            case "reset_book":
                instrument = chance.choice(list(self.instruments.values()))
                for channel, frame in instrument.reset_book(self.now_ms):
                    self.network.push(channel, frame, self.now_ms)
            case "reset_trades":
                instrument = chance.choice(list(self.instruments.values()))
                instrument.reset_trades()
                if chance.random() < 0.5:
                    self.later(chance.randint(*RESET_TWICE_MS), instrument.reset_trades)
            case "kill" if not self.network.is_gone:
                self._end_process()
                self.later(chance.randint(500, 90_000), self._begin_process)
            case "unfollow":
                self._follow(frozenset(chance.sample(sorted(self.wished, key=str), 8)))
                self.later(chance.randint(1_000, 30_000), lambda: self._follow(self.wished))
            case "leave" if self.feeds == FEEDS:
                self._leave()
            case _ if one is not None:
                self._disturb(kind, one, name)

    def _leave(self) -> None:
        """Follow fewer feeds for good, while gaps are open: at once, or in a process that begins later."""
        for connection in list(self.network.connections.values()):
            self._cut(connection, "network unreachable")
        self.wished = frozenset(self.chance.sample(sorted(FEEDS, key=str), len(FEEDS) - LEFT))

        def leave(*, is_killed: bool) -> None:
            if is_killed and not self.network.is_gone:
                self._end_process()
                self.later(5_000, self._begin_process)
            self._follow(self.wished)

        is_killed = self.chance.random() < 0.5
        self.later(300, lambda: leave(is_killed=is_killed))

    def _follow(self, feeds: frozenset[Feed]) -> None:
        self.feeds = feeds
        if not self.network.is_gone:
            self._do(self.session.follow(feeds, self.now_ms))

    def _disturb(self, kind: str, one: Connection, name: str) -> None:
        match kind:
            case "cut":
                self._cut(one, "reset by peer")
            case "cut_all":
                for connection in list(self.network.connections.values()):
                    self._cut(connection, "network unreachable")
            case "silent":
                one.is_silent = True
            case "mute":
                one.muted.add(name)
            case "garbage":
                self.network.send(one, b"{nonsense", self.now_ms)
            case "closing":
                self._answer(one, {"kind": "closing"})
                self.later(self.chance.randint(1_000, 20_000), lambda: self._cut(one, "upgrade"))
            case "heartbeat":
                self._answer(one, {"kind": "test"})
