"""The tail: each series' newest closed klines as encoded rows, and its live kline, in memory."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from app.domain.columns import newest_open_ms
from app.domain.interval import Grid, Interval
from app.domain.kind import Kind, Row
from app.domain.kline import Kline, Precision, normalise
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.encoded_rows import FRAME_ROWS, EncodedRows

ROW_BYTES: Final = 160  # an encoded row with its index in EncodedRows; measured on a day of recorded klines: 150
ROWS_MAX: Final = 1500  # rows in the longest possible answer
LEVELS: Final = (100, 500, ROWS_MAX)
"""Sizes to which all tails grow before any grows further: for market followers, the default limit, the maximum."""
PLAIN_TENTHS: Final = 3
"""Rows are compressed above three tenths of `bytes_max`: by default, 600 rows of 600 series are not."""
PLAIN_TENTHS_MAX: Final = 6
"""Above six tenths a reader compresses at once what `pack` has not compressed yet."""
_UNWEIGHED_BYTES_MAX: Final = FRAME_ROWS * ROW_BYTES  # bytes by which a series' rows may grow until they are counted
_SLACK_ROWS_MAX: Final = 64  # rows are trimmed in batches of at least this many, so that appending costs O(1)
_SLACK_SHARE: Final = 8  # or of an eighth of the rows that a series may keep, when that is less


class Live(msgspec.Struct, eq=False, gc=False):
    """The last received state of a kline in progress.

    A Live with a `precision` converts its kline to REST's form on first access: most states are replaced unread. One is
    made for each frame: as a Struct that takes a tenth of the time of an `__init__` in Python.
    """

    _kline: Kline
    heard_ms: int
    from_socket: bool
    precision: Precision | None = None

    @property
    def kline(self) -> Kline:
        """The kline in REST's form."""
        if self.precision is not None:
            self._kline, self.precision = normalise(self._kline, self.precision), None
        return self._kline

    @property
    def open_ms(self) -> int:
        """When the kline opened."""
        return self._kline.open_ms

    def is_older(self, other: "Live") -> bool:
        """Whether `other` is a later state: while a kline is in progress, its number of trades only grows."""
        mine, its = self._kline, other._kline
        return mine.open_ms < its.open_ms or (mine.open_ms == its.open_ms and mine.trades < its.trades)


@dataclass(slots=True, eq=False)
class SeriesTail:
    """An unbroken run of closed klines `[start_ms, end_ms)`, newest last, and the live kline."""

    kind: Kind
    grid: Grid
    start_ms: int = 0
    end_ms: int = 0
    rows: EncodedRows = field(default_factory=EncodedRows)
    live: Live | None = None
    ended: Live | None = None
    """The kline before the live one as REST reported it after its end; kept until its closing frame arrives."""
    uncommitted: dict[int, Row] = field(default_factory=dict)
    """By open time: the klines of the run that `Tail.close` added and that no commit has reached since."""

    def restart(self, rows: EncodedRows, start_ms: int, end_ms: int) -> None:
        """Set another run, of which no row is known to wait for its commit."""
        self.rows, self.start_ms, self.end_ms = rows, start_ms, end_ms
        self.uncommitted.clear()

    def empty(self) -> None:
        """Drop the run: some of it is no longer known."""
        self.restart(EncodedRows(), 0, 0)

    def index(self, open_ms: int) -> int:
        """The position of the row that opens at `open_ms`."""
        return self.grid.count(self.start_ms, open_ms)

    def encode(self, kline: Row) -> bytes:
        """The row of `kline` as it is served."""
        return self.kind.encode(kline, self.grid.shift(kline.open_ms, 1) - 1)


