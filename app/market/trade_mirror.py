"""The newest aggTrades held in memory: REST's rows once, and the stream's after them for as long as no id is missing.

What is answered is what REST would say: ids follow each other without a gap, a row that both state is the same in both,
and where the stream has been quiet for a while REST is asked whether there is nothing new.
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
QUIET_MS_MAX: Final = 10_000  # a stream that may have died unnoticed is checked after this long
DOUBT_MS: Final = 60_000  # a stream that contradicted REST, or a form that is not known, is tried again after this long
REACH_MS: Final = 48 * HOUR_MS  # REST gives none that are older


class _Trades:
    """The newest trades of one symbol; `since_ms` is None while an id may be missing."""

    __slots__ = ("asked_ms", "doubted_ms", "heard_ms", "rows", "since_ms")

    def __init__(self, now_ms: int) -> None:
        self.rows: deque[AggTrade] = deque(maxlen=ROWS_MAX)
        self.asked_ms = now_ms
        self.heard_ms: int | None = None
        self.since_ms: int | None = None
        self.doubted_ms: int | None = None


class TradeMirror:
    """Knows the newest trades of some symbols while somebody asks for them."""

    def __init__(self, clock: Clock, hub: StreamHub, observe: Observe) -> None:
        self._clock = clock
        self._observe = observe
        self._of = Listened(hub, "aggTrade", self._hear, _Trades)

    def widened(self, question: Question) -> Question | None:
        """The question that has the answer to all about a symbol's newest trades; None when it is about others."""
        params = question.params
        if params.keys() != {"symbol", "limit"}:
            return None
        return Question(PATH, (("symbol", params["symbol"]), ("limit", str(ROWS_MAX))))

    def answer(self, question: Question) -> bytes | None:
        """What REST would say; None when it has to be asked."""
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
        """Take over REST's answer to a widened question."""
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
            return  # between the two something is missing: the next answer reaches further
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
            trades.rows.clear()  # ids are missing: REST has them
            trades.since_ms = None
        trades.rows.append(row)


def _compare(told: Sequence[AggTrade], heard: Sequence[AggTrade]) -> None:
    """Raise BadTrades when the stream states a row differently from REST."""
    known = {row.number: row for row in told}
    for row in heard:
        if known.get(row.number, row) != row:
            raise BadTrades(f"the stream says {row}, REST {known[row.number]}")
