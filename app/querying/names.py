"""Names missing from the exchange's list as last read: new listings, coin-margined contracts, and invented names.

A symbol listed since then is served within seconds; invented names must not cost unbounded weight or memory.
"""

import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from cachetools import LRUCache

from app.binance import coin_margined
from app.binance.error_body import BinanceError, invalid_symbol, service_unavailable
from app.domain.interval import MINUTE_MS
from app.domain.reason import Reason
from app.domain.validity import is_fresh
from app.holding.symbol_sync import SymbolSync
from app.ports.clock import Clock
from app.ports.coordination import WriterUnreachable
from app.ports.errors import StoreUnavailable, UpstreamError
from app.querying.refusal import RETRY_AFTER_S
from app.querying.single_flight import SingleFlight

LOOK_PAUSE_MS_MIN: Final = 4_000  # between two fetches of the list for an unknown name: weight 1 each
LOOK_PAUSE_MS_MAX: Final = 16_000
"""The pause while nothing new is found: invented names cost a weight of 4 a minute, a listing waits no longer."""
QUIET_MS: Final = 2 * MINUTE_MS  # after this long without unknown names the next one is looked up at once
NEW_COINS_PER_MINUTE: Final = 30  # unconfirmed coin-margined names; Binance has about as many pairs
COINS_MAX: Final = 1_024  # confirmed names cached; a name has at most 27 characters
REFUSED_MAX: Final = 4_096
REFUSED_MS: Final = 5 * MINUTE_MS  # the exchange's refusal of such a name holds for so long
_NAME: Final = re.compile(r"\w[\w.-]{0,31}")  # the longest live symbol has 17 characters


class Names:
    """Looks up unknown names at the exchange, within a rate limit, and caches its refusals."""

    def __init__(self, clock: Clock, symbols: SymbolSync, refresh: Callable[[str], Awaitable[object]]) -> None:
        """`refresh` fetches the list again for a name; raises UpstreamError, StoreUnavailable or WriterUnreachable."""
        self._clock = clock
        self._symbols = symbols
        self._refresh = refresh
        self._looks = SingleFlight[str, None](1, "looks at the list of symbols")
        self._looked_ms: int | None = None
        self._pause_ms = LOOK_PAUSE_MS_MIN
        self._coins: LRUCache[str, None] = LRUCache(COINS_MAX)
        self._refused: LRUCache[tuple[str, str], int] = LRUCache(REFUSED_MAX)
        self._new_coins_ms: deque[int] = deque(maxlen=NEW_COINS_PER_MINUTE)

    def is_listed(self, name: str) -> bool | None:
        """Whether the exchange's list, as last read, has `name` (in upper case); None if the list was never read."""
        return name in self._symbols.listings if self._symbols.synced_ms is not None else None

    async def learn(self, name: str) -> bool:
        """Whether the exchange lists `name` (upper case); fetches the list again if it lacks the name and is old."""
        if not self._symbols.listings or not _NAME.fullmatch(name):
            return False
        if name not in self._symbols.listings and self._may_look():
            await self._looks.join("", lambda: self._look(name))
        return name in self._symbols.listings

    @contextlib.contextmanager
    def asking(self, path: str, name: str) -> Iterator[None]:
        """Wrap a request to the exchange at `path` for `name`, which may be coin-margined, and cache the outcome.

        Raises BinanceError: the exchange's cached refusal, or 503 while too many unconfirmed names are asked for.
        """
        if not (coin_margined.is_symbol(name) or coin_margined.is_pair(name)) or name in self._symbols.listings:
            yield
            return
        self._admit(path, name)
        try:
            yield
        except BinanceError as error:
            self.note(path, name, error)
            raise
        self._coins[name] = None

    def note(self, path: str, name: str, error: BinanceError | None) -> None:
        """Cache the exchange's refusal of `name` at `path` for REFUSED_MS if it says that the symbol is invalid."""
        if error is not None and error.code == invalid_symbol().code:
            self._refused[path, name] = self._clock.now_ms()
            self._coins.pop(name, None)

    def _admit(self, path: str, name: str) -> None:
        now_ms = self._clock.now_ms()
        refused_ms = self._refused.get((path, name))
        if is_fresh(refused_ms, now_ms, REFUSED_MS):
            raise invalid_symbol()
        if name in self._coins:
            return
        oldest_ms = self._new_coins_ms[0] if len(self._new_coins_ms) == NEW_COINS_PER_MINUTE else None
        if is_fresh(oldest_ms, now_ms, MINUTE_MS):
            wait_s = max(RETRY_AFTER_S, (oldest_ms + MINUTE_MS - now_ms + 999) // 1000)
            raise service_unavailable(wait_s, Reason.BUSY)
        self._new_coins_ms.append(now_ms)

    def _may_look(self) -> bool:
        """Whether the list is old enough to be read again, or is being read at this moment."""
        if len(self._looks):
            return True
        now_ms = self._clock.now_ms()
        if self._looked_ms is not None and not is_fresh(self._looked_ms, now_ms, QUIET_MS):
            self._pause_ms = LOOK_PAUSE_MS_MIN
        times_ms = [time_ms for time_ms in (self._looked_ms, self._symbols.synced_ms) if time_ms is not None]
        return not any(is_fresh(time_ms, now_ms, self._pause_ms) for time_ms in times_ms)

    async def _look(self, name: str) -> None:
        before = self._symbols.listings.keys()
        with contextlib.suppress(UpstreamError, StoreUnavailable, WriterUnreachable):  # the sync reports it
            await self._refresh(name)
        self._looked_ms = self._clock.now_ms()
        is_fruitful = self._symbols.listings.keys() != before
        self._pause_ms = LOOK_PAUSE_MS_MIN if is_fruitful else min(LOOK_PAUSE_MS_MAX, 2 * self._pause_ms)
