"""The exchange of a replay: there is none, and every request is refused before it is sent."""

from collections.abc import Sequence
from typing import Any, NoReturn

from app.binance.archive_csv import ArchiveFile
from app.binance.error_body import never_held
from app.binance.metrics_csv import MetricsDay
from app.domain.interval import Grid, Interval
from app.domain.kline import Precision
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span
from app.market.endpoints import Question
from app.market.market_source import Fetched
from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from app.ports.errors import UpstreamUnavailable
from app.ports.exchange import FileKlines, FileMetrics, Priority


class NoExchange:
    """REST and archive; implements RestApi and Archive by refusing."""

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Sequence[Any]:
        """Raises UpstreamUnavailable."""
        _refuse(f"{series.name} {series.interval}")

    async def exchange_info(self, priority: Priority) -> bytes:
        """Raises UpstreamUnavailable."""
        _refuse("the list of symbols")

    async def server_time_ms(self, priority: Priority) -> int:
        """Raises UpstreamUnavailable."""
        _refuse("the exchange's time")

    async def fetch(
        self, file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval] = ()
    ) -> FileKlines:
        """Raises UpstreamUnavailable."""
        _refuse("an archive file")

    async def has(self, file: ArchiveFile) -> bool:
        """Raises UpstreamUnavailable."""
        _refuse("an archive file")

    async def metrics(self, files: Sequence[MetricsDay]) -> FileMetrics:
        """Raises UpstreamUnavailable."""
        _refuse("an archive file")

    async def metrics_sha256(self, file: MetricsDay) -> str:
        """Raises UpstreamUnavailable."""
        _refuse("an archive file")


class NoMarket:
    """The source of market data that is not held; implements Market by refusing."""

    async def fetch(self, question: Question) -> Fetched:
        """Raises BinanceError."""
        raise never_held(
            f"A replay does not have what {question.path} was asked for, and asks no exchange: it has klines, price "
            "klines, metrics with period=5m and fundingRate with symbol, where the database holds them."
        )


class NoLine:
    """The connection to a process that writes: a replay answers everything itself. Implements WriterLine."""

    async def is_elsewhere(self) -> bool:
        """False: nobody else is asked."""
        return False

    async def ask(self, request: RpcRequest) -> RpcResponse:
        """Raises WriterUnreachable."""
        raise WriterUnreachable("a replay asks no process that writes")


def _refuse(what: str) -> NoReturn:
    raise UpstreamUnavailable(f"{what} is not held, and a replay asks no exchange", Reason.NOT_HELD)