def shares(bytes_max: int, tails: Mapping[Interval, int]) -> dict[Interval, int]:
    """Share `bytes_max` among tails: by interval, the rows that each of its `tails[interval]` series may keep.

    At each of LEVELS, shorter intervals are raised first: clients repeat requests for the newest kline after each
    close, and short intervals close most often.
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
    """The default of `arrived`: counts nothing."""


class Tail:
    """The tails of all series; a limit on the rows of each keeps all within `bytes_max`.

    Rows above a share of `bytes_max` are compressed by `pack`, those first that were read longest ago.
    """

    def __init__(
        self,
        bytes_max: int,
        is_current: Callable[[], bool],
        arrived: Callable[[Series, Grid, Sequence[Row]], None] = _nobody_counts,
    ) -> None:
        """`is_current` returns whether the tails match the store: a follower's may not, when it cannot read changes.

        `arrived` is called with closed klines, ascending, when they become servable. It may be called again with klines
        that are committed later, unless the tail still has them as `close` added them.
        """
        self.is_current = is_current
        self._arrived = arrived
        self._bytes_max = bytes_max
        self._rows_max: dict[Interval, int] = {}
        self._filled_to: dict[Interval, int] = {}
        """Per interval: the largest row limit that its tails may have been filled to since they were trimmed."""
        self._tails: dict[Series, SeriesTail] = {}
        self._number: Counter[Interval] = Counter()
        self._changes: dict[Series, int] = {}
        self._clears = 0
        self._awaited: dict[Series, asyncio.Event] = {}
        self._plain: OrderedDict[SeriesTail, int] = OrderedDict()
        """The bytes of each tail's rows that are not compressed; the tail that was read longest ago comes first."""
        self._plain_bytes = 0

    def rows_max(self, interval: Interval) -> int:
        """The maximum number of rows kept of each series of `interval`."""
        return self._rows_max.get(interval, ROWS_MAX)

    def get(self, series: Series) -> SeriesTail | None:
        """The tail of a series; None if it has none or the tails may differ from the store."""
        return self._tails.get(series) if self.is_current() else None

    def kept(self, series: Series) -> SeriesTail | None:
        """The tail of a series as last updated, even if that was long ago."""
        return self._tails.get(series)

    def version(self, series: Series) -> int:
        """A version to take before reading rows for `seed`; it differs once the series' rows may have changed."""
        return self._changes.get(series, 0) + self._clears

    def read(self, tail: SeriesTail) -> None:
        """Record that rows of `tail` were read."""
        weighed = self._plain.get(tail)
        if weighed is not None:
            self._plain.move_to_end(tail)
        if weighed != tail.rows.plain_bytes:
            self._weigh(tail)

    def pack(self, most: int) -> bool:
        """Compress the rows of at most `most` tails above the share; returns whether there may be more."""
        return self._pack(PLAIN_TENTHS, most)

    def clear(self) -> None:
        """Drop all tails: they may differ from the rows held."""
        self._clears += 1
        self._tails.clear()
        self._plain.clear()
        self._plain_bytes = 0
        self._number.clear()
        self._share()

    def lose(self, series: Series) -> None:
        """Drop the rows of a series, so that the store serves them: some of the run is no longer known."""
        self._note(series)
        if (tail := self._tails.get(series)) is not None:
            self._empty(tail)

    def forget(self, series: Series) -> None:
        """Drop the tail of a series that is no longer followed."""
        if (tail := self._tails.pop(series, None)) is not None:
            self._plain_bytes -= self._plain.pop(tail, 0)
            self._number[series.interval] -= 1
            self._share()

    @property
    def rows(self) -> int:
        """The number of rows kept of all series together."""
        return sum(len(tail.rows) for tail in self._tails.values())

    def close(self, series: Series, grid: Grid, kline: Row) -> None:
        """Append a kline that just closed and is not committed yet; committed as it is, it is not applied again."""
        self.append(series, grid, kline)
        tail = self._tails[series]
        if tail.start_ms <= kline.open_ms < tail.end_ms:
            tail.uncommitted[kline.open_ms] = kline

    def append(self, series: Series, grid: Grid, kline: Row) -> None:
        """Append the next closed kline. After a gap the run restarts with `kline`; the store serves older rows."""
        tail = self._of(series, grid)
        if tail.rows and kline.open_ms == tail.end_ms:
            tail.rows.append(tail.encode(kline))
            tail.end_ms = grid.shift(kline.open_ms, 1)
            self._trim(series, tail)
        elif not tail.rows or kline.open_ms > tail.end_ms:
            tail.restart(EncodedRows([tail.encode(kline)]), kline.open_ms, grid.shift(kline.open_ms, 1))
        else:
            self.amend(series, grid, [kline])
            return
        self._settle(tail)
        if self._awaited and (closed := self._awaited.pop(series, None)) is not None:
            closed.set()
        self._arrived(series, grid, (kline,))

    def amend(self, series: Series, grid: Grid, klines: Sequence[Row]) -> None:
        """Apply committed klines: replace the rows inside the run and append those that continue it.

        A kline that `close` added is left out if it was committed as it is. It is applied all the same if the run was
        dropped and read from the store in between: then the run may lack it.
        """
        self._note(series)
        tail = self._tails.get(series)
        if tail is not None and tail.uncommitted and klines and newest_open_ms(klines) >= min(tail.uncommitted):
            waiting = tail.uncommitted
            klines = [kline for kline in klines if waiting.pop(kline.open_ms, None) != kline]
            if not klines:
                return
        self._arrived(series, grid, klines)
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

    def seed(self, series: Series, grid: Grid, rows: EncodedRows, end_ms: int, version: int) -> None:
        """Add rows read from the store, an unbroken run up to `end_ms`, in front of the tail's rows or in their place.

        `version` was taken before the rows were read: if the series changed since, the rows are ignored.
        """
        if not rows or version != self.version(series):
            return
        tail = self._of(series, grid)
        if tail.rows and end_ms < tail.start_ms:
            return
        if tail.rows and end_ms <= tail.end_ms:
            tail.rows.put_before(rows, len(rows) - grid.count(tail.start_ms, end_ms))
        else:
            tail.restart(rows, 0, end_ms)
        tail.start_ms = tail.grid.shift(tail.end_ms, -len(tail.rows))
        self._settle(tail)
        self._trim(series, tail)
        self.read(tail)

    def void(self, part: Series, changed: Spans) -> None:
        """Rows of `part` were replaced: drop the rows of each longer tail that may contain roll-ups of `changed`."""
        for series, tail in self._tails.items():
            if series.name != part.name or series.interval.grid.step_ms <= part.interval.grid.step_ms:
                continue
            self._note(series)
            if changed.clip(Span(tail.start_ms, tail.end_ms)):
                self._empty(tail)

    def set_live(self, series: Series, grid: Grid, live: Live) -> None:
        """Set the kline in progress; a state that is older than the present one, or of a closed kline, is ignored."""
        tail = self._tails.get(series) or self._of(series, grid)
        is_closed = live.open_ms < tail.end_ms and bool(tail.rows)
        if not is_closed and (tail.live is None or not live.is_older(tail.live)):
            tail.live = live

    def set_ended(self, series: Series, grid: Grid, ended: Live) -> None:
        """Set REST's row of a kline that just ended; ignored when its closing frame arrived first."""
        tail = self._of(series, grid)
        if not tail.rows or ended.open_ms >= tail.end_ms:
            tail.ended = ended

    def closing(self, series: Series) -> asyncio.Event:
        """An event that is set when the next kline of the series closes."""
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
        """Clear the live and the ended kline once they are closed."""
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
            for open_ms in [open_ms for open_ms in tail.uncommitted if open_ms < tail.start_ms]:
                del tail.uncommitted[open_ms]
        if tail.rows.plain_bytes > self._plain.get(tail, 0) + _UNWEIGHED_BYTES_MAX:
            self._weigh(tail)

    def _empty(self, tail: SeriesTail) -> None:
        tail.empty()
        self._plain_bytes -= self._plain.pop(tail, 0)

    def _weigh(self, tail: SeriesTail) -> None:
        size = tail.rows.plain_bytes
        self._plain_bytes += size - self._plain.get(tail, 0)
        self._plain[tail] = size
        self._pack(PLAIN_TENTHS_MAX, len(self._plain))

    def _pack(self, tenths: int, most: int) -> bool:
        for _ in range(most):
            if self._plain_bytes <= self._bytes_max * tenths // 10 or len(self._plain) <= 1:
                return False
            oldest, size = self._plain.popitem(last=False)
            self._plain_bytes -= size
            oldest.rows.pack()
        return True


def _slack_rows(rows_max: int) -> int:
    return min(_SLACK_ROWS_MAX, max(1, rows_max // _SLACK_SHARE))
