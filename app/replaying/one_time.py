"""What a replay says to questions about another time than its own."""

from typing import NoReturn

from app.binance.error_body import BinanceError
from app.domain.interval import Interval
from app.querying.answer import Answer, KlineQuery
from app.querying.statistics import HeldAnswer, StatisticsQuery


class OneTime:
    """Refuses questions about what was held at a past time, which the node answers. Implements AsOf."""

    async def klines(self, query: KlineQuery, at_ms: int) -> Answer:
        """Raises BinanceError."""
        _refuse()

    async def rows(self, query: StatisticsQuery, at_ms: int) -> HeldAnswer:
        """Raises BinanceError."""
        _refuse()

    async def coverage(
        self, name: str | None, interval: Interval | None, offset: int, limit: int, at_ms: int, *, incomplete: bool
    ) -> dict[str, object]:
        """Raises BinanceError."""
        _refuse()


def _refuse() -> NoReturn:
    raise BinanceError(
        400, -1130, "A replay has one time, its own: ask the node for as_of, or seek by POST /v1/replay."
    )
