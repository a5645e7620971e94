"""Which frames the followed streams get at each minute's close, in order, from rows that were read ahead. Pure.

A stream of closed klines gets its kline when it closes. Longer ones also get, at each minute between, their kline in
progress made of the minutes that have closed. Nothing is made of minutes that are not held.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from app.binance.kline_frames import continuous_event, kline_event
from app.binance.stream_name import parse
from app.domain.interval import INTERVALS, M1, MINUTE_MS, Grid, UnanchoredGrid
from app.domain.kline import Kline
from app.domain.rollup import Bucket
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.replaying.unfinished import LedgerOf, parts_of, rolled

_PERPETUAL: Final = "_PERPETUAL"
_CONTINUOUS: Final = "@continuousKline_"

Frame = tuple[str, bytes]
"""A stream's name, and the event."""


class Reads(NamedTuple):
    """What is to be read next, as of `seen_ms`: up to there frames are sent."""

    version: int
    seen_ms: int
    spans: Mapping[Series, Span]
    """By series: the open times to read."""
    closes: Mapping[Series, Span]
    """By series: the closes for which rows are read ahead; they begin after the span's start and include its end."""
    parts: Mapping[Series, Mapping[Series, Span]]
    """By series whose kline in progress is to be made: the rows of which it is made, by series."""


class _Played:
    """A series with followed streams: its kline in progress."""

    __slots__ = ("bucket", "grid", "is_begun", "streams")

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.streams: dict[str, None] = {}
        self.bucket: Bucket | None = None
        """None where a minute of it is not held."""
        self.is_begun = False
        """Whether `bucket` was made since the series was followed, or the time was set."""


