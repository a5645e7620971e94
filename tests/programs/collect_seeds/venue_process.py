"""One life of the collector in a seed: session, outboxes and ledger as they are composed, until it is killed."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from random import Random
from typing import Final, NamedTuple

from app.binance.collector_venue import BinanceVenue
from app.collecting.book_chain import BookRule
from app.collecting.effects import Close, Effect, Emit, Fetch, Open, Send
from app.collecting.kept_outbox import Batching, Hooks
from app.collecting.ledger import SequenceLedger
from app.collecting.outboxes import KEPT, Outboxes, Surroundings
from app.collecting.session import Session
from app.deribit.venue import DeribitVenue
from app.domain.instrument import Instrument
from app.domain.records import Feed, Gap, Record, feed_of
from app.domain.venue import Request
from app.okx.venue import OkxVenue
from app.ports.clock import Clock
from app.ports.publishing import Publisher
from app.ports.venue import Venue
from infra.sandbox.venue import Answer
from infra.sandbox.venues import Venues
from tests.programs.collect_seeds.jetstream import Disk, DiskSpill, Later
from tests.programs.collect_seeds.venue_net import NetFaults, VenueNet
from tests.programs.collect_seeds.venue_plan import VenuePlan
from tests.programs.sim.loop import PROCESS, Fate, SimLoop

TICK_MS_MAX: Final = 200
SAVE_MS: Final = 1_000
OKX_WINDOW_MS: Final = 2_000
DERIBIT_REFILL_MS: Final = 5_000
VENUES: Final[dict[str, Callable[[], Venue]]] = {"binance": BinanceVenue, "okx": OkxVenue, "deribit": DeribitVenue}


def venue_of(plan: VenuePlan) -> Venue:
    """The exchange's language, with the age of sockets that the plan wants."""
    venue = VENUES[plan.exchange]()
    if plan.age_ms_max is not None:
        vars(venue)["limits"] = venue.limits._replace(age_ms_max=plan.age_ms_max)
    return venue


def rule_of(plan: VenuePlan) -> BookRule:
    """The rule of the exchange's books (as in the composition of the node)."""
    if plan.exchange == "binance":
        return BookRule(snapshot_levels=plan.levels)
    return BookRule(is_delete_known=True)


class Machine:
    """What survives a process: the ledger as it was saved last, and the spill."""

    def __init__(self) -> None:
        self.ledger = SequenceLedger().to_text()
        self.disks = {name: Disk() for name in KEPT}
        self.begun: dict[Feed, int] = {}
        """Where each feed begins: the first sequence that a saved ledger ever held of it."""

    def save(self, ledger: SequenceLedger, feeds: Iterable[Feed]) -> None:
        """Write the ledger's file."""
        self.ledger = ledger.to_text()
        for feed in feeds:
            if feed not in self.begun and (known := ledger.known(feed)):
                self.begun[feed] = known.first


class Given(NamedTuple):
    """What a process runs on."""

    loop: SimLoop
    clock: Clock
    machine: Machine
    publisher: Publisher
    venues: Venues
    net_faults: NetFaults
    later: Later


