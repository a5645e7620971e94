"""Best bid and ask of some symbols in memory: the bookTicker stream's newest update, compared with REST every minute.

The exchange's update ids order the updates. If stream and REST give different values for the same update id, the
mirror drops its row and REST answers.
"""

from typing import Final

from app.binance import book_ticker
from app.binance.book_ticker import BadBest, Best
from app.domain.validity import is_fresh
from app.events import GarbageDropped, Observe
from app.market.endpoints import Question
from app.market.listened import IDLE_MS, Listened
from app.ports.clock import Clock
from app.ports.streams import StreamHub

PATH: Final = "/fapi/v1/ticker/bookTicker"
QUIET_MS_MAX: Final = 3_000  # without a frame for longer, the stream may be dead: REST answers
CHECKED_MS_MAX: Final = 60_000  # the longest time between two comparisons with REST


class _Side:
    """One symbol's best bid and ask, with the times of the last request, stream frame and comparison with REST."""

    __slots__ = ("asked_ms", "best", "checked_ms", "heard_ms")

    def __init__(self, now_ms: int) -> None:
        self.best: Best | None = None
        self.asked_ms = now_ms
        self.heard_ms: int | None = None
        self.checked_ms: int | None = None


class BookMirror:
    """The newest best bid and ask of symbols that clients request one by one; a Mirror of /ticker/bookTicker."""

    def __init__(self, clock: Clock, hub: StreamHub, observe: Observe) -> None:
        self._clock = clock
        self._observe = observe
        self._of = Listened(hub, "bookTicker", self._hear, _Side)

    def answer(self, question: Question) -> bytes | None:
        """The body REST would answer with; None when REST has to be asked, which for all symbols is always."""
        now_ms, symbol = self._clock.now_ms(), question.params.get("symbol")
        if symbol is None:
            self._of.release(now_ms)
            return None
        side = self._of.asked(symbol, now_ms)
        if side is None:
            return None
        is_heard = is_fresh(side.heard_ms, now_ms, QUIET_MS_MAX)
        is_checked = is_fresh(side.checked_ms, now_ms, CHECKED_MS_MAX)
        return book_ticker.encode(side.best) if is_heard and is_checked and side.best is not None else None

    def wants_snapshot(self) -> bool:
        """False: the mirror holds single symbols, never the answer about all."""
        return False

    def learn(self, question: Question, body: bytes, asked_ms: int) -> None:
        """Take in REST's answer about one symbol, requested at `asked_ms`; garbage or a contradiction drops the row."""
        side = self._of.get(question.params.get("symbol", ""))
        if side is None:
            return
        side.checked_ms = None
        try:
            told = book_ticker.decode(body)
            _compare(told, side.best)
        except BadBest as error:
            self._observe(GarbageDropped(PATH, str(error)))
            side.best = None
            return
        side.checked_ms = asked_ms
        if side.best is None or told.update > side.best.update:
            side.best = told

    def _hear(self, stream: str, payload: bytes) -> None:
        now_ms = self._clock.now_ms()
        try:
            best = book_ticker.decode_event(payload)
        except BadBest as error:
            self._observe(GarbageDropped(stream, str(error)))
            return
        side = self._of.get(best.symbol)
        if side is None:
            return
        if not is_fresh(side.asked_ms, now_ms, IDLE_MS):
            self._of.release(now_ms)
            return
        side.heard_ms = now_ms
        if side.best is None or best.update > side.best.update:
            side.best = best


def _compare(told: Best, heard: Best | None) -> None:
    """Raise BadBest when stream and REST give different values for the same update id."""
    if heard is not None and heard.update == told.update and heard != told:
        raise BadBest(f"the stream says {heard}, REST {told}")
