"""The follower's role: how a process that does not write follows the writer."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from app.domain.interval import MINUTE_MS, Grid
from app.domain.kind import Row
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.holding.follow import ChangeFollower
from app.holding.sealing import DamagedBlocks
from app.node.damage_report import report_of
from app.node.exchange_clock import KeptTime
from app.ports.coordination import NO_WRITER, WriterUnreachable
from app.ports.errors import StoreDamaged, StoreUnavailable
from app.ports.store import OpenWriter
from app.verifying.verify import Auditors

if TYPE_CHECKING:
    from app.node.parts import Parts

RELOAD_EVERY_S: Final = 5.0  # how often symbols, checks and stand-downs are read: the journal does not list them
LEDGER_AGE_MS_MAX: Final = 15_000  # a ledger that could not be read for longer does not describe the present


class Follower:
    """Follows the writer's commits (klines, ledger, symbols, checks, stand-downs) and receives its streams.

    See `app.node.role.Role`. Operations that only a writer can do raise StoreUnavailable or do nothing.
    """

    def __init__(self, parts: "Parts") -> None:
        self._parts = parts
        self._newest_ms = 0
        self._is_running = False
        self._damaged = DamagedBlocks()
        saw = (parts.seen.saw,) if parts.settings.cache_url else ()  # nobody else asks what was seen
        self._feed = ChangeFollower(parts.clock, parts.feed, parts.reader, parts.holdings, parts.tail, self, *saw)

    async def start(self) -> None:
        """Start to follow; the first look at the store is done on return. Does nothing if this process follows already.

        A request served before that look would find nothing: a worker begins to answer after it.
        """
        if self._is_running:
            return
        self._is_running = True
        self._newest_ms = self._parts.pages.true_until_ms = 0
        await self._feed.try_to_look()
        self._parts.supervisor.start("follow", self._feed.run)
        self._parts.supervisor.start("reload", self._reload)
        self._parts.supervisor.start("stream-relay", self._parts.stream_fanout_client.run)
        self._parts.supervisor.start("report-damage", self._report_damage)
        self._parts.hub.take_from(self._parts.stream_fanout_client)

    async def _report_damage(self) -> None:
        """Tell the writer of damaged blocks. It need not read them itself: its memory may have their rows."""
        while True:
            error = await self._damaged.next()
            with contextlib.suppress(WriterUnreachable):  # the next writer's own reads and checks find it
                await self._parts.ask(report_of(error))

    async def stop(self) -> None:
        """Stop following and drop what was received."""
        self._is_running = False
        self._parts.hub.take_from(None)
        await self._parts.supervisor.stop("follow", "reload", "stream-relay", "report-damage")
        self._feed.forget()
        self._parts.stream_fanout_client.forget()

    async def hand_over(self) -> bool:
        """Stop following because this process becomes the writer; return whether the tails match the store.

        No other process may write any more when this is called. Tails that match are kept when the writer dies.
        """
        was_running = self._is_running
        await self._parts.supervisor.stop("follow")
        is_current = False
        if was_running:
            with contextlib.suppress(StoreUnavailable):
                await self._feed.look()
                is_current = True
        await self.stop()
        return is_current

    def ledger_as_of_ms(self) -> int:
        """The moment (ms) that the ledger in memory describes: the last look at the store if recent, otherwise now."""
        now_ms, looked_ms = self._parts.clock.now_ms(), self._feed.looked_ms
        return looked_ms if is_fresh(looked_ms, now_ms, LEDGER_AGE_MS_MAX) else now_ms

    @property
    def change_seen(self) -> int | None:
        """A change number that covers everything that this process promises; None if it does not follow."""
        return self._feed.change_seen

    # --- what it may do (app/node/role.py) ----------------------------------------------------------------------

    @property
    def is_writer(self) -> bool:
        """Never."""
        return False

    @property
    def store(self) -> OpenWriter:
        """Raises StoreUnavailable."""
        raise _not_here()

    @property
    def auditors(self) -> Auditors:
        """Raises StoreUnavailable."""
        raise _not_here()

    def are_copies_current(self) -> bool:
        """Whether the last look at the store is recent enough."""
        return self._feed.is_current()

    def last_seen_ms(self, series: Series) -> int | None:
        """None: the writer has the sockets."""
        return None

    async def keep_read(self, series: Series, grid: Grid, span: Span, rows: Sequence[Row]) -> None:
        """Leave rows that were read through to the writer, which fills its gaps itself."""

    async def keep_symbols(self, body: bytes, received_ms: int) -> None:
        """Leave the list of symbols to the writer, which reads it as often."""

    async def keep_time(self, kept: KeptTime) -> None:
        """Raises StoreUnavailable: the time is stored once this process is the writer."""
        raise _not_here()

    async def keep_stand_down(self, until_ms: int, reason: str) -> None:
        """Leave a stand-down to the rate state, which all processes share; the next writer stores it."""

    def repair(self, error: StoreDamaged) -> None:
        """Have the writer check the damaged block, and give it up."""
        self._damaged.add(error)

    def wake(self) -> None:
        """Nothing is planned here."""

    def symbols_changed(self) -> None:
        """No sockets and no plans depend on the list here."""

    def store_recovered(self) -> None:
        """Nothing waits to be written here."""

    def exists(self, series: Series, closed_ms: int) -> None:
        """No socket is checked here against REST."""

    @property
    def missing_klines(self) -> int | None:
        """None: only the writer plans."""
        return None

    @property
    def paused(self) -> str | None:
        """None: only the writer fills."""
        return None

    @property
    def fetch_error(self) -> str | None:
        """None: only the writer fetches."""
        return None

    @property
    def write_queue_depth(self) -> int:
        """0: nothing waits to be written."""
        return 0

    @property
    def intake_depth(self) -> int:
        """0: no socket events come in."""
        return 0

    def log_complaint(self) -> str | None:
        """None: only the writer's connection knows the write-ahead log."""
        return None

    def sockets_status(self) -> dict[str, object]:
        """Empty: the writer has the sockets."""
        return {}

    def streams_status(self) -> dict[str, object]:
        """Empty: the writer has the streams."""
        return {}

    # --- following ----------------------------------------------------------------------------------------------

    def drop(self, series: Series, span: Span) -> None:
        """Invalidate everything derived from klines that open in `span`."""
        self._parts.drop(series, span)

    def looked(self, until_ms: int) -> None:
        """Allow pages to be served until `until_ms`."""
        self._parts.pages.true_until_ms = until_ms

    async def reload(self) -> None:
        """Load everything again. Raises StoreUnavailable."""
        parts = self._parts
        parts.forget_copies()
        await parts.load_for_reading()
        self._newest_ms = max((ledger.end_ms for ledger in parts.holdings.all().values()), default=0)
        parts.close_lag.follow(parts.symbols.wished)
        await parts.load_generation()

    async def _reload(self) -> None:
        parts = self._parts
        while True:
            await parts.clock.sleep(RELOAD_EVERY_S)
            with contextlib.suppress(StoreUnavailable):  # there may be no database yet; reads report it themselves
                if await parts.symbols.load(parts.reader):
                    parts.close_lag.follow(parts.symbols.wished)
                parts.holdings.load_wishes(await parts.reader.anchors(), await parts.reader.extra_wishes())
                await parts.load_checks()
                await parts.load_generation()
                if (stand_down := await parts.reader.stand_down()) is not None:
                    await parts.budget.restore(*stand_down)

    def closed(self, end_ms: int) -> None:
        """Confirm our clock when a new commit ends within the last minute: a connected writer commits every close."""
        clock = self._parts.clock
        if 0 < self._newest_ms < end_ms and is_fresh(end_ms, clock.now_ms(), MINUTE_MS):
            clock.confirm()
        self._newest_ms = max(self._newest_ms, end_ms)


def _not_here() -> StoreUnavailable:
    return StoreUnavailable(NO_WRITER, Reason.WRITER)
