"""Symbol sync: keeps the exchange's list of symbols, and the symbols the node follows, up to date."""

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


Keep = Callable[[bytes, int], Awaitable[None]]
"""Stores exchangeInfo's body, received at the given time (ms), if this process writes. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The settings that select symbols from the exchange's list."""

    fallback: Sequence[str]
    """SYMBOLS: the symbols followed when `auto` is off, and until the list is first read."""
    quote_assets: Sequence[str]
    contract_types: Sequence[str]
    auto: bool
    """Whether all symbols of these quote assets and contract types are followed."""
    named: Sequence[str] = ()
    """Symbols named by other settings; health reports the ones that are not listed."""


class SymbolSync:
    """The listed symbols, the wished ones among them, and the body of exchangeInfo as received."""

    def __init__(
        self,
        clock: Clock,
        observe: Observe,
        rest: RestApi,
        selection: Selection,
        keep: Keep,
        changed: Callable[[Sequence[str]], None],
    ) -> None:
        """`changed` is called after each list read, with the symbols no longer followed."""
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
        """Recently delivered symbols: the node still completes their klines."""
        self.last_error: str | None = None
        self.unlisted: tuple[str, ...] = ()
        """Symbols that the settings name and the exchange does not list: misspelt or delisted."""

    def exchange_info(self) -> bytes | None:
        """The body of exchangeInfo as last received; None before the first."""
        return self._body

    def listing(self, symbol: str) -> Symbol | None:
        """The symbol's entry in the exchange's list; None when it is not listed."""
        return self.listings.get(symbol)

    async def load(self, store: StoreReader) -> bool:
        """Adopt the store's list if it is newer than ours and usable; returns whether it was adopted."""
        stored = await store.document(DOCUMENT)
        if stored is None or (self.synced_ms is not None and stored[1] <= self.synced_ms):
            return False
        try:
            self._adopt(stored[0], stored[1])
        except UpstreamGarbage as error:  # the settings changed since it was stored; `refresh` will fetch a new list
            self.last_error = str(error)
            return False
        return True

    async def refresh(self) -> tuple[Sequence[str], Sequence[str]]:
        """Fetch the list; returns symbols added to and removed from the wish.

        Raises UpstreamError, and StoreUnavailable when the list could not be stored.
        """
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
        """Refresh forever: every `every_s` seconds with jitter, sooner after a failure or a followed symbol's end."""
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

    def _until_an_end_s(self) -> float:
        """Seconds until a minute after the next followed symbol is delivered: its stream is silent then, so refresh."""
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
