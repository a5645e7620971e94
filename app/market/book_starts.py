"""When clients began to follow an order book by its stream: a snapshot cached before then must not be served to them.

A local order book needs a snapshot that the stream's first event continues, or a newer one (binance-facts section 5.5).
"""

import asyncio
import contextlib
from itertools import count
from typing import Final

from cachetools import LRUCache

from app.binance.stream_name import parse
from app.domain import letters
from app.market.stream_hub import Hub
from app.ports.clock import Clock

PATHS: Final = {"/fapi/v1/depth": "depth", "/fapi/v1/rpiDepth": "rpiDepth"}
"""Snapshot endpoints, each with the kind of the streams whose events continue its snapshots."""
SYMBOLS_MAX: Final = 8_192  # as many as streams may be subscribed (STREAMS_MAX in stream_hub.py)
FIRST_FRAME_S_MAX: Final = 3.0  # a symbol without a frame for so long has an unchanged book: any snapshot of it is true
_SPEEDS: Final = {"depth": ("", "@100ms", "@250ms", "@500ms"), "rpiDepth": ("@500ms",)}


class BookStarts:
    """Numbers the editions of order books: each new listener starts an edition, for which a new snapshot is fetched.

    Example: a client that subscribes to btcusdt@depth starts a new edition of the book ("depth", "BTCUSDT"); a depth
    snapshot cached under the edition before is no longer served.
    """

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock
        self._numbers = count(1)
        self._editions: LRUCache[tuple[str, str], int] = LRUCache(SYMBOLS_MAX)
        self._untold: LRUCache[tuple[str, str], int] = LRUCache(SYMBOLS_MAX)
        self._heard: LRUCache[tuple[str, str], tuple[int, int]] = LRUCache(SYMBOLS_MAX)
        """The newest edition that a snapshot was requested of, and when its streams were heard (ms)."""

    def joined(self, stream: str) -> None:
        """A client has subscribed to `stream`; if it is a book's stream, start a new edition of the book."""
        name = parse(stream)
        if name is not None and name.kind in _SPEEDS:
            self.begin(name.kind, name.symbol)

    def begin(self, kind: str, symbol: str) -> None:
        """Start a new edition of a book: snapshots cached before now are outdated."""
        self._editions[kind, symbol] = self._untold[kind, symbol] = next(self._numbers)

    def is_untold(self, kind: str, symbol: str) -> bool:
        """Whether an edition has begun since the last call; the caller then reports it once to the writer process."""
        return self._untold.pop((kind, symbol), None) is not None

    def started_ms(self, kind: str, symbol: str) -> int | None:
        """When the streams of the book's newest edition were heard, as `edition` noted it; None: nobody listens."""
        number = self._editions.get((kind, symbol))
        if number is None:
            return None
        of, heard_ms = self._heard.get((kind, symbol), (0, 0))
        return heard_ms if of == number else self._clock.now_ms()

    async def edition(self, kind: str, symbol: str) -> int:
        """The edition that a snapshot requested now belongs to.

        Waits until each subscribed stream of the book has delivered its first frame, FIRST_FRAME_S_MAX at most.
        """
        streams = [f"{letters.lower(symbol)}@{kind}{speed}" for speed in _SPEEDS[kind]]
        waiting = [event for stream in streams if (event := self._hub.unheard(stream)) is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_FRAME_S_MAX):
                for event in waiting:
                    await event.wait()
        number = self._editions.get((kind, symbol), 0)
        if number and self._heard.get((kind, symbol), (0, 0))[0] != number:
            self._heard[kind, symbol] = number, self._clock.now_ms()
        return number
