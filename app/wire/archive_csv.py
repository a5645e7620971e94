"""Kline CSV files of data.binance.vision (binance-facts section 6): their names, and their rows as klines.

Files older than about 2022-05 have no header. Numbers come in three forms over the years; they are brought to REST's.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from app.domain.interval import DAY_MS, Grid, Interval
from app.domain.kline import BadKline, Kline, Precision, check, normalise
from app.domain.span import Span

_COLUMNS: Final = 12
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PUBLISHED_AFTER_MS: Final = 9 * 3_600_000  # daily files appear about 08:30–09:00 UTC of the next day (section 6.3)
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
        """When the file can be expected to exist."""
        return self.span.end_ms + (_MONTHLY_PUBLISHED_AFTER_MS if self.is_monthly else _PUBLISHED_AFTER_MS)


def daily_exists(interval: Interval) -> bool:
    """Whether the archive has daily files of `interval`: up to 1d; longer ones are monthly only."""
    return interval.grid.step_ms <= DAY_MS


def parse(text: str, grid: Grid, precision: Precision) -> Iterator[Kline]:
    """The rows of a kline CSV in REST's form, in the file's order. Raises BadKline at the first row that is none."""
    reader = csv.reader(io.StringIO(text))
    for number, fields in enumerate(reader, start=1):
        if not fields or (number == 1 and not fields[0].isdigit()):
            continue
        if len(fields) != _COLUMNS:
            raise BadKline(f"line {number} has {len(fields)} columns, not {_COLUMNS}")
        open_ms, o, h, low, c, volume, close_ms, quote, trades, taker, taker_quote, _ = fields
        try:
            raw = Kline(int(open_ms), o, h, low, c, volume, quote, int(trades), taker, taker_quote)
            closes_ms = int(close_ms)
        except ValueError as error:
            raise BadKline(f"line {number}: {error}") from error
        kline = check(raw, grid)
        if closes_ms != grid.shift(kline.open_ms, 1) - 1:
            raise BadKline(f"line {number}: close time {closes_ms} does not belong to open time {kline.open_ms}")
        yield normalise(kline, precision)


def checksum_of(text: str, zip_name: str) -> str:
    """The SHA-256 (hex) that a `.CHECKSUM` file states for `zip_name`. Raises BadKline when it states none."""
    digest, _, name = text.strip().partition("  ")
    if len(digest) != 64 or name.strip() != zip_name:
        raise BadKline(f"no checksum of {zip_name} in {text!r:.200}")
    return digest.lower()
