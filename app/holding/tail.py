"""The tail: the newest closed klines of each series as encoded rows, and its live kline, in memory."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.domain.columns import newest_open_ms
from app.domain.interval import Grid, Interval
from app.domain.kind import Kind, Row
from app.domain.kline import Kline, Precision, normalise
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.encoded_rows import EncodedRows

ROW_BYTES: Final = 160  # an encoded row with its place in EncodedRows, measured on recorded klines of a day: 154
ROWS_MAX: Final = 1500  # the longest answer there is
LEVELS: Final = (100, 500, ROWS_MAX)
"""Up to which tails grow together: enough for who follows a market, the default limit, the longest answer."""
_SLACK_ROWS_MAX: Final = 64  # trimmed in lumps, so that appending costs O(1)
_SLACK_SHARE: Final = 8  # an eighth of what a series may keep, when that is less


class Live:
    """The kline in progress, as last heard of.

    With a `precision` it is brought to REST's form when it is first looked at: most states are gone before that.
    """

    __slots__ = ("_kline", "_precision", "from_socket", "heard_ms")

    def __init__(self, kline: Kline, heard_ms: int, *, from_socket: bool, precision: Precision | None = None) -> None:
        self._kline = kline
        self._precision = precision
        self.heard_ms = heard_ms
        self.from_socket = from_socket

    @property
    def kline(self) -> Kline:
        """The kline in REST's form."""
        if self._precision is not None:
            self._kline, self._precision = normalise(self._kline, self._precision), None
        return self._kline

    @property
    def open_ms(self) -> int:
        """When the kline opened."""
        return self._kline.open_ms

    def is_older(self, other: "Live") -> bool:
        """Whether `other` is a later state: while one kline lasts, its trades only become more."""
        mine, its = self._kline, other._kline
        return mine.open_ms < its.open_ms or (mine.open_ms == its.open_ms and mine.trades < its.trades)


@dataclass(slots=True)
class SeriesTail:
    """An unbroken run of closed klines `[start_ms, end_ms)`, newest last, and the live kline."""

    kind: Kind
    grid: Grid
    start_ms: int = 0
    end_ms: int = 0
    rows: EncodedRows = field(default_factory=EncodedRows)
    live: Live | None = None
    ended: Live | None = None
    """The kline before the live one, as REST stated it after its end, until its closing frame is in."""

    def index(self, open_ms: int) -> int:
        """The position of the row that opens at `open_ms`."""
        return self.grid.count(self.start_ms, open_ms)

    def encode(self, kline: Row) -> bytes:
        """The row of `kline` as it is served."""
        return self.kind.encode(kline, self.grid.shift(kline.open_ms, 1) - 1)


