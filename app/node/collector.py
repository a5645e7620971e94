"""The composition of the collector: exchanges → sessions → outboxes → NATS, and the ledger of what was stored."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from app.collecting.book_chain import BookChain
from app.collecting.collector import Collector
from app.collecting.kept_outbox import Batching, Hooks
from app.collecting.ledger import LedgerUnreadable, SequenceLedger
from app.collecting.outboxes import KEPT, Outboxes, Surroundings
from app.collecting.plans import StreamLimits, stream_plans
from app.collecting.run import VenueRunner
from app.collecting.session import Session
from app.collector_events import (
    BookUnequal,
    GapAnnounced,
    LedgerNotWritten,
    RecordsRefused,
    SpillDamaged,
    SpillingBegan,
    SpillingEnded,
)
from app.domain.gap_reason import GapReason
from app.domain.instrument import Instrument
from app.domain.records import DataType, Feed, FundingRate, Gap, GapState, KlineRecord, Record, feed_of
from app.domain.unreadable import Unreadable
from app.node.collector_stats import Counts, exchange_stats, outbox_stats, type_of
from app.node.venues import EXCHANGES
from app.ports.collector import CollectorStatus, ExchangeStats
from app.ports.kept_file import KeptFile
from app.ports.venue_io import VenueIo, VenueLost
from app.runtime import Runtime
from app.settings import Settings
from infra.nats.publisher import JetStreamPublisher
from infra.nats.service import CollectorService
from infra.net.waiting import until
from infra.process.whole_file import WholeFile
from infra.spill.segments import SegmentSpill

LEDGER_FILE: Final = "ledger.json"
SPILL_FOLDER: Final = "spill"
SAVE_S: Final = 1.0
"""Between writes of the ledger. A kill loses so much of it: that is fetched and published again, with the same ids."""
BEGUN_RECORDS_MAX: Final = 5_000
"""Records of a new feed that wait until the ledger's file says where it begins, which takes some ms."""
LIST_S: Final = 600.0
"""Between reads of an exchange's list of instruments: new ones can be followed after ten minutes at most."""
LIST_AGAIN_S: Final = 10.0
"""The pause after a list that could not be read."""
FLUSH_S_MAX: Final = 3.0
"""For records in memory to be stored or spilled when the collector stops."""
REFUSED_PAUSE_S: Final = 30.0
"""After so long a feed of which records were refused begins again at what the ledger holds."""


_UNTIMELY: Final = (Gap, FundingRate, KlineRecord)
"""Their time is not that at which the exchange said it: a rate that was paid hours ago is no lag."""


class CannotCollect(Exception):
    """The collector cannot start; the message says why and what to do."""


class Venued:
    """One exchange: its session and what runs it."""

    def __init__(self, name: str, io: VenueIo, collector: "NodeCollector") -> None:
        exchange, runtime = EXCHANGES[name], collector.runtime
        self.name = name
        self.venue = exchange.make()
        self.io = io
        self.instruments: tuple[Instrument, ...] = ()
        self.feeds: frozenset[Feed] = frozenset()
        self.books: dict[str, Instrument] = {}
        """By the exchange's own name: the instruments whose books are followed."""
        self.faults: list[str] = []
        self.is_known = False
        """Whether its list was read, so that what is wished of it is followed."""
        self.session = Session(
            self.venue, collector.ledger, exchange.book_rule, collector.started_ms, runtime.rng(f"collect {name}")
        )
        self.runner = VenueRunner(self.session, io, collector.publish, runtime)

    async def read_instruments(self) -> None:
        """Read the exchange's list. Raises VenueLost, Unreadable."""
        found: list[Instrument] = []
        for request in self.venue.instrument_requests():
            answer = await self.io.get(request)
            if answer.status != 200:
                raise VenueLost(f"{request.path}: HTTP {answer.status} {answer.body!r:.120}")
            found += self.venue.read_instruments(answer.body)
        self.venue.learn(found)
        self.instruments = tuple(found)


