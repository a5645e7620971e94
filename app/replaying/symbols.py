"""The exchange's list of symbols as of the replay's time."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from app.binance import exchange_info
from app.binance.error_body import BinanceError
from app.binance.exchange_info import BadExchangeInfo
from app.binance.listed_then import ListedThen
from app.domain.interval import M1
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.symbol import Symbol
from app.holding.ledger_cache import LedgerCache
from app.kinds.klines import KLINES
from app.ports.errors import UpstreamUnavailable
from app.replaying.replay_clock import SeenClock


class SymbolsThen:
    """The exchange's list of symbols as of the replay's time; implements Symbols and Names of the HTTP services."""

    def __init__(self, clock: SeenClock, ledgers: LedgerCache) -> None:
        self._clock = clock
        self._ledgers = ledgers
        self._listed: ListedThen | None = None
        self._symbols: Mapping[str, Symbol] = {}
        self.trouble: str | None = None
        """Why there is no list; None if there is one."""

    def load(self, body: bytes | None) -> None:
        """Take the exchangeInfo that the store has; None if it has none yet."""
        try:
            symbols = exchange_info.decode(body or b"")
            self._listed = ListedThen(body or b"", symbols)
        except BadExchangeInfo:
            self.trouble = "the database has no list of symbols: run the node once"
            return
        self._symbols, self.trouble = {symbol.name: symbol for symbol in symbols}, None

    def exchange_info(self) -> bytes | None:
        """The answer as of now; None without a list."""
        return None if self._listed is None else self._listed.body(self._clock.seen_ms)

    async def refresh(self) -> tuple[list[str], list[str]]:
        """Raises UpstreamUnavailable."""
        raise UpstreamUnavailable("a replay asks no exchange for its list", Reason.NOT_HELD)

    def is_begun(self, symbol: str) -> bool:
        """Whether a symbol existed by now: it was listed, or klines of it are held from before."""
        listed = self._symbols.get(symbol)
        held = self._ledgers.ledger(Series(KLINES, symbol, M1)).held
        seen_ms = self._clock.seen_ms
        return (listed is not None and listed.onboard_ms <= seen_ms) or (bool(held) and held.hull.start_ms < seen_ms)

    def is_listed(self, name: str) -> bool | None:
        """Whether a symbol or pair is known at any time: its streams begin when it does."""
        return name in self._symbols or name in self._ledgers.names()

    async def learn(self, name: str) -> bool:
        """False: nobody is asked."""
        return False

    def asking(self, path: str, name: str) -> AbstractContextManager[None]:
        """A context that does nothing."""
        return nullcontext()

    def note(self, path: str, name: str, error: BinanceError | None) -> None:
        """Remember nothing: nobody is asked."""
