"""What the HTTP face needs of the services behind it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from app.binance.error_body import BinanceError
from app.domain.interval import Interval
from app.domain.series import Series
from app.domain.span import Span
from app.market.book_starts import BookStarts
from app.market.endpoints import Question
from app.market.market_source import Fetched
from app.ports.coordination import RpcRequest, RpcResponse
from app.querying.answer import Answer, KlineQuery


class Query(Protocol):
    """Answers klines requests."""

    async def answer(self, query: KlineQuery) -> Answer:
        """The whole answer. Raises BinanceError."""
        ...

    def at_once(self, query: KlineQuery, now_ms: int) -> Answer | None:
        """The whole answer if it can be made at `now_ms`, which is now, without waiting for anything."""
        ...

    def symbol(self, text: str) -> str | None:
        """The listed name of a symbol as a client wrote it (lower case accepted), None when there is none."""
        ...

    def name(self, text: str) -> str | None:
        """The name of series (app.domain.series) as a client wrote it, None when its symbol is not listed."""
        ...

    def keeps(self, series: Series) -> bool:
        """Whether klines of a series are answered from what is held."""
        ...

    def listed(self, text: str) -> str | None:
        """The same. Raises BinanceError while nobody knows what is listed."""
        ...


class Names(Protocol):
    """Looks up names that are not known."""

    async def learn(self, name: str) -> bool:
        """Whether the exchange lists `name`, in upper case, by now."""
        ...

    def asking(self, path: str, name: str) -> AbstractContextManager[None]:
        """Inside, the exchange is asked for what may be a coin-margined name. Raises BinanceError."""
        ...

    def note(self, path: str, name: str, error: BinanceError | None) -> None:
        """The exchange has refused a question about `name`."""
        ...


class Symbols(Protocol):
    """Knows what the exchange lists."""

    def exchange_info(self) -> bytes | None:
        """The exchange's own exchangeInfo body, None while it was never read."""
        ...

    async def refresh(self) -> tuple[Sequence[str], Sequence[str]]:
        """Read the symbols now; which were added and which removed. Raises UpstreamError."""
        ...


class Health(Protocol):
    """Knows how the node is."""

    def report(self) -> dict[str, object]:
        """`status` (ok | degraded) and why. Cheap."""
        ...

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Whether every wished series is held and fresh at its tail, and what is missing."""
        ...


class Coverage(Protocol):
    """Knows the ledger."""

    def report(
        self, symbol: str | None, interval: Interval | None, offset: int, limit: int, *, incomplete: bool = False
    ) -> dict[str, object]:
        """Held, absent, missing, source and verified, of `limit` series from the `offset`-th on."""
        ...


class Backfill(Protocol):
    """Takes extra wishes."""

    async def request(self, series: Sequence[Series], span: Span) -> None:
        """Wish for `span` of each of `series`, beyond BACKFILL_DAYS."""
        ...

    async def withdraw(self, series: Sequence[Series], span: Span) -> tuple[int, int]:
        """Wish for that no longer: how many wishes became shorter or ended, and how many still touch the span."""
        ...


class Verify(Protocol):
    """Compares what is held with the exchange."""

    def request(self, series: Sequence[Series], span: Span) -> int:
        """Begin an audit; its number. Raises StoreUnavailable in a process that does not write, TooManyAudits."""
        ...

    def report(self) -> dict[str, object]:
        """How the audits fare. Raises StoreUnavailable in a process that does not write."""
        ...


class Market(Protocol):
    """Knows the market beside klines."""

    async def fetch(self, question: Question) -> Fetched:
        """The exchange's answer, and how long it is true. Raises UpstreamError."""
        ...


class WriterLine(Protocol):
    """Knows who writes."""

    def is_elsewhere(self) -> bool:
        """Whether another process writes."""
        ...

    async def ask(self, asked: RpcRequest) -> RpcResponse:
        """What that process answers. Raises LineDown."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the routes call."""

    query: Query
    symbols: Symbols
    health: Health
    coverage: Coverage
    backfill: Backfill
    verify: Verify
    market: Market
    line: WriterLine
    book_starts: BookStarts
    names: Names


SymbolOf = Callable[[str], str | None]
