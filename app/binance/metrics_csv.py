"""Metrics CSV files of data.binance.vision: five-minute statistics of a symbol's day (binance-facts section 6.3).

Lines may be repeated, out of order or missing, and values may be blank. Numbers are kept as the archive prints them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import lt
from typing import Any, Final, NamedTuple

from app.binance.archive_csv import PUBLISHED_AFTER_MS, BadFile
from app.binance.metrics_lines import Table, era_of, read
from app.binance.statistics_rows import (
    ACCOUNTS,
    OPEN_INTEREST,
    PERIOD_MS,
    TAKERS,
    TOP_ACCOUNTS,
    TOP_POSITIONS,
    OpenInterestRow,
    RatioRow,
    TakerRow,
)
from app.domain.columns import Columns
from app.domain.interval import DAY_MS
from app.domain.kind import Row
from app.domain.kline import is_zero
from app.domain.span import Span

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LINES_MAX: Final = 10 * DAY_MS // PERIOD_MS  # files with every line twice exist; ten times is no file of a day
_RATIOS: Final[dict[str, tuple[int, type[RatioRow | TakerRow]]]] = {
    TOP_ACCOUNTS: (2, RatioRow),
    TOP_POSITIONS: (3, RatioRow),
    ACCOUNTS: (4, RatioRow),
    TAKERS: (5, TakerRow),
}
"""Of each endpoint with one archived value: its place among the values of a line, and its row."""


@dataclass(frozen=True, slots=True, order=True)
class MetricsDay:
    """One ZIP of the archive: the statistics of `symbol` in the UTC day that begins at `day_ms`."""

    symbol: str
    day_ms: int

    @property
    def name(self) -> str:
        """The file's stem, the same for the ZIP and the CSV inside."""
        return f"{self.symbol}-metrics-{_EPOCH + timedelta(milliseconds=self.day_ms):%Y-%m-%d}"

    @property
    def path(self) -> str:
        """The ZIP's path on the archive host; its checksum lies beside it as `<path>.CHECKSUM`."""
        return f"/data/futures/um/daily/metrics/{self.symbol}/{self.name}.zip"

    @property
    def span(self) -> Span:
        """The open times of the file's day."""
        return Span(self.day_ms, self.day_ms + DAY_MS)

    @property
    def published_ms(self) -> int:
        """The time (ms) from which the file is expected to be published (binance-facts section 6.3)."""
        return self.day_ms + DAY_MS + PUBLISHED_AFTER_MS


class Report(NamedTuple):
    """What a file contained, and what of it was unusual: numbers of lines unless named values."""

    lines: int
    missing: int
    """Periods of the day without a line."""
    duplicates: int
    """Lines that are equal to an earlier one."""
    conflicts: int
    """Lines that differ from an earlier one of the same time."""
    disordered: int
    """Lines whose time is before that of the line above."""
    outside: int
    """Periods that open at most five minutes outside the file's day. Others are refused."""
    bare_dates: int
    """Lines whose time is a date alone, which means midnight."""
    blank_values: int
    zero_values: int
    """Zeros that stand for unknown values."""


class MetricsFile(NamedTuple):
    """The rows of a file by endpoint, strictly ascending; `revisions` has those that later lines replaced."""

    rows: dict[str, Columns]
    revisions: dict[str, Sequence[Row]]
    """In the order in which they were replaced."""
    report: Report


