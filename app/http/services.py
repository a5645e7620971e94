"""The interfaces of the services that the HTTP routes call."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from app.binance.error_body import BinanceError
from app.collecting.collector import Collector
from app.domain.interval import Interval
from app.domain.series import Series
from app.domain.span import Span
from app.exporting.download import Downloads
from app.holding.coverage_days import CoverageDays
from app.market.book_starts import BookStarts
from app.market.endpoints import Question
from app.market.market_source import Fetched
from app.ports.arrow import ArrowKlines
from app.ports.coordination import WriterRpcClient
from app.querying.answer import Answer, KlineQuery
from app.querying.bars import Bars
from app.querying.batch import BatchKlines
from app.querying.rolling_query import RollingKlines
from app.querying.statistics import HeldAnswer, StatisticsQuery


class Query(Protocol):
    """Answers klines queries."""

    async def answer(self, query: KlineQuery) -> Answer:
        """The answer, whole unless `allow_partial` is set. Raises BinanceError."""
        ...

    def at_once(self, query: KlineQuery, now_ms: int) -> Answer | None:
        """The whole answer if memory has it, else None; `now_ms` is the current time."""
        ...

    def symbol(self, text: str) -> str | None:
        """The listed name of a symbol as a client wrote it (lower case accepted); None when it is not listed."""
        ...

    def name(self, text: str) -> str | None:
        """The name of a series as a client wrote it, such as BTCUSDT@markPrice; None when its symbol is not listed."""
        ...

    def keeps(self, series: Series) -> bool:
        """Whether klines of a series are answered from the store, instead of passed through."""
        ...

    def listed(self, text: str) -> str | None:
        """The same as `symbol`, but raises BinanceError while the list of symbols has not been read yet."""
        ...


class Names(Protocol):
    """Looks up names that the node does not know."""

    async def learn(self, name: str) -> bool:
        """Read the exchange's list of symbols again if it is old; whether it now has `name` (upper case)."""
        ...

    def asking(self, path: str, name: str) -> AbstractContextManager[None]:
        """The context in which the exchange is asked for `name`; it limits unknown coin-margined names.

        Raises BinanceError: the exchange's recent refusal of `name`, or 503 when too many such names are new.
        """
        ...

    def note(self, path: str, name: str, error: BinanceError | None) -> None:
        """Remember the exchange's refusal of `name` for a while, if it is that the symbol does not exist."""
        ...


class Symbols(Protocol):
    """The exchange's list of symbols."""

    def exchange_info(self) -> bytes | None:
        """The exchange's own exchangeInfo body; None until it has been read once."""
        ...

    async def refresh(self) -> tuple[Sequence[str], Sequence[str]]:
        """Read the list now. Return the symbols that were added and those that were removed. Raises UpstreamError."""
        ...


class Health(Protocol):
    """The state of the node."""

    def report(self) -> dict[str, object]:
        """`status` (ok or degraded) and the reasons. Cheap."""
        ...

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Whether the tail of every wished series is held and fresh, and a report of what is missing."""
        ...


class Coverage(Protocol):
    """Reports on the ledger."""

    async def full_report(
        self, symbol: str | None, interval: Interval | None, offset: int, limit: int, *, incomplete: bool = False
    ) -> dict[str, object]:
        """Held, absent and missing spans, sources, verification and digits of `limit` series, after `offset` others."""
        ...


class Overview(Protocol):
    """Sums up the state of the process, and of all workers where they count together."""

    def report(self) -> dict[str, object]:
        """What GET /v1/overview answers, without slow requests. Made at most once a second."""
        ...


class Backfill(Protocol):
    """Takes wishes beyond BACKFILL_DAYS."""

    async def request(self, series: Sequence[Series], span: Span) -> None:
        """Add a wish for `span` of each of `series`."""
        ...

    async def withdraw(self, series: Sequence[Series], span: Span) -> tuple[int, int]:
        """Withdraw `span` from the wishes for `series`.

        Return how many wishes were shortened or removed, and how many still touch the span.
        """
        ...


class Verify(Protocol):
    """Compares held klines with the exchange."""

    def request(self, series: Sequence[Series], span: Span, *, by_rows: bool = False) -> int:
        """Start an audit, of every row if `by_rows`, and return its number.

        Raises TooManyAudits; StoreUnavailable outside the writer.
        """
        ...

    def report(self) -> dict[str, object]:
        """The progress and results of the audits. Raises StoreUnavailable outside the writer."""
        ...


class Market(Protocol):
    """Fetches market data other than klines."""

    async def fetch(self, question: Question) -> Fetched:
        """The exchange's answer, with the time for which it is valid. Raises UpstreamError."""
        ...


class HeldRows(Protocol):
    """Answers from held rows of gathered kinds."""

    def keeps(self, series: Series) -> bool:
        """Whether rows of a series are held, or wished."""
        ...

    async def held(self, query: StatisticsQuery) -> HeldAnswer | None:
        """The answer from held rows; None when the exchange has to be asked."""
        ...

    async def learn(self, query: StatisticsQuery, body: bytes) -> None:
        """Keep the rows of the exchange's answer to a question."""
        ...


class AsOf(Protocol):
    """Answers from what was held at a past time."""

    async def klines(self, query: KlineQuery, at_ms: int) -> Answer:
        """The closed klines that were held at `at_ms`. Raises BinanceError."""
        ...

    async def rows(self, query: StatisticsQuery, at_ms: int) -> HeldAnswer:
        """The rows of a gathered kind that were held at `at_ms`. Raises BinanceError."""
        ...

    async def coverage(
        self, name: str | None, interval: Interval | None, offset: int, limit: int, at_ms: int, *, incomplete: bool
    ) -> dict[str, object]:
        """The ledgers of `at_ms`, as `Coverage.full_report` has those of now. Raises NotRecorded."""
        ...


class WriterLine(WriterRpcClient, Protocol):
    """The connection to the process that writes."""

    async def is_elsewhere(self) -> bool:
        """Whether another process is the writer."""
        ...


class MarketServices(Protocol):
    """The services that answer market data requests."""

    @property
    def query(self) -> Query:
        """Answers klines queries."""
        ...

    @property
    def symbols(self) -> Symbols:
        """The list of symbols."""
        ...

    @property
    def market(self) -> Market:
        """Fetches what is not held."""
        ...

    @property
    def statistics(self) -> HeldRows:
        """Answers from held metrics."""
        ...

    @property
    def events(self) -> HeldRows:
        """Answers from held rows of sparse kinds."""
        ...

    @property
    def as_of(self) -> AsOf:
        """Answers from what was held at a past time."""
        ...

    @property
    def line(self) -> WriterLine:
        """Reaches the process that writes."""
        ...

    @property
    def book_starts(self) -> BookStarts:
        """The editions of order books."""
        ...

    @property
    def names(self) -> Names:
        """Looks up names that are not known."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """All services that the routes call."""

    query: Query
    symbols: Symbols
    health: Health
    coverage: Coverage
    backfill: Backfill
    verify: Verify
    market: Market
    statistics: HeldRows
    events: HeldRows
    """Those of sparse kinds."""
    as_of: AsOf
    line: WriterLine
    book_starts: BookStarts
    names: Names
    batch: BatchKlines
    rolling: RollingKlines
    bars: Bars
    arrow: ArrowKlines
    overview: Overview
    coverage_days: CoverageDays
    collector: Callable[[], Collector | None] = lambda: None
    """The collector of this process; None: it has none, or is not the one that writes."""
    downloads: Downloads | None = None
    """Makes exports; None: this process makes none."""


SymbolOf = Callable[[str], str | None]