class Schedule:
    """The followed series, the rows read ahead for them, and their klines in progress."""

    def __init__(self, grid_of: Callable[[Series], Grid], ledger_of: LedgerOf) -> None:
        self._grid_of = grid_of
        self._ledger_of = ledger_of
        self._played: dict[Series, _Played] = {}
        self._rows: dict[Series, dict[int, Any]] = {}
        """By series, also minutes that are needed for longer ones: the rows that were read ahead, by open time."""
        self._until_ms: dict[Series, int] = {}
        """By series: up to which close its rows were read."""
        self._version = 0
        self._is_sorted = True
        """Whether shorter intervals come first in `_played`."""

    @property
    def series(self) -> int:
        """How many series have followed streams."""
        return len(self._played)

    def add(self, stream: str) -> None:
        """Follow a stream; one of which no kline is stored stays silent."""
        if (series := series_of(stream)) is None:
            return
        played, grid = self._played.get(series), self._grid_of(series)
        if isinstance(grid, UnanchoredGrid):
            return  # no kline of it is held
        if played is None:
            played = self._played[series] = _Played(grid)
            self._is_sorted = False
        played.streams[stream] = None

    def remove(self, stream: str) -> None:
        """Stop following a stream."""
        if (series := series_of(stream)) is None or (played := self._played.get(series)) is None:
            return
        played.streams.pop(stream, None)
        if not played.streams:
            del self._played[series]

    def forget(self, series: Series | None = None) -> None:
        """Read the rows of a series again, or of all: rows have changed, or the time was set."""
        self._version += 1
        for each in tuple(self._until_ms) if series is None else (series,):
            self._rows.pop(each, None)
            self._until_ms.pop(each, None)
        for each, played in self._played.items():
            if series is None or each.name == series.name:
                played.is_begun = False

    def is_ready(self, close_ms: int) -> bool:
        """Whether everything was read for the frames of `close_ms`."""
        return all(self._until_ms.get(each, 0) >= close_ms for each in self._needed()) and all(
            played.is_begun for played in self._played.values()
        )

    def reads(self, seen_ms: int, ahead_ms: int) -> Reads | None:
        """What is to be read at `seen_ms`: up to `ahead_ms` of what is read less than half that far; None: nothing."""
        closes: dict[Series, Span] = {}
        needed = self._needed()
        for gone in [each for each in self._until_ms if each not in needed]:
            del self._rows[gone], self._until_ms[gone]
        for series in needed:
            until_ms = max(self._until_ms.get(series, 0), seen_ms)
            if until_ms < seen_ms + ahead_ms // 2:
                closes[series] = Span(until_ms, seen_ms + ahead_ms)
        parts = {
            series: parts_of(series, Span(played.grid.floor(seen_ms), seen_ms), self._ledger_of)
            for series, played in self._played.items()
            if not played.is_begun
        }
        if not closes and not parts:
            return None
        spans = {series: self._opens(series, span) for series, span in closes.items()}
        for made_of in parts.values():
            for series, span in made_of.items():
                before = spans.get(series)
                spans[series] = _hull(before, span) if before else span
        return Reads(self._version, seen_ms, {series: span for series, span in spans.items() if span}, closes, parts)

    def take(self, reads: Reads, rows: Mapping[Series, Sequence[Any]], seen_ms: int) -> None:
        """Take the rows that were read, unless `forget` was called since; frames are sent up to `seen_ms` by now."""
        if reads.version != self._version:
            return
        needed = self._needed()
        for series, span in reads.closes.items():
            if series in needed and self._until_ms.get(series, reads.seen_ms) <= span.start_ms:
                first_ms = max(self._opens(series, span).start_ms, self._opens(series, Span(seen_ms, seen_ms)).start_ms)
                kept = self._rows.setdefault(series, {})
                kept.update((row.open_ms, row) for row in rows.get(series, ()) if row.open_ms >= first_ms)
                self._until_ms[series] = span.end_ms
        for series, parts in reads.parts.items():
            played = self._played.get(series)
            if played is not None and not played.is_begun and reads.seen_ms == seen_ms:
                begun = Bucket(played.grid.floor(seen_ms))
                played.bucket, played.is_begun = rolled(begun, seen_ms, parts, rows, self._ledger_of), True

    def frames(self, close_ms: int) -> Iterator[Frame]:
        """The frames of `close_ms`, shorter intervals first; call it once for each minute, when `is_ready`."""
        if not self._is_sorted:
            ordered = sorted(self._played.items(), key=lambda item: item[0].interval.grid.step_ms)
            self._played, self._is_sorted = dict(ordered), True
        for series, played in self._played.items():
            made, is_final = self._closed(series, played, close_ms)
            if made is None:
                continue
            last_ms = played.grid.shift(made.open_ms, 1) - 1
            for stream in played.streams:
                event = continuous_event if _CONTINUOUS in stream else kline_event
                yield stream, event(series.symbol, series.interval, made, last_ms, close_ms, is_final=is_final)
        for series, rows in self._rows.items():
            if series.interval is M1:
                rows.pop(close_ms - MINUTE_MS, None)

    def _closed(self, series: Series, played: _Played, close_ms: int) -> tuple[Kline | None, bool]:
        """The kline of the series that closed at `close_ms`, or its kline in progress, and which of the two it is."""
        grid = played.grid
        if grid.floor(close_ms) == close_ms:
            played.bucket = Bucket(close_ms)
            open_ms = grid.shift(close_ms, -1)
            rows = self._rows.get(series, {})
            return (rows.get(open_ms) if series.interval is M1 else rows.pop(open_ms, None)), True
        if played.bucket is None or not self._ledger_of(series).held:
            return None, False
        minutes, open_ms = series.of(M1), close_ms - MINUTE_MS
        minute = self._rows.get(minutes, {}).get(open_ms)
        if minute is not None:
            played.bucket.add(minute)
            return played.bucket.kline(), False
        if self._ledger_of(minutes).absent.span_at(open_ms) is None:
            played.bucket = None
        return None, False

    def _needed(self) -> set[Series]:
        """The followed series, and the minutes of which their klines in progress are made."""
        return set(self._played) | {series.of(M1) for series in self._played}

    def _opens(self, series: Series, closes: Span) -> Span:
        """The open times of the klines that close after the start of `closes`, up to its end."""
        grid = self._grid_of(series)
        return Span(grid.shift(grid.ceil(closes.start_ms + 1), -1), grid.floor(closes.end_ms))


def series_of(stream: str) -> Series | None:
    """The series whose klines a stream has; None for other streams, of which nothing is stored."""
    name = parse(stream)
    if name is None or name.interval not in INTERVALS:
        return None
    if name.kind == "kline":
        return Series(KLINES, name.symbol, INTERVALS[name.interval])
    if name.kind == "continuousKline" and name.symbol.endswith(_PERPETUAL):
        return Series(KLINES, name.symbol.removesuffix(_PERPETUAL), INTERVALS[name.interval])
    return None


def _hull(one: Span, other: Span) -> Span:
    return Span(min(one.start_ms, other.start_ms), max(one.end_ms, other.end_ms))