class Process:
    """The collector of one exchange, from its start to its death."""

    def __init__(self, plan: VenuePlan, number: int, given: Given, instruments: Sequence[Instrument]) -> None:
        self._plan = plan
        self._given, self._now_ms = given, given.clock.now_ms
        self.fate = Fate(f"process {number}", lambda: None)
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.fetched_ms: list[int] = []
        self.sent_ms: list[int] = []
        self.opened_ms: list[int] = []
        self.feeds: frozenset[Feed] = frozenset()
        self._stand_down_ms = 0
        self._is_changed = False
        self._saved: set[Feed] = set()
        self._venue = venue_of(plan)
        self._venue.learn(instruments)
        self._ledger = SequenceLedger.from_text(given.machine.ledger)
        chance = Random(f"process {plan.seed} {number}")
        self.session = Session(self._venue, self._ledger, rule_of(plan), self._now_ms(), chance)
        self.net = VenueNet(
            given.venues,
            plan.exchange,
            self,
            given.later,
            self._now_ms,
            Random(chance.random()),
            given.net_faults,
            plan.levels if plan.exchange == "binance" else None,
        )
        self.spills = {name: DiskSpill(disk, given.clock) for name, disk in given.machine.disks.items()}
        hooks = Hooks(self._stored, self._refused, lambda reason: None)
        self.outboxes = Outboxes(
            Surroundings(
                given.publisher, self.spills, given.clock, chance, hooks, self._book_lost, Batching(plan.batch)
            )
        )

    @property
    def is_dead(self) -> bool:
        """Whether it was killed."""
        return self.fate.is_dead

    def start(self, feeds: frozenset[Feed]) -> None:
        """Begin to collect."""
        context = Context()
        context.run(PROCESS.set, self.fate)
        self.feeds = feeds
        self._given.loop.create_task(self.outboxes.run(), context=context)
        self._do(self.session.follow(feeds, self._now_ms()))
        for gap in self._ledger.ends(self._plan.exchange, feeds, self._now_ms()):
            self._publish(gap)
        self._wake()
        self._save()

    def follow(self, feeds: frozenset[Feed]) -> None:
        """Follow exactly these feeds from now on."""
        self.feeds = feeds
        self._do(self.session.follow(feeds, self._now_ms()))

    def kill(self) -> None:
        """kill -9: what is in memory is lost."""
        self.counts.update(self.session.status().counters)
        self.fate.kill()
        self.net.die()

    # --- what the network reports

    def opened(self, number: int) -> None:
        """The socket is open."""
        if not self.is_dead:
            self._do(self.session.opened(number, self._now_ms()))

    def received(self, number: int, frame: bytes) -> None:
        """A frame came."""
        if not self.is_dead:
            self._do(self.session.received(number, frame, self._now_ms()))

    def closed(self, number: int, reason: str) -> None:
        """The socket is gone."""
        if not self.is_dead:
            self._do(self.session.closed(number, reason, self._now_ms()))

    # --- inside

    def _wake(self) -> None:
        if self.is_dead:
            return
        now_ms = self._now_ms()
        self._do(self.session.tick(now_ms))
        self.counts["ticks"] += 1
        self._given.later(min(TICK_MS_MAX, max(1, self.session.wake_ms() - now_ms)), self._wake)

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Emit(record):
                    self._publish(record)
                case Send(number, text):
                    self.sent_ms.append(self._now_ms())
                    self.net.send(number, text)
                case Open(number, route):
                    self.opened_ms.append(self._now_ms())
                    self.net.open(number, route)
                case Close(number):
                    self.net.close(number)
                case Fetch(number, request):
                    self._fetch(number, request)

    def _publish(self, record: Record) -> None:
        if isinstance(record, Gap):
            self._ledger.announce(record)
            self._is_changed = True
        self.outboxes.put(record)

    def _fetch(self, number: int, request: Request) -> None:
        now_ms = self._now_ms()
        self.fetched_ms.append(now_ms)
        if now_ms < self._stand_down_ms:
            self.failures.append(
                f"{request.path} was asked {self._stand_down_ms - now_ms} ms before the stand-down ended"
            )

        def done(answer: Answer | None) -> None:
            if self.is_dead:
                return
            at_ms = self._now_ms()
            if answer is None:
                self._do(self.session.failed(number, "no answer in time", at_ms))
                return
            self._stand_down_ms = max(self._stand_down_ms, stand_down_ms(answer, at_ms))
            self._do(self.session.answered(number, answer.status, answer.headers, answer.body, at_ms))

        self.net.fetch(request, done)

    def _stored(self, records: Sequence[Record]) -> None:
        self._is_changed = True
        for record in records:
            for gap in self._ledger.record(record):
                self._publish(gap)
            feed = feed_of(record)
            if feed not in self._saved:  # a feed that begins is saved at once: later, a kill would move its beginning
                self._saved.add(feed)
                self._given.machine.save(self._ledger, self.feeds)

    def _refused(self, records: Sequence[Record], reason: str) -> None:
        self.failures.append(f"{len(records)} records were refused: {reason}")

    def _book_lost(self, instrument: Instrument) -> None:
        self.counts["books lost"] += 1
        self._do(self.session.snapshot(instrument, self._now_ms()))

    def _save(self) -> None:
        if self.is_dead:
            return
        if self._is_changed:
            self._is_changed = False
            self._given.machine.save(self._ledger, self.feeds)
        self._given.later(SAVE_MS, self._save)


def stand_down_ms(answer: Answer, now_ms: int) -> int:
    """Until when nothing may be asked after this answer, as the exchanges document it."""
    if answer.status in (418, 429) and "Retry-After" in answer.headers:
        return now_ms + 1_000 * int(answer.headers["Retry-After"])
    if b'"50011"' in answer.body[:200]:
        return now_ms + OKX_WINDOW_MS
    return now_ms + DERIBIT_REFILL_MS if b'"code":10028' in answer.body[:200] else 0
