"""Order books that the collector holds answer /depth, as long as they are proven contiguous, heard and deep enough.

A client that follows the book's stream needs a snapshot that its first event continues (binance-facts section 5.5).
The collector hears the book by a socket of its own, which may be behind the client's: after a client has joined the
stream, the book answers again once the exchange has sent a newer frame of it (`STARTED_MS`).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from cachetools import LRUCache

from app.binance import depth
from app.collecting.book_chain import BookChain
from app.collecting.held_book import best_levels
from app.domain.validity import is_fresh
from app.market.endpoints import Question
from app.ports.clock import Clock

PATH: Final = "/fapi/v1/depth"
LIMIT_DEFAULT: Final = 500
QUIET_MS_MAX: Final = 1_000
"""Without a frame for longer, or with frames that are sent longer ago, the book may be behind: REST answers."""
STARTED_MS: Final = 250
"""By so much later than a stream's first frame must a book have been sent: clocks differ by less."""
BODIES_MAX: Final = 64
"""Answers kept until their book changes, each of at most 60 KB: to print 1,000 levels takes a millisecond."""

BookOf = Callable[[str], BookChain | None]
"""The held book of a symbol; None: it is not followed, or not proven contiguous."""


def no_book(symbol: str) -> BookChain | None:
    """No book of any symbol: of a process without a collector."""
    del symbol
    return None


class _Body(NamedTuple):
    chain: BookChain
    state: tuple[int, int]
    """The book's sequence and time of sending, which each frame changes."""
    body: bytes | None


class DepthMirror:
    """The Mirror of /depth."""

    def __init__(self, clock: Clock, book_of: BookOf, started_ms: Callable[[str], int | None]) -> None:
        """`started_ms`: when a symbol's book stream that clients follow was first heard by the newest of them."""
        self._clock = clock
        self._book_of = book_of
        self._started_ms = started_ms
        self._bodies: LRUCache[tuple[str, int], _Body] = LRUCache(BODIES_MAX)

    def answer(self, question: Question) -> bytes | None:
        """The body REST would answer with at this moment; None when REST has to be asked."""
        symbol, limit = question.params["symbol"], question.number("limit") or LIMIT_DEFAULT
        chain = self._book_of(symbol)
        if chain is None or not self._is_new(chain, self._started_ms(symbol)):
            return None
        state = chain.last, chain.sent_ms
        kept = self._bodies.get((symbol, limit))
        if kept is None or kept.chain is not chain or kept.state != state:
            kept = self._bodies[symbol, limit] = _Body(chain, state, _body(chain, limit))
        return kept.body

    def wants_snapshot(self) -> bool:
        """False: there is no answer about all symbols."""
        return False

    def learn(self, question: Question, body: bytes, asked_ms: int) -> None:
        """Nothing: the collector fetches its own snapshots."""

    def _is_new(self, chain: BookChain, started_ms: int | None) -> bool:
        now_ms = self._clock.now_ms()
        is_heard = is_fresh(chain.received_ms, now_ms, QUIET_MS_MAX) and now_ms - chain.sent_ms < QUIET_MS_MAX
        return is_heard and (started_ms is None or chain.sent_ms >= started_ms + STARTED_MS)


def _body(chain: BookChain, limit: int) -> bytes | None:
    best = best_levels(chain, limit)
    if best is None:
        return None
    return depth.encode(best.sequence, (best.sent_ms, best.timestamp_ms), best.bids, best.asks)
