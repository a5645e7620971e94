"""Kline CSV files of data.binance.vision (binance-facts section 6): their names, and their rows as klines.

Files before about 2022-05 have no header. Numbers have had three forms over the years; they are normalised to REST's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from string import ascii_letters
from typing import Final

from app.domain.interval import DAY_MS, Grid, Interval
from app.domain.kline import BadKline, Kline, Precision, check, normalise
from app.domain.span import Span

_COLUMNS: Final = 12
LINE_CHARS_MAX: Final = 512  # a row has about 120; a file without line ends is refused before it is split
_INTEGER: Final = re.compile(r"\d{1,15}", re.ASCII)  # int() alone would take " 5", "+5" and "1_000"
_SHA256: Final = re.compile(rb"[0-9a-fA-F]{64}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
PUBLISHED_AFTER_MS: Final = 9 * 3_600_000  # daily files appear about 08:30–09:00 UTC of the next day (section 6.3)
_MONTHLY_PUBLISHED_AFTER_MS: Final = (
    8 * DAY_MS
)  # first Monday of the next month, at the latest day 7, and a day's grace


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One ZIP of the archive: the klines of `symbol` and `interval` that open in `span` (a UTC day or month)."""

    symbol: str
    interval: Interval
    span: Span
    is_monthly: bool

    @property
    def name(self) -> str:
        """The file's stem, the same for the ZIP and the CSV inside."""
        date = _EPOCH + timedelta(milliseconds=self.span.start_ms)
        label = date.strftime("%Y-%m" if self.is_monthly else "%Y-%m-%d")
        return f"{self.symbol}-{self.interval.slug}-{label}"

    @property
    def path(self) -> str:
        """The ZIP's path on the archive host; its checksum lies beside it as `<path>.CHECKSUM`."""
        period = "monthly" if self.is_monthly else "daily"
        return f"/data/futures/um/{period}/klines/{self.symbol}/{self.interval.slug}/{self.name}.zip"

    @property
    def published_ms(self) -> int:
        """The time (ms) from which the file is expected to be published (binance-facts section 6.3)."""
        return self.span.end_ms + (_MONTHLY_PUBLISHED_AFTER_MS if self.is_monthly else PUBLISHED_AFTER_MS)


class BadFile(BadKline):
    """A file cannot be used; `check` names the check that it failed (FileRejected in app/ports/errors.py)."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(check, text)  # both arguments, so that it can be unpickled in another process
        self.check = check

    def __str__(self) -> str:
        return str(self.args[1])


def daily_exists(interval: Interval) -> bool:
    """Whether the archive has daily files of `interval`: up to 1d; longer ones are monthly only."""
    return interval.grid.step_ms <= DAY_MS


def parse(text: str, grid: Grid, precision: Precision) -> Iterator[Kline]:
    """The rows of a kline CSV in REST's form, in the file's order. Raises BadKline at the first invalid row."""
    for number, line in enumerate(lines(text), start=1):
        if not line or (number == 1 and line[0] in ascii_letters):  # the header begins with a name
            continue
        fields = line.split(",")  # no field of the archive is quoted
        if len(fields) != _COLUMNS:
            raise BadFile("columns", f"line {number} has {len(fields)} columns, not {_COLUMNS}")
        open_ms, o, h, low, c, volume, close_ms, quote, trades, taker, taker_quote, _ = fields
        if not all(map(_INTEGER.fullmatch, (open_ms, close_ms, trades))):
            raise BadKline(f"line {number}: no integers: {open_ms:.20} {close_ms:.20} {trades:.20}")
        kline = check(Kline(int(open_ms), o, h, low, c, volume, quote, int(trades), taker, taker_quote), grid)
        if int(close_ms) != grid.shift(kline.open_ms, 1) - 1:
            raise BadKline(f"line {number}: close time {close_ms} does not belong to open time {kline.open_ms}")
        yield normalise(kline, precision)


def checksum_of(content: bytes, zip_name: str) -> str:
    """The SHA-256 (lower-case hex) of `zip_name` from its `.CHECKSUM` file. Raises BadFile when it has none."""
    digest, _, name = content.strip().partition(b"  ")
    if not _SHA256.fullmatch(digest) or name.strip() != zip_name.encode():
        raise BadFile("checksum", f"no checksum of {zip_name} in {content!r:.200}")
    return digest.lower().decode()


def fields_of(text: str, header: str) -> Iterator[tuple[int, list[str]]]:
    """The numbers of the lines of `text`, from 1, and their fields, which are never quoted.

    Empty lines and the first one, if it is `header`, are left out. Raises BadFile for another header, or another number
    of fields.
    """
    columns = header.count(",") + 1
    for number, line in enumerate(lines(text), start=1):
        if not line:
            continue
        if number == 1 and line[0] in ascii_letters:
            if line != header:
                raise BadFile("columns", f"unknown header: {line!r:.200}")
            continue
        fields = line.split(",")
        if len(fields) != columns:
            raise BadFile("columns", f"line {number} has {len(fields)} columns, not {columns}")
        yield number, fields


def lines(text: str) -> Iterator[str]:
    """The lines of `text`, without copying all of it at once. Raises BadFile for a line that is too long."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if end - start > LINE_CHARS_MAX:
            raise BadFile("columns", f"a line has {end - start} characters")
        yield text[start:end].removesuffix("\r")
        start = end + 1