class NodeCollector:
    """A running collector; it implements `CollectorControl`."""

    def __init__(self, settings: Settings, runtime: Runtime, ios: Mapping[str, VenueIo]) -> None:
        """`ios` has one for each of EXCHANGES. Raises CannotCollect."""
        self.runtime = runtime
        self._clock = runtime.clock
        self._observe = runtime.observe
        self.started_ms = runtime.clock.now_ms()
        folder = Path(settings.collect_dir)
        self._ledger_file: KeptFile = WholeFile(folder / LEDGER_FILE)
        self.ledger = self._read_ledger()
        self._is_changed = False
        self._refused: set[Feed] = set()
        self._begun: dict[Feed, list[Record]] = {}
        """By feed that is new to the ledger: its records, until the file says that it has begun."""
        self._has_begun = asyncio.Event()
        self._counts: defaultdict[str, Counts] = defaultdict(Counts)
        """By exchange, also of those that are collected no longer and whose gaps are ended."""
        self._venues = {name: Venued(name, ios[name], self) for name in settings.exchanges}
        self._spill_bytes_max = settings.spill_bytes_max // len(KEPT)
        self._service = CollectorService(version("klinenode"), self._service_stats)
        limits = StreamLimits(
            settings.nats_stream_bytes_max, settings.nats_max_age_hours * 3_600, settings.nats_duplicate_window_sec
        )
        self._publisher = JetStreamPublisher(
            settings.nats_url, stream_plans(limits), runtime.clock, runtime.rng("nats"), greet=self._service.greet
        )
        self._outboxes = Outboxes(
            Surroundings(
                self._publisher,
                self._spills(folder / SPILL_FOLDER),
                runtime.clock,
                runtime.rng("outboxes"),
                Hooks(self._stored, self._not_taken, self._spilling),
                self._book_lost,
                Batching(settings.trade_batch_max),
            )
        )

    # --- CollectorControl

    def exchanges(self) -> tuple[str, ...]:
        """The names of the exchanges that it follows."""
        return tuple(self._venues)

    def instruments(self, exchange: str) -> Collection[Instrument]:
        """What the exchange lists and can be followed; empty until the list was read."""
        return self._venues[exchange].instruments

    def offers(self, feed: Feed) -> bool:
        """Whether the exchange has such a feed, by a channel or by requests."""
        try:
            self._venues[feed.instrument.exchange].venue.channels(feed)
        except LookupError:
            return False
        return True

    def follow(self, exchange: str, feeds: frozenset[Feed]) -> None:
        """Follow exactly these feeds of the exchange from now on."""
        venued = self._venues[exchange]
        venued.feeds = feeds
        venued.books = {
            each.instrument.native: each.instrument for each in feeds if each.data_type is DataType.ORDERBOOK
        }
        venued.runner.follow(feeds)

    def followed(self, exchange: str) -> frozenset[Feed]:
        """The feeds that are followed now."""
        return self._venues[exchange].feeds

    def book(self, exchange: str, native: str) -> BookChain | None:
        """The book that is held of the instrument with this name on the exchange; None: none that is proven."""
        venued = self._venues.get(exchange)
        instrument = None if venued is None else venued.books.get(native)
        return None if venued is None or instrument is None else venued.session.book(instrument)

    def status(self) -> CollectorStatus:
        """How everything is."""
        return CollectorStatus(
            self.started_ms,
            {name: self.stats(name) for name in self._venues},
            outbox_stats(self._outboxes.status(), self._publisher.fault(), self._spill_bytes_max),
        )

    def stats(self, exchange: str) -> ExchangeStats:
        """How one exchange is."""
        venued = self._venues[exchange]
        return exchange_stats(venued.session.status(), self._counts[exchange], venued.faults)

    # --- running

    async def run(self, collector: Collector) -> None:
        """Collect until cancelled; then what must be kept is stored or spilled, and the ledger written."""
        async with asyncio.TaskGroup() as sinks:
            storing = [
                sinks.create_task(each) for each in (self._publisher.run(), self._outboxes.run(), self._keep_ledger())
            ]
            try:
                for exchange in self.ledger.exchanges() - self._venues.keys():
                    self._end_gaps(exchange)
                async with asyncio.TaskGroup() as sources:
                    sources.create_task(self._begin_refused_again())
                    sources.create_task(collector.config.run())
                    sources.create_task(collector.health.run())
                    for venued in self._venues.values():
                        sources.create_task(self._keep_instruments(venued, collector.wished.apply))
                        sources.create_task(venued.runner.run())
            finally:
                with contextlib.suppress(TimeoutError):  # what was not stored is fetched again at the next start
                    async with asyncio.timeout(FLUSH_S_MAX):
                        await self._outboxes.flush()
                for each in storing:
                    each.cancel()
                await self._is_ledger_saved()

    def publish(self, records: Sequence[Record]) -> None:
        """Put records of a session into the outboxes."""
        for record in records:
            feed = feed_of(record)
            self._counts[feed.instrument.exchange].processed[type_of(feed)] += 1
            if isinstance(record, Gap):
                self._observe(GapAnnounced.of(record))
                if record.reason is GapReason.UNEQUAL and record.state is GapState.OPEN:
                    self._observe_unequal(feed)
            if self.ledger.begins(record):
                self._is_changed = True
                self._begun[feed] = []
                self._has_begun.set()
            if isinstance(record, Gap):
                self.ledger.announce(record)
                self._is_changed = True
                if record.state is GapState.OPEN:
                    self._has_begun.set()  # after a kill the file says which gaps must end
            if (held := self._begun.get(feed)) is None:
                self._outboxes.put(record)
            elif len(held) < BEGUN_RECORDS_MAX:
                held.append(record)
            else:
                self._not_taken([record], f"{self._ledger_file.name} cannot be written")

    def _end_gaps(self, exchange: str) -> None:
        """End the gaps of feeds that are not followed: of a former run, or of which the end was refused."""
        followed = self._venues[exchange].feeds if exchange in self._venues else frozenset[Feed]()
        self.publish(self.ledger.ends(exchange, followed, self._clock.now_ms()))

    def _observe_unequal(self, feed: Feed) -> None:
        for each in self._venues[feed.instrument.exchange].session.status().feeds:
            if each.feed == feed:
                instrument = feed.instrument
                names = instrument.exchange, instrument.symbol, str(instrument.market)
                self._observe(BookUnequal(*names, *each.levels))

    async def _keep_instruments(self, venued: Venued, apply: Callable[[str], None]) -> None:
        while True:
            pause_s = LIST_S
            try:
                await venued.read_instruments()
            except (VenueLost, Unreadable) as error:
                venued.faults = [f"the list of instruments cannot be read: {error}"]
                pause_s = LIST_AGAIN_S
            else:
                venued.faults = []
                apply(venued.name)
                if not venued.is_known:
                    venued.is_known = True
                    self._end_gaps(venued.name)
            await self._clock.sleep(pause_s)

    # --- what was stored

    def _stored(self, records: Sequence[Record]) -> None:
        self._is_changed = True
        for record in records:
            feed = feed_of(record)
            counts = self._counts[feed.instrument.exchange]
            counts.published[type_of(feed)] += 1
            if not isinstance(record, _UNTIMELY):
                counts.lag.stored(record.timestamp_ms, self._clock.now_ms())
            self.publish(self.ledger.record(record))

    def _not_taken(self, records: Sequence[Record], reason: str) -> None:
        for record in records:
            feed = feed_of(record)
            self._counts[feed.instrument.exchange].errors[type_of(feed)] += 1
            self._refused.add(feed)
            self.ledger.refuse(record)
        self._is_changed = True
        self._observe(RecordsRefused(len(records), reason))

    def _spilling(self, reason: str | None) -> None:
        self._observe(SpillingEnded() if reason is None else SpillingBegan(reason))

    def _book_lost(self, instrument: Instrument) -> None:
        self._venues[instrument.exchange].runner.snapshot(instrument)

    async def _begin_refused_again(self) -> None:
        """A feed of which records were refused begins again: what the ledger lacks is then a gap, and is fetched."""
        while True:
            await self._clock.sleep(REFUSED_PAUSE_S)
            refused, self._refused = self._refused, set()
            for venued in self._venues.values():
                if again := venued.feeds & refused:
                    venued.runner.begin_again(again)
                if any(feed.instrument.exchange == venued.name for feed in refused - venued.feeds):
                    self._end_gaps(venued.name)

    async def _keep_ledger(self) -> None:
        while True:
            await until(self._has_begun, self._clock, SAVE_S)
            self._has_begun.clear()
            begun = list(self._begun)
            if await self._is_ledger_saved():
                for feed in begun:
                    for record in self._begun.pop(feed):
                        self._outboxes.put(record)

    async def _is_ledger_saved(self) -> bool:
        """Write the ledger if it has changed; returns whether the file is as the ledger was at the call."""
        if self._is_changed:
            self._is_changed = False
            try:
                await asyncio.to_thread(self._ledger_file.write, self.ledger.to_text().encode())
            except OSError as error:
                self._is_changed = True
                self._observe(LedgerNotWritten(f"{self._ledger_file.name}: {error.strerror or error}"))
                return False
        return True

    def _read_ledger(self) -> SequenceLedger:
        try:
            content = self._ledger_file.read()
            return SequenceLedger() if content is None else SequenceLedger.from_text(content)
        except OSError as error:
            raise CannotCollect(f"{self._ledger_file.name} cannot be read: {error.strerror or error}") from error
        except LedgerUnreadable as error:
            raise CannotCollect(f"{self._ledger_file.name}: {error}") from error

    def _spills(self, folder: Path) -> dict[str, SegmentSpill]:
        try:
            return {
                name: SegmentSpill(folder / name, self._spill_bytes_max, lambda text: self._observe(SpillDamaged(text)))
                for name in KEPT
            }
        except OSError as error:
            raise CannotCollect(f"COLLECT_DIR: {folder} cannot be used: {error.strerror or error}") from error

    def _service_stats(self) -> Mapping[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self.status())
        return found