def shares(bytes_max: int, tails: Mapping[Interval, int]) -> dict[Interval, int]:
    """How many rows each of so many tails by interval may keep in all these bytes.

    Shorter intervals are brought to each of LEVELS first: answers that end with the newest kline are asked for anew
    after each close, and theirs come most often.
    """
    rows_left = bytes_max // ROW_BYTES
    ordered = sorted((interval for interval, number in tails.items() if number), key=lambda each: each.grid.step_ms)
    found = dict.fromkeys(ordered, 0)
    for level in LEVELS:
        for interval in ordered:
            more = min(level - found[interval], rows_left // tails[interval])
            found[interval] += more
            rows_left -= more * tails[interval]
    return {interval: max(2, rows) for interval, rows in found.items()}


def _nobody_counts(series: Series, grid: Grid, klines: Sequence[Row]) -> None:
    """The default of `arrived`, which only counts."""


class Tail:
    """The tails of all series, bounded in bytes by a bound on the rows of each."""

    def __init__(
        self,
        bytes_max: int,
        is_current: Callable[[], bool],
        arrived: Callable[[Series, Grid, Sequence[Row]], None] = _nobody_counts,
    ) -> None:
        """`is_current` says whether the tails are those of what the store holds: a follower may have lost touch.

        `arrived` is called with closed klines, ascending, when they become servable; with those that sockets brought
        again, at their commit.
        """
        self.is_current = is_current
        self._arrived = arrived
        self._bytes_max = bytes_max
        self._rows_max: dict[Interval, int] = {}
        self._filled_to: dict[Interval, int] = {}
        """The largest bound that any tail of an interval was filled under and not cut back since."""
        self._tails: dict[Series, SeriesTail] = {}
        self._number: Counter[Interval] = Counter()
        self._changes: dict[Series, int] = {}
        self._clears = 0
        self._awaited: dict[Series, asyncio.Event] = {}

    def rows_max(self, interval: Interval) -> int:
        """How many rows of each series of `interval` are kept at the most."""
        return self._rows_max.get(interval, ROWS_MAX)

    def get(self, series: Series) -> SeriesTail | None:
        """The tail of a series, if anything was heard of it."""
        return self._tails.get(series) if self.is_current() else None

    def kept(self, series: Series) -> SeriesTail | None:
        """The tail of a series as it was last brought up to date, however long ago."""
        return self._tails.get(series)

    def ticket(self, series: Series) -> int:
        """To be taken before rows are read for `seed`: it is another one when they may have changed meanwhile."""
        return self._changes.get(series, 0) + self._clears

    def clear(self) -> None:
        """Drop all tails: nobody knows whether they are still what is held."""
        self._clears += 1
        self._tails.clear()
        self._number.clear()
        self._share()

    def lose(self, series: Series) -> None:
        """Leave the rows of a series to the store: not all of its run is known any more."""
        self._note(series)
        if (tail := self._tails.get(series)) is not None:
            tail.rows, tail.start_ms, tail.end_ms = EncodedRows(), 0, 0

    def forget(self, series: Series) -> None:
        """Drop the tail of a series that is no longer followed."""
        if self._tails.pop(series, None) is not None:
            self._number[series.interval] -= 1
            self._share()

    @property
    def rows(self) -> int:
        """How many rows are kept of all series together."""
        return sum(len(tail.rows) for tail in self._tails.values())

    def append(self, series: Series, grid: Grid, kline: Row) -> None:
        """Take in the next closed kline. After a hole the run starts anew; what is older stays in the store."""
        tail = self._of(series, grid)
        if tail.rows and kline.open_ms == tail.end_ms:
            tail.rows.append(tail.encode(kline))
            tail.end_ms = grid.shift(kline.open_ms, 1)
            self._trim(series, tail)
        elif not tail.rows or kline.open_ms > tail.end_ms:
            tail.start_ms, tail.end_ms = kline.open_ms, grid.shift(kline.open_ms, 1)
            tail.rows = EncodedRows([tail.encode(kline)])
        else:
            self.amend(series, grid, [kline])
            return
        self._settle(tail)
        if self._awaited and (closed := self._awaited.pop(series, None)) is not None:
            closed.set()
        self._arrived(series, grid, (kline,))

    def amend(self, series: Series, grid: Grid, klines: Sequence[Row]) -> None:
        """Take in committed klines: rows inside the run are replaced, rows that continue it are appended."""
        self._arrived(series, grid, klines)
        self._note(series)
        tail = self._tails.get(series)
        if tail is None or not tail.rows or not klines or newest_open_ms(klines) < tail.start_ms:
            return
        inside = {}
        for kline in klines:
            if tail.start_ms <= kline.open_ms < tail.end_ms:
                inside[tail.index(kline.open_ms)] = tail.encode(kline)
            elif kline.open_ms == tail.end_ms:
                tail.rows.append(tail.encode(kline))
                tail.end_ms = tail.grid.shift(kline.open_ms, 1)
        tail.rows.replace(inside)
        self._settle(tail)
        self._trim(series, tail)

    def seed(self, series: Series, grid: Grid, rows: EncodedRows, end_ms: int, ticket: int) -> None:
        """Put rows read from the store, an unbroken run up to `end_ms`, before (or in place of) what the tail has.

        `ticket` is from before they were read: what changed meanwhile is not taken in.
        """
        if not rows or ticket != self.ticket(series):
            return
        tail = self._of(series, grid)
        if tail.rows and end_ms < tail.start_ms:
            return
        if tail.rows and end_ms <= tail.end_ms:
            tail.rows.put_before(rows, len(rows) - grid.count(tail.start_ms, end_ms))
        else:
            tail.rows, tail.end_ms = rows, end_ms
        tail.start_ms = tail.grid.shift(tail.end_ms, -len(tail.rows))
        self._settle(tail)
        self._trim(series, tail)

    def void(self, part: Series, changed: Spans) -> None:
        """Rows of `part` were replaced: longer klines that may have been made of them are left to the store."""
        for series, tail in self._tails.items():
            if series.name != part.name or series.interval.grid.step_ms <= part.interval.grid.step_ms:
                continue
            self._note(series)
            if changed.clip(Span(tail.start_ms, tail.end_ms)):
                tail.rows, tail.start_ms, tail.end_ms = EncodedRows(), 0, 0

    def set_live(self, series: Series, grid: Grid, live: Live) -> None:
        """Take in the state of the kline in progress; one that is closed already, or older than ours, is ignored."""
        tail = self._of(series, grid)
        is_closed = bool(tail.rows) and live.open_ms < tail.end_ms
        if not is_closed and (tail.live is None or not live.is_older(tail.live)):
            tail.live = live

    def set_ended(self, series: Series, grid: Grid, ended: Live) -> None:
        """Take in what REST says of a kline that has just ended; ignored when its closing frame was sooner."""
        tail = self._of(series, grid)
        if not tail.rows or ended.open_ms >= tail.end_ms:
            tail.ended = ended

    def closing(self, series: Series) -> asyncio.Event:
        """What is set by the next kline of a series that closes."""
        return self._awaited.setdefault(series, asyncio.Event())

    def _note(self, series: Series) -> None:
        self._changes[series] = self._changes.get(series, 0) + 1

    def _of(self, series: Series, grid: Grid) -> SeriesTail:
        tail = self._tails.get(series)
        if tail is None:
            tail = self._tails[series] = SeriesTail(series.kind, grid)
            self._number[series.interval] += 1
            self._share()
        return tail

    def _share(self) -> None:
        self._rows_max = shares(self._bytes_max, self._number)
        too_long = {
            interval
            for interval, rows in self._rows_max.items()
            if rows + _slack_rows(rows) < self._filled_to.get(interval, 0)
        }
        if too_long:
            for series, tail in self._tails.items():
                if series.interval in too_long:
                    self._trim(series, tail)
        for interval, rows in self._rows_max.items():
            filled_to = 0 if interval in too_long else self._filled_to.get(interval, 0)
            self._filled_to[interval] = max(filled_to, rows)

    def _settle(self, tail: SeriesTail) -> None:
        """Let go of a live kline that has closed."""
        if tail.live is not None and tail.live.open_ms < tail.end_ms:
            tail.live = None
        if tail.ended is not None and tail.ended.open_ms < tail.end_ms:
            tail.ended = None

    def _trim(self, series: Series, tail: SeriesTail) -> None:
        rows_max = self._rows_max[series.interval]
        extra = len(tail.rows) - rows_max
        if extra > _slack_rows(rows_max):
            tail.rows.drop_front(extra)
            tail.start_ms = tail.grid.shift(tail.start_ms, extra)


def _slack_rows(rows_max: int) -> int:
    return min(_SLACK_ROWS_MAX, max(1, rows_max // _SLACK_SHARE))
