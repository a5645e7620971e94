"""Symbol sync: which symbols the exchange lists and which of them the node follows, kept up to date."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

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


Keep = Callable[[bytes, int], Awaitable[None]]
"""Stores exchangeInfo, received at that time (ms), where this process writes. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the listed symbols the settings select."""

    fallback: Sequence[str]
    """SYMBOLS: all that is followed when `auto` is off, and until the list was read."""
    quote_assets: Sequence[str]
    contract_types: Sequence[str]
    auto: bool
    """Whether every symbol of these quote assets and contract types is followed."""
    named: Sequence[str] = ()
    """Symbols that other settings name: health complains of those that are not listed."""


class SymbolSync:
    """The listed symbols, the wished ones among them, and exchangeInfo as the exchange sent it."""

    def __init__(
        self,
        clock: Clock,
        observe: Observe,
        rest: RestApi,
        selection: Selection,
        keep: Keep,
        changed: Callable[[Sequence[str]], None],
    ) -> None:
        """`changed` is called with the symbols that are followed no longer, after each list that was read."""
        self._clock = clock
        self._observe = observe
        self._rest = rest
        self._quote_assets = frozenset(selection.quote_assets)
        self._contract_types = frozenset(selection.contract_types)
        self._fallback = tuple(selection.fallback)
        self._auto = selection.auto
        self._named = tuple(dict.fromkeys((*(() if selection.auto else selection.fallback), *selection.named)))
        self._keep = keep
        self._changed = changed
        self._body: bytes | None = None
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

    async def refresh(self) -> tuple[Sequence[str], Sequence[str]]:
        """Ask the exchange; returns the symbols added to and removed from the wish. Raises UpstreamError."""
        body = await self._rest.exchange_info(Priority.TAIL)
        now_ms = self._clock.now_ms()
        before = self.unlisted
        added, removed = self._adopt(body, now_ms)
        if self.unlisted and self.unlisted != before:
            self._observe(SymbolsUnlisted(self.unlisted))
        await self._keep(body, now_ms)
        self.last_error = None
        self._observe(SymbolsSynced(len(self.wished), added, removed))
        return added, removed

    async def run(self, every_s: int, rng: random.Random) -> None:
        """Refresh every `every_s` seconds with jitter, sooner after a failure, for ever."""
        failures = 0
        while True:
            try:
                await self.refresh()
                failures = 0
                delay_s = min(every_s * rng.uniform(0.9, 1.1), self._until_an_end_s())
            except (UpstreamError, StoreUnavailable) as error:
                failures += 1
                self.last_error = str(error)
                pause_s = spread_s(rng, failures, RETRY_DELAY_S_MIN, RETRY_DELAY_S_MAX)
                delay_s = min(every_s, pause_s)
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
