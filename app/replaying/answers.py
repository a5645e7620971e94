"""Answers as of the replay's time: the usual services, restricted to what had closed and was published by then."""

from app.binance.error_body import BinanceError, never_held
from app.domain import letters
from app.domain.reason import Reason
from app.domain.series import Series
from app.holding.ledger_cache import LedgerCache
from app.kinds.registry import spelt
from app.querying.answer import Answer, KlineQuery
from app.querying.events import Events
from app.querying.query import QueryService
from app.querying.statistics import HeldAnswer, Statistics, StatisticsQuery
from app.replaying.replay_clock import SeenClock
from app.replaying.symbols import SymbolsThen
from app.replaying.unfinished import rolls_up


class QueryThen:
    """Answers klines queries as of the replay's time; implements Query of the HTTP services."""

    def __init__(self, clock: SeenClock, symbols: SymbolsThen, ledgers: LedgerCache, usual: QueryService) -> None:
        self._clock = clock
        self._symbols = symbols
        self._ledgers = ledgers
        self._usual = usual

    async def answer(self, query: KlineQuery) -> Answer:
        """The answer, whole unless the query allows a partial one. Raises BinanceError."""
        if not rolls_up(query.series):
            query = query._replace(only_final=True)
        try:
            with self._clock.pinned():
                return await self._usual.answer(query)
        except BinanceError as error:
            if error.reason is not Reason.NOT_HELD:
                raise
            raise never_held(
                f"The database does not hold all klines of {query.series} that were asked for, and a replay asks no "
                "exchange: ask for another window, or fetch them with klinenode backfill."
            ) from error

    def at_once(self, query: KlineQuery, now_ms: int) -> Answer | None:
        """None: nothing is kept in memory."""
        return None

    def symbol(self, text: str) -> str | None:
        """The name of a symbol as a client wrote it, if it existed by now; None otherwise."""
        name = letters.upper(text)
        return name if self._symbols.is_begun(name) else None

    def name(self, text: str) -> str | None:
        """The name of a series as a client wrote it, if its symbol existed by now; None otherwise."""
        written, at, suffix = (spelt(text) or "@").partition("@")
        symbol = self.symbol(written)
        return None if symbol is None else f"{symbol}{at}{suffix}"

    def keeps(self, series: Series) -> bool:
        """Whether rows of a series are held."""
        return bool(self._ledgers.ledger(series).known)

    def listed(self, text: str) -> str | None:
        """The same as `symbol`."""
        return self.symbol(text)


class RowsThen:
    """Answers about gathered kinds, each with the replay's time less what its rows are late; implements HeldRows."""

    def __init__(self, usual: Statistics | Events) -> None:
        self._usual = usual

    def keeps(self, series: Series) -> bool:
        """Whether rows of a series are held."""
        return self._usual.keeps(series)

    async def held(self, query: StatisticsQuery) -> HeldAnswer | None:
        """The answer from held rows, which nobody may keep: at 1,000 times it is outdated within a second."""
        found = await self._usual.held(query)
        return None if found is None else found._replace(fresh_ms=0)

    async def learn(self, query: StatisticsQuery, body: bytes) -> None:
        """Keep nothing: nobody is asked."""
