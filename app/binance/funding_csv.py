"""Funding CSV files of data.binance.vision: a month of a symbol's funding events (binance-facts section 6.2).

They have no mark price. Times are kept to the millisecond and rates as the archive prints them.
"""

import re
from typing import Final, NamedTuple

from app.binance.archive_csv import BadFile, fields_of
from app.binance.funding_rows import STAMP_AFTER_OPEN_MS, FundingRow
from app.domain.kline import OPEN_MS_MAX, TEXT_CHARS_MAX, BadKline

HEADER: Final = "calc_time,funding_interval_hours,last_funding_rate"
LINES_MAX: Final = 10_000  # an event each hour of a month is 744
_TIME: Final = re.compile(r"[0-9]{1,15}")
_HOURS: Final = re.compile(r"[1-9][0-9]?")
_RATE: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+")


class FundingFile(NamedTuple):
    """The events of a file, strictly ascending, and what was unusual in it."""

    rows: list[FundingRow]
    interval_hours: list[int]
    """Of each row: the hours since the event before, as the file states them."""
    revisions: list[FundingRow]
    """Rows that later lines of the same time replaced."""
    duplicates: int
    """Lines that are equal to an earlier one."""
    disordered: int
    """Lines whose time is before that of the line above."""


def parse(content: bytes) -> FundingFile:
    """The events of a file; of lines of the same time the later one counts. Raises BadKline for the whole file."""
    if content.count(b"\n") > LINES_MAX:
        raise BadFile("rows", f"more than {LINES_MAX} lines")
    found: dict[int, tuple[FundingRow, int]] = {}
    revisions, duplicates, disordered, above_ms = list[FundingRow](), 0, 0, -1
    for row, hours in _lines(content):
        disordered += row.open_ms < above_ms
        above_ms = row.open_ms
        former = found.get(row.open_ms)
        if former == (row, hours):
            duplicates += 1
        elif former is not None and former[0] != row:
            revisions.append(former[0])
        found[row.open_ms] = (row, hours)
    events = [found[open_ms] for open_ms in sorted(found)]
    return FundingFile([row for row, _ in events], [hours for _, hours in events], revisions, duplicates, disordered)


def _lines(content: bytes) -> list[tuple[FundingRow, int]]:
    try:
        text = content.decode("ascii")
    except UnicodeError as error:
        raise BadKline(f"not ASCII: {error}") from error
    rows = []
    for number, (time, hours, rate) in fields_of(text, HEADER):
        is_time = _TIME.fullmatch(time) is not None and STAMP_AFTER_OPEN_MS <= int(time) <= OPEN_MS_MAX
        if not is_time or not _HOURS.fullmatch(hours):
            raise BadKline(f"line {number}: no time and hours: {time:.20} {hours:.20}")
        if len(rate) > TEXT_CHARS_MAX or not _RATE.fullmatch(rate):
            raise BadKline(f"line {number}: not a plain decimal: {rate!r:.60}")
        rows.append((FundingRow(int(time) - STAMP_AFTER_OPEN_MS, rate, None, None), int(hours)))
    return rows
