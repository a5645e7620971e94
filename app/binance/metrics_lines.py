"""The lines of a metrics CSV file, and how they are to be read: ERAS (binance-facts sections 6.2 and 6.3)."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from app.binance.archive_csv import BadFile, fields_of
from app.binance.number import are_amounts
from app.binance.statistics_rows import PERIOD_MS
from app.domain.interval import DAY_MS, MINUTE_MS
from app.domain.kline import BadKline

HEADER: Final = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)
_DATE_CHARS: Final = len("2026-06-25")
_MINUTES: Final = range(0, DAY_MS // MINUTE_MS, PERIOD_MS // MINUTE_MS)
_TIMES: Final = [f"{minute // 60:02}:{minute % 60:02}:00" for minute in _MINUTES]
_DAYS_KEPT: Final = 40
"""Labels of days (20 kB each): a process reads the same month for one symbol after the other."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS: Final = HEADER.count(",") + 1


class Era(NamedTuple):
    """How the files of the days from `since_ms` on are to be read."""

    since_ms: int
    open_after_label_ms: int
    """A row's open time minus its create_time."""
    zero_is_unknown: bool = False


_AT_END: Final = -PERIOD_MS
_AT_START: Final = 0


def _day(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


ERAS: Final = (
    Era(0, _AT_END),
    Era(_day("2022-03-07"), _AT_END, zero_is_unknown=True),  # pd#350
    Era(_day("2022-03-09"), _AT_END),
    Era(_day("2026-06-25"), _AT_START),  # pd#491
)
"""Ascending. The file's day decides, not the line's: 2026-06-25 00:00 is an end in one file and a start in the next."""


class Table(NamedTuple):
    """The lines of a file: open times, and six columns of values, "" being unknown."""

    opens_ms: list[int]
    values: list[list[str]]
    bare_dates: int = 0
    has_blanks: bool = True
    """False only if no value is unknown."""


def era_of(day_ms: int) -> Era:
    """How to read the file of the day that begins at `day_ms`."""
    return max(era for era in ERAS if era.since_ms <= day_ms)


def read(content: bytes, symbol: str, day_ms: int) -> Table:
    """The lines of the file of `symbol` and the UTC day that begins at `day_ms`. Raises BadKline for the whole file."""
    return _at_once(content, symbol, day_ms) or _by_line(content, symbol, _opens_of(day_ms))


@lru_cache(4)
def _opens_of(day_ms: int) -> dict[str, int]:
    """The open time of each create_time that the file of a day may contain; a date alone is midnight.

    The first and last one are next to the day: files of 2020 begin with the label 00:00.
    """
    opens_ms = range(day_ms - PERIOD_MS, day_ms + DAY_MS + 1, PERIOD_MS)
    labels = dict(zip(_labels(day_ms, opens_ms), opens_ms, strict=True))
    return labels | {label[:_DATE_CHARS]: open_ms for label, open_ms in labels.items() if label.endswith(" 00:00:00")}


@lru_cache(_DAYS_KEPT)
def _labels(day_ms: int, opens_ms: range) -> list[str]:
    """The create_time of each of `opens_ms`, which are next to or in the day, in its file."""
    dates = [f"{_EPOCH + timedelta(milliseconds=day_ms + number * DAY_MS):%Y-%m-%d} " for number in (-1, 0, 1)]
    first = (opens_ms[0] - era_of(day_ms).open_after_label_ms - day_ms) // PERIOD_MS
    places = range(first, first + len(opens_ms))
    return [dates[1 + place // len(_TIMES)] + _TIMES[place % len(_TIMES)] for place in places]


_NUMBER: Final = rb"(?:0{1,19}+(?:\.0{1,20}+)?+)?+"
_SHAPE: Final = re.compile(rb"0000-00-00(?: 00:00:00)?+,[^,\r]{1,60}+(?:," + _NUMBER + rb"){6}")
_ZEROS: Final = re.compile(rb",0[0-9]")
_ONE_DIGIT: Final = bytes.maketrans(b"123456789", b"000000000")


def _at_once(content: bytes, symbol: str, day_ms: int) -> Table | None:
    """The lines of a file in which nothing is wrong, several times as fast as by line; None: they must be read by line.

    Lines differ in their digits and little else: with every digit replaced by 0, a file has a few different lines.
    """
    body = content.removeprefix(HEADER.encode() + b"\n").removesuffix(b"\n")
    shapes = set(body.translate(_ONE_DIGIT).split(b"\n"))
    if _ZEROS.search(body) or not all(map(_SHAPE.fullmatch, shapes)):
        return None
    try:
        pieces = body.replace(b"\n", b",").decode().split(",")
        labels = pieces[::_FIELDS]
        day = range(day_ms, day_ms + DAY_MS, PERIOD_MS)
        is_whole = len(labels) == len(day) and labels == _labels(day_ms, day)
        opens_ms = list(day if is_whole else map(_opens_of(day_ms).__getitem__, labels))
    except (UnicodeError, KeyError):
        return None
    columns = [pieces[number::_FIELDS] for number in range(1, _FIELDS)]
    if columns[0].count(symbol) != len(opens_ms):
        return None
    bare_dates = 0 if is_whole else list(map(len, labels)).count(_DATE_CHARS)
    has_blanks = any(b",," in shape or shape.endswith(b",") for shape in shapes)
    return Table(opens_ms, columns[1:], bare_dates, has_blanks)


def _by_line(content: bytes, symbol: str, opens_of: dict[str, int]) -> Table:
    """The lines of any file. Raises BadKline with the number of the line that is wrong."""
    try:
        text = content.decode()
    except UnicodeError as error:
        raise BadKline(f"not UTF-8: {error}") from error
    opens_ms, rows, bare_dates = list[int](), list[list[str]](), 0
    for number, (label, whose, *values) in fields_of(text, HEADER):
        if whose != symbol:
            raise BadKline(f"line {number}: of {whose!r:.60} instead of {symbol!r:.60}")
        if not are_amounts(values):
            raise BadKline(f"line {number}: not plain decimals: {values!r:.200}")
        if label not in opens_of:
            raise BadFile("time", f"line {number}: {label!r:.40} is no five minutes of the file's day")
        opens_ms.append(opens_of[label])
        rows.append(values)
        bare_dates += len(label) == _DATE_CHARS
    return Table(opens_ms, [list(column) for column in zip(*rows, strict=True)] or [[]] * 6, bare_dates)
