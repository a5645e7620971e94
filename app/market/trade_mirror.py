"""The newest aggTrades in memory: one page of REST, then the rows of the stream as long as no trade id is missing.

The mirror answers what REST would answer: its ids have no gap, and rows that both stream and REST have are equal. After
QUIET_MS_MAX without a frame, REST is asked, because a silent stream may have no news or be dead.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from app.binance import agg_trades
from app.binance.agg_trades import AggTrade, BadTrades
from app.domain import letters
from app.domain.interval import HOUR_MS
from app.domain.validity import is_fresh
from app.events import GarbageDropped, Observe
from app.market.endpoints import Question
from app.market.listened import Listened
from app.ports.clock import Clock
from app.ports.streams import StreamHub

PATH: Final = "/fapi/v1/aggTrades"
ROWS_MAX: Final = 1_000  # the most that REST gives at once, for the same weight as one
QUIET_MS_MAX: Final = 10_000  # without a frame for longer, the stream may be dead: REST answers
DOUBT_MS: Final = 60_000  # how long REST's pages are ignored after one was unreadable or contradicted the stream
REACH_MS: Final = 48 * HOUR_MS  # REST gives no older trades (binance-facts section 2.1)


class _Trades:
    """The newest trades of one symbol; `since_ms` is when REST last confirmed them, None while an id may be missing."""

    __slots__ = ("asked_ms", "doubted_ms", "heard_ms", "rows", "since_ms")

    def __init__(self, now_ms: int) -> None:
        self.rows: deque[AggTrade] = deque(maxlen=ROWS_MAX)
        self.asked_ms = now_ms
        self.heard_ms: int | None = None
        self.since_ms: int | None = None
        self.doubted_ms: int | None = None


class TradeMirror:
    """The newest trades of symbols that clients request; a NewestMirror of /aggTrades."""

    def __init__(self, clock: Clock, hub: StreamHub, observe: Observe) -> None:
        self._clock = clock
        self._observe = observe
        self._of = Listened(hub, "aggTrade", self._hear, _Trades)

    def widened(self, question: Question) -> Question | None:
        """The same question with REST's largest limit; None when the question is not about the newest trades."""
        params = question.params
        if params.keys() != {"symbol", "limit"}:
            return None
        return Question(PATH, (("symbol", params["symbol"]), ("limit", str(ROWS_MAX))))

    def answer(self, question: Question) -> bytes | None:
        """The body REST would answer with; None when REST has to be asked."""
        now_ms, symbol, limit = self._clock.now_ms(), question.params["symbol"], question.number("limit")
        trades = self._of.asked(symbol, now_ms)
        if trades is None:
            return None
        if trades.since_ms is None or trades.heard_ms is None:
            return None
        if not is_fresh(max(trades.heard_ms, trades.since_ms), now_ms, QUIET_MS_MAX):
            return None
        rows = [row for row in trades.rows if row.time_ms >= now_ms - REACH_MS]
        return agg_trades.encode(rows[-(limit or ROWS_MAX) :])

    def learn(self, question: Question, body: bytes) -> None:
        """Merge REST's answer to a widened question with the stream's rows; garbage or a contradiction drops all."""
        trades, now_ms = self._of.get(question.params["symbol"]), self._clock.now_ms()
        if trades is None:
            return
        if is_fresh(trades.doubted_ms, now_ms, DOUBT_MS):
            return
        try:
            told = agg_trades.decode(body)
            _compare(told, trades.rows)
        except BadTrades as error:
            self._observe(GarbageDropped(PATH, f"{question.params['symbol']}: {error}"))
            trades.doubted_ms, trades.since_ms = now_ms, None
            trades.rows.clear()
            return
        heard = trades.rows
        if told and heard and heard[0].number > told[-1].number + 1:
            return  # trades between REST's page and the stream's rows are missing: wait for a later page
        newer = [row for row in heard if not told or row.number > told[-1].number]
        is_behind = bool(told and heard and told[-1].number > heard[-1].number)
        trades.rows = deque([*told, *newer], ROWS_MAX)
        if not is_behind or trades.since_ms is None:
            trades.since_ms = now_ms

    def _hear(self, stream: str, payload: bytes) -> None:
        symbol, now_ms = letters.upper(stream.partition("@")[0]), self._clock.now_ms()
        self._of.release(now_ms)
        trades = self._of.get(symbol)
        if trades is None:
            return
        try:
            row = agg_trades.decode_event(payload)
        except BadTrades as error:
            self._observe(GarbageDropped(stream, str(error)))
            return
        trades.heard_ms = now_ms
        newest = trades.rows[-1].number if trades.rows else None
        if newest is not None and row.number <= newest:
            return
        if newest is not None and row.number != newest + 1:
            trades.rows.clear()  # ids are missing; the next page of REST has them
            trades.since_ms = None
        trades.rows.append(row)


def _compare(told: Sequence[AggTrade], heard: Sequence[AggTrade]) -> None:
    """Raise BadTrades when stream and REST give different values for the same trade id."""
    known = {row.number: row for row in told}
    for row in heard:
        if known.get(row.number, row) != row:
            raise BadTrades(f"the stream says {row}, REST {known[row.number]}")
