"""Since when somebody follows a symbol's order book by its stream: a snapshot from before that is of no use to them.

Binance's procedure for a local book needs a snapshot that the stream's first event continues, or one that is newer.
"""

import asyncio
import contextlib
from itertools import count
from typing import Final

from cachetools import LRUCache

from app.binance.stream_name import parse
from app.domain import letters
from app.market.stream_hub import Hub

PATHS: Final = {"/fapi/v1/depth": "depth", "/fapi/v1/rpiDepth": "rpiDepth"}
"""Endpoints that give snapshots, and the kind of the streams that carry them on."""
SYMBOLS_MAX: Final = 8_192  # as many as there are streams
FIRST_FRAME_S_MAX: Final = 3.0  # the book of a quiet symbol may stand still for longer: its snapshot is true then
_SPEEDS: Final = {"depth": ("", "@100ms", "@250ms", "@500ms"), "rpiDepth": ("@500ms",)}


class BookStarts:
    """Numbers the editions of books: with every new listener begins one, whose snapshots are asked for anew."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._numbers = count(1)
        self._editions: LRUCache[tuple[str, str], int] = LRUCache(SYMBOLS_MAX)
        self._untold: LRUCache[tuple[str, str], int] = LRUCache(SYMBOLS_MAX)

    def joined(self, stream: str) -> None:
        """Somebody hears `stream` from now on."""
        name = parse(stream)
        if name is not None and name.kind in _SPEEDS:
            self.begin(name.kind, name.symbol)

    def begin(self, kind: str, symbol: str) -> None:
        """No snapshot from before is of use any longer."""
        self._editions[kind, symbol] = self._untold[kind, symbol] = next(self._numbers)

    def is_untold(self, kind: str, symbol: str) -> bool:
        """Whether an edition has begun since the last call: whoever else keeps snapshots has to hear of it once."""
        return self._untold.pop((kind, symbol), None) is not None

    async def edition(self, kind: str, symbol: str) -> int:
        """The edition that a snapshot asked for now belongs to, once the streams of the book have begun to deliver."""
        streams = [f"{letters.lower(symbol)}@{kind}{speed}" for speed in _SPEEDS[kind]]
        waiting = [event for stream in streams if (event := self._hub.unheard(stream)) is not None]
        with contextlib.suppress(TimeoutError):  # nothing moves in the book, so that any snapshot is true
            async with asyncio.timeout(FIRST_FRAME_S_MAX):
                for event in waiting:
                    await event.wait()
        return self._editions.get((kind, symbol), 0)
