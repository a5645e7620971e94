"""Symbol sync: which symbols the exchange lists and which of them the node follows, kept up to date."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from app.binance import exchange_info
from app.domain.backoff import spread_s
from app.domain.interval import MINUTE_MS
from app.domain.symbol import Symbol
from app.events import GarbageDropped, Observe, SymbolsSynced, SymbolsUnlisted
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable, UpstreamError, UpstreamGarbage
from app.ports.exchange import Priority, RestApi
from app.ports.store import StoreReader

DOCUMENT: Final = "exchangeInfo"
RETRY_DELAY_S_MIN: Final = 1.0
RETRY_DELAY_S_MAX: Final = 60.0
RELOAD_EVERY_S: Final = 5.0  # how often a process that does not write looks for a newer list in the store


class Documents(StoreReader, Protocol):
    """A store in which the list can be kept."""

    async def save_document(self, name: str, body: bytes, stored_ms: int) -> None:
        """Keep a document."""
        ...


class SymbolSync:
    """The listed symbols, the wished ones among them, and exchangeInfo as the exchange sent it."""

    def __init__(
        self,
        clock: Clock,
        observe: Observe,
        rest: RestApi,
        *,
        fallback: Sequence[str],
        quote_assets: Sequence[str],
        contract_types: Sequence[str],
        auto: bool,
        every_s: int,
        rng: random.Random,
        named: Sequence[str] = (),
        changed: Callable[[Sequence[str]], None] = lambda removed: None,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._rest = rest
        self._quote_assets = frozenset(quote_assets)
        self._contract_types = frozenset(contract_types)
        self._fallback = tuple(fallback)
        self._auto = auto
        self._every_s = every_s
        self._rng = rng
        self._named = tuple(dict.fromkeys((*(() if auto else fallback), *named)))
        self._changed = changed
        self._body: bytes | None = None
        self._store: Documents | None = None
        self.before_saving: Callable[[], Awaitable[None]] = nothing_more
        """Done before a new list is kept: what it changes must be known to whoever reads it from the store."""
        self.synced_ms: int | None = None
        self.listings: dict[str, Symbol] = {}
        self.wished: tuple[str, ...] = self._fallback
        self.wished_set: frozenset[str] = frozenset(self._fallback)
        self.settled: frozenset[str] = frozenset()
        """Symbols that were delivered lately: what is held of them is completed."""
        self.last_error: str | None = None
        self.unlisted: tuple[str, ...] = ()
        """What the settings name and the exchange does not list: misspelt, or gone."""

    def exchange_info(self) -> bytes | None:
        """The body of exchangeInfo as last received; None when it never was."""
        return self._body

    def listing(self, symbol: str) -> Symbol | None:
        """What the exchange says of a symbol."""
        return self.listings.get(symbol)

    async def load(self, store: StoreReader) -> bool:
        """Take over the list that the store holds, if it is newer than ours and usable; returns whether it was."""
        stored = await store.document(DOCUMENT)
        if stored is None or (self.synced_ms is not None and stored[1] <= self.synced_ms):
            return False
        try:
            self._adopt(stored[0], stored[1])
        except UpstreamGarbage as error:  # the settings were changed since: the exchange is asked anyway
            self.last_error = str(error)
            return False
        return True

    def write_to(self, store: Documents | None) -> None:
        """From now on keep what is received in `store`; without one it is only kept in memory."""
        self._store = store

    async def refresh(self) -> tuple[Sequence[str], Sequence[str]]:
        """Ask the exchange; returns the symbols added to and removed from the wish. Raises UpstreamError."""
        body = await self._rest.exchange_info(Priority.TAIL)
        now_ms = self._clock.now_ms()
        before = self.unlisted
        added, removed = self._adopt(body, now_ms)
        if self.unlisted and self.unlisted != before:
            self._observe(SymbolsUnlisted(self.unlisted))
        if self._store is not None:
            await self.before_saving()
            await self._store.save_document(DOCUMENT, body, now_ms)
        self.last_error = None
        self._observe(SymbolsSynced(len(self.wished), added, removed))
        return added, removed

    async def run(self) -> None:
        """Refresh every `every_s` seconds with jitter, sooner after a failure, for ever."""
        failures = 0
        while True:
            try:
                await self.refresh()
                failures = 0
                delay_s = min(self._every_s * self._rng.uniform(0.9, 1.1), self._until_an_end_s())
            except (UpstreamError, StoreUnavailable) as error:
                failures += 1
                self.last_error = str(error)
                pause_s = spread_s(self._rng, failures, RETRY_DELAY_S_MIN, RETRY_DELAY_S_MAX)
                delay_s = min(self._every_s, pause_s)
            await self._clock.sleep(delay_s)

    async def follow(self, store: StoreReader) -> None:
        """Take over newer lists from the store for ever: what a process does that does not write."""
        while True:
            await self.load(store)
            await self._clock.sleep(RELOAD_EVERY_S)

    def _until_an_end_s(self) -> float:
        """When the list is to be read because a followed symbol has been delivered: its stream is silent then."""
        now_ms = self._clock.now_ms()
        ends = [each.ends_ms for name in self.wished if (each := self.listings.get(name)) and each.ends_ms is not None]
        return (
            min((ends_ms + MINUTE_MS - now_ms for ends_ms in ends if ends_ms + MINUTE_MS > now_ms), default=1e9) / 1000
        )

    def _adopt(self, body: bytes, received_ms: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        try:
            symbols = exchange_info.decode(body)
        except exchange_info.BadExchangeInfo as error:
            self._observe(GarbageDropped("exchangeInfo", str(error)))
            raise UpstreamGarbage(str(error)) from error
        listings = {symbol.name: symbol for symbol in symbols}
        now_ms = self._clock.now_ms()
        if self._auto:
            wished = tuple(
                symbol.name for symbol in symbols if symbol.is_wished(self._quote_assets, self._contract_types, now_ms)
            )
        else:
            wished = tuple(name for name in self._fallback if name in listings)
        if not wished:
            reason = "exchangeInfo lists no symbol to follow; check QUOTE_ASSETS, CONTRACT_TYPES and SYMBOLS"
            self._observe(GarbageDropped("exchangeInfo", reason))
            raise UpstreamGarbage(reason)
        before = self.wished if self.synced_ms is not None else ()
        added = tuple(name for name in wished if name not in before)
        removed = tuple(name for name in before if name not in wished)
        self._body, self.listings, self.synced_ms = body, listings, received_ms
        self.wished, self.wished_set = wished, frozenset(wished)
        self.settled = frozenset(symbol.name for symbol in symbols if symbol.is_settled(now_ms))
        self.unlisted = tuple(name for name in self._named if name not in listings)
        self._changed(removed)
        return added, removed


async def nothing_more() -> None:
    """For who keeps no lists."""
