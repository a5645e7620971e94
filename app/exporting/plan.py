"""Which files an export consists of, and which rows each of them has."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from app.domain.interval import MO1, Grid
from app.domain.series import Series
from app.domain.span import Span
from app.exporting.shapes import shape_of
from app.ports.export import TIMEFRAMES, ExportError, FileKind, Format

ENDINGS: Final = {
    Format.PARQUET: "parquet",
    Format.ARROW: "arrow",
    Format.CSV: "csv",
    Format.SQLITE: "sqlite",
    Format.MARKETSTORE: "msgpack",
}
SQLITE_FILE: Final = f"klinenode.{ENDINGS[Format.SQLITE]}"
"""All tables are in one database, which is what makes them worth having."""
OF_CANDLES: Final = frozenset({"open_time", "open", "high", "low", "close", "volume"})
"""The columns that MarketStore's layout is made of."""
_YEAR_MONTHS: Final = 12


class Split(StrEnum):
    """The calendar period (UTC) of one file: it bounds the memory, and what a stopped export does again."""

    YEAR = "year"
    MONTH = "month"


class Piece(NamedTuple):
    """Rows of a series that go to a file: those that open in `window`."""

    series: Series
    grid: Grid
    window: Span

    def rows(self, span: Span) -> int:
        """How many rows may open in a part of the window: a grid's open times; of events, the steps that it meets.

        The window of events is cut to the ms, so that its first step may begin before it.
        """
        start_ms = self.grid.floor(span.start_ms) if span and self.series.kind.is_sparse else span.start_ms
        return self.grid.count(start_ms, span.end_ms)


class PlannedFile(NamedTuple):
    """A file of the export. `path` is relative to the folder, with slashes."""

    path: str
    kind: FileKind
    pieces: tuple[Piece, ...]


def check_format(form: Format, series: Sequence[Series]) -> None:
    """Refuse what a format cannot hold. Raises ExportError."""
    if form is not Format.MARKETSTORE:
        return
    for each in series:
        if not set(shape_of(each.kind).names) >= OF_CANDLES:
            raise ExportError(f"MarketStore's layout is that of candles, and {each} has none: leave it out")
        if each.interval.code not in TIMEFRAMES:
            raise ExportError(
                f"MarketStore has no timeframe for {each.interval}: leave it out, or take another --format; "
                f"there are {', '.join(TIMEFRAMES)}"
            )


def why_nothing(asked: Mapping[Series, tuple[Grid, Span]], span: Span, now_ms: int, words: tuple[str, str]) -> str:
    """Why no row of `span` is in an export at `now_ms`, and what to do: `words` are the names of start and end.

    `asked` has the empty spans of open times that were made of `span`: they begin where a row could open first.
    """
    start, end = words
    first_ms = min(window.start_ms + series.kind.rest.stamp_ms for series, (_, window) in asked.items())
    if span.end_ms <= first_ms < now_ms:
        return f"that span has no row, the next one can be that of {first_ms} at the earliest: ask for a later {end}"
    return f"no row of that span is due yet: ask for an earlier {start}"


def planned(
    asked: Mapping[Series, tuple[Grid, Span]], form: Format, split: Split, *, is_float: bool
) -> list[PlannedFile]:
    """The files of an export of `asked`: the grid and the span of each series. Spans without an open time are none."""
    pieces = [
        piece
        for series, (grid, span) in asked.items()
        for window in _periods(span, split, series.kind.rest.stamp_ms)
        if (piece := Piece(series, grid, window)).rows(window)
    ]
    if form is Format.SQLITE:
        kinds = [FileKind(form, shape_of(piece.series.kind), is_float) for piece in pieces[:1]]
        return [PlannedFile(SQLITE_FILE, kind, tuple(pieces)) for kind in kinds]
    return [
        PlannedFile(_path(piece, form, split), FileKind(form, shape_of(piece.series.kind), is_float), (piece,))
        for piece in pieces
    ]


def _path(piece: Piece, form: Format, split: Split) -> str:
    """`<kind>/<interval>/<symbol>/<period>.<ending>`, so that one pattern names all files of one shape."""
    series = piece.series
    moment = datetime.fromtimestamp((piece.window.start_ms + series.kind.rest.stamp_ms) / 1000, UTC)
    period = f"{moment:%Y}" if split is Split.YEAR else f"{moment:%Y-%m}"
    return f"{series.kind.suffix or 'klines'}/{series.interval.slug}/{series.symbol}/{period}.{ENDINGS[form]}"


def _periods(span: Span, split: Split, stamp_ms: int) -> Iterator[Span]:
    """The parts of `span` whose rows the exchange states times of one year, or month, for: `stamp_ms` later each."""
    months, at_ms, last_ms = MO1.grid, span.start_ms + stamp_ms, span.end_ms + stamp_ms
    while at_ms < last_ms:
        first_ms = months.floor(at_ms)
        month = datetime.fromtimestamp(first_ms / 1000, UTC).month
        end_ms = months.shift(first_ms, 1 if split is Split.MONTH else _YEAR_MONTHS + 1 - month)
        yield Span(at_ms - stamp_ms, min(end_ms, last_ms) - stamp_ms)
        at_ms = end_ms
