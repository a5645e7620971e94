"""Mark prices in memory: a REST snapshot of premiumIndex once a minute, updated by the rows of the stream.

The mirror answers what REST would answer. A row is used while the stream updates it, or when REST itself has stopped
updating it: a settled symbol keeps its last row. If stream and REST give different values for the same symbol and time,
the snapshot is dropped and REST answers.
"""

from typing import Final

from app.binance import marks
from app.binance.marks import BadMarks, Mark, MarkUpdate
from app.domain.validity import is_fresh
from app.events import GarbageDropped, Observe
from app.market.endpoints import Question
from app.ports.clock import Clock
from app.ports.streams import StreamHub, StreamsFull

PATH: Final = "/fapi/v1/premiumIndex"
STREAM: Final = "!markPrice@arr@1s"
SNAPSHOT_MS_MAX: Final = 60_000  # bounds the age of what no stream has: the interest rate and the list of symbols
QUIET_MS_MAX: Final = 3_000  # a row is updated every second; without an update for so long, REST is asked
SETTLED_MS: Final = 60_000  # a row that REST has not updated for so long is no longer computed
SYMBOLS_MAX: Final = 10_000  # ten times what is listed
IDLE_MS: Final = 60_000  # without a request for so long, the stream is left


class MarkMirror:
    """The newest mark prices, kept while clients request them; a Mirror of /premiumIndex."""

    def __init__(self, clock: Clock, hub: StreamHub, observe: Observe) -> None:
        self._clock = clock
        self._hub = hub
        self._observe = observe
        self._is_joined = False
        self._asked_ms = 0
        self._snapshot_ms: int | None = None
        self._tried_ms: int | None = None
        self._rows: dict[str, Mark] = {}
        self._news: dict[str, tuple[int, MarkUpdate]] = {}
        """By symbol: the time (ms) at which the newest update arrived, and the update."""
        self._strangers: frozenset[str] = frozenset()
        """Symbols that the stream has and the last snapshot lacks."""

    def answer(self, question: Question) -> bytes | None:
        """The body REST would answer with, for one symbol or all; None when REST has to be asked."""
        now_ms = self._clock.now_ms()
        self._asked_ms = now_ms
        self._join()
        if not is_fresh(self._snapshot_ms, now_ms, SNAPSHOT_MS_MAX):
            return None
        symbol = question.params.get("symbol")
        if symbol is not None:
            mark = self._row(symbol, now_ms)
            return None if mark is None else marks.encode(mark)
        if not self._news.keys() <= self._rows.keys() | self._strangers:
            return None  # a symbol was listed after the snapshot
        rows = [self._row(name, now_ms) for name in self._rows]
        whole = [row for row in rows if row is not None]
        return marks.encode(whole) if len(whole) == len(rows) else None

    def wants_snapshot(self) -> bool:
        """Whether a snapshot of all symbols is due: once in SNAPSHOT_MS_MAX, even if the last attempt failed."""
        now_ms = self._clock.now_ms()
        if is_fresh(self._tried_ms, now_ms, SNAPSHOT_MS_MAX):
            return False
        self._tried_ms = now_ms
        return True

    def learn(self, question: Question, body: bytes, asked_ms: int) -> None:
        """Replace the snapshot by REST's answer about all symbols, requested at `asked_ms`; garbage drops it."""
        if question.pairs:
            return  # one row is no snapshot: it does not say which symbols are listed
        self._snapshot_ms, self._tried_ms = None, asked_ms
        try:
            rows = {mark.symbol: mark for mark in marks.decode(body)}
            self._compare(rows)
        except BadMarks as error:
            self._observe(GarbageDropped(PATH, str(error)))
            return
        self._rows, self._snapshot_ms = rows, asked_ms
        self._strangers = frozenset(self._news.keys() - rows.keys())

    def _join(self) -> None:
        if not self._is_joined:
            try:
                self._hub.join(STREAM, self._hear)
            except StreamsFull:
                return  # REST is asked instead
            self._is_joined = True

    def _hear(self, _stream: str, payload: bytes) -> None:
        now_ms = self._clock.now_ms()
        if not is_fresh(self._asked_ms, now_ms, IDLE_MS):
            self._hub.leave(STREAM, self._hear)
            self._is_joined, self._snapshot_ms = False, None
            self._rows, self._news = {}, {}
            return
        try:
            updates = marks.decode_updates(payload)
        except BadMarks as error:
            self._observe(GarbageDropped(STREAM, str(error)))
            return
        for update in updates:
            before = self._news.get(update.symbol)
            if before is None and len(self._news) >= SYMBOLS_MAX:
                continue
            if before is None or update.event_ms >= before[1].event_ms:
                self._news[update.symbol] = (now_ms, update)

    def _row(self, symbol: str, now_ms: int) -> Mark | None:
        """The newest row of a symbol; None when it may be outdated."""
        assert self._snapshot_ms is not None, "there is a snapshot"
        mark, news = self._rows.get(symbol), self._news.get(symbol)
        if mark is None:
            return None
        if news is not None and is_fresh(news[0], now_ms, QUIET_MS_MAX):
            return marks.updated(mark, news[1]) if news[1].event_ms > mark.time_ms else mark
        is_settled = mark.time_ms < self._snapshot_ms - SETTLED_MS and (news is None or news[0] < self._snapshot_ms)
        return mark if is_settled else None

    def _compare(self, rows: dict[str, Mark]) -> None:
        """Raise BadMarks when stream and REST give different values for the same symbol and time."""
        for symbol, (_, update) in self._news.items():
            mark = rows.get(symbol)
            if mark is not None and mark.time_ms == update.event_ms and marks.updated(mark, update) != mark:
                raise BadMarks(f"{symbol} at {mark.time_ms}: the stream says {update}, REST {mark}")