def parse(content: bytes, symbol: str, day_ms: int) -> MetricsFile:
    """The rows of the file of `symbol` and the UTC day that begins at `day_ms`. Raises BadKline for the whole file.

    A row of open interest needs one of its two values, the other is None then. Of lines of the same time the later one
    counts, except for values that it leaves blank. Rows outside the day are returned too (Report.outside).
    """
    assert day_ms % DAY_MS == 0, "a file has one UTC day"
    if content.count(b"\n") > LINES_MAX:
        raise BadFile("rows", f"more than {LINES_MAX} lines")
    table = read(content, symbol, day_ms)
    blank_values = sum(column.count("") for column in table.values if table.has_blanks)
    cleared = _without_zeros(table) if era_of(day_ms).zero_is_unknown else _without_zero_lines(table)
    zero_values = 0 if cleared is table else sum(column.count("") for column in cleared.values) - blank_values
    table = cleared
    opens_ms = table.opens_ms
    is_ascending = all(map(lt, opens_ms, islice(opens_ms, 1, None)))
    disordered = 0 if is_ascending else sum(map(lt, islice(opens_ms, 1, None), opens_ms))
    merged, duplicates, replaced = (table, 0, _table([])) if is_ascending else _merged(table)
    outside = sum(not day_ms <= open_ms < day_ms + DAY_MS for open_ms in {*merged.opens_ms[:1], *merged.opens_ms[-1:]})
    missing = DAY_MS // PERIOD_MS - len(merged.opens_ms) + outside
    report = Report(
        len(opens_ms), missing, duplicates, len(replaced.opens_ms), disordered, outside, table.bare_dates,
        blank_values, zero_values,
    )  # fmt: skip
    rows = _rows(merged, has_unknown=bool(blank_values or zero_values))
    return MetricsFile(rows, _revisions(replaced, rows) if replaced.opens_ms else {}, report)


def _without_zeros(table: Table) -> Table:
    """The table with every zero unknown."""
    return table._replace(values=[["" if is_zero(text) else text for text in column] for column in table.values])


def _without_zero_lines(table: Table) -> Table:
    """The table with the values of lines unknown that consist of zeros: no market has no position and no trader."""
    values = table.values
    suspect = [place for place, text in enumerate(values[0]) if text[:1] == "0" and is_zero(text)]
    zeros = [place for place in suspect if all(column[place] and is_zero(column[place]) for column in values)]
    if not zeros:
        return table
    changed = [column.copy() for column in values]
    for column in changed:
        for place in zeros:
            column[place] = ""
    return table._replace(values=changed)


def _merged(table: Table) -> tuple[Table, int, Table]:
    """One line for each time, ascending; how many were equal to an earlier one; those that a different one replaced."""
    opens_ms, values = table.opens_ms, table.values
    found: dict[int, tuple[str, ...]] = {}
    replaced: list[tuple[int, tuple[str, ...]]] = []
    duplicates = 0
    for open_ms, line in zip(opens_ms, zip(*values, strict=True), strict=True):
        former = found.setdefault(open_ms, line)
        if former is line:
            continue
        if former == line:
            duplicates += 1
            continue
        found[open_ms] = tuple(text or before for text, before in zip(line, former, strict=True))
        replaced.append((open_ms, former))
    return _table(sorted(found.items())), duplicates, _table(replaced)


def _table(found: list[tuple[int, tuple[str, ...]]]) -> Table:
    columns = [list(column) for column in zip(*(line for _, line in found), strict=True)]
    return Table([open_ms for open_ms, _ in found], columns or [[]] * 6)


def _rows(table: Table, *, has_unknown: bool) -> dict[str, Columns]:
    opens_ms, values = table.opens_ms, table.values
    rows = {OPEN_INTEREST: _known(OpenInterestRow, opens_ms, values[:2], has_unknown=has_unknown)}
    for endpoint, (place, row) in _RATIOS.items():
        rows[endpoint] = _known(row, opens_ms, values[place : place + 1], has_unknown=has_unknown)
    return rows


def _known(row: type[Any], opens_ms: list[int], values: list[list[str]], *, has_unknown: bool) -> Columns:
    """The rows of which a value is known; `has_unknown`: whether some of `values` may be "".

    Values that the archive does not have are unknown.
    """
    lacking = len(row._fields) - 1 - len(values)
    if has_unknown and any("" in column for column in values):
        lines = zip(opens_ms, *values, strict=True)
        known = [(open_ms, *(text or None for text in texts)) for open_ms, *texts in lines if any(texts)]
        opens_ms, *values = map(list, zip(*known, strict=True)) if known else [[]] * (1 + len(values))
    return Columns([opens_ms, *values, *[[None] * len(opens_ms)] * lacking], row)


def _revisions(replaced: Table, rows: dict[str, Columns]) -> dict[str, Sequence[Row]]:
    """Of each endpoint, the rows of the replaced lines that differ from the row that is left."""
    revisions: dict[str, Sequence[Row]] = {}
    for endpoint, formers in _rows(replaced, has_unknown=True).items():
        left = set(rows[endpoint])
        if changed := [row for row in formers if row not in left]:
            revisions[endpoint] = changed
    return revisions
