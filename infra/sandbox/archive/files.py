"""The names of archive files, what each covers, and when it appears (binance-facts sections 6.1 and 6.3)."""

import re
from dataclasses import dataclass
from typing import Final

from infra.sandbox.grid import DAY_MS, DURATIONS_MS, HOUR_MS, MINUTE_MS, Grid, utc, utc_ms

KLINES: Final = "klines"
METRICS: Final = "metrics"
FUNDING: Final = "fundingRate"
METRICS_INTERVAL: Final = "5m"  # by which faults name the rows of metrics
_PUBLISHED_AT_MS: Final = 8 * HOUR_MS + 30 * MINUTE_MS  # 08:30 UTC, the earliest observed
_PATH: Final = re.compile(
    rf"^/data/futures/um/(?P<period>daily|monthly)/(?:(?P<family>{METRICS}|{FUNDING})/(?P<symbol>[^/]+)|"
    rf"{KLINES}/(?P<coin>[^/]+)/(?P<folder>[^/]+))/"
    r"(?P<stem>[^/]+)-(?P<year>\d{4})-(?P<month>\d\d)(?:-(?P<day>\d\d))?\.zip(?P<checksum>\.CHECKSUM)?$"
)
_DAILY: Final = frozenset(interval for interval, size_ms in DURATIONS_MS.items() if size_ms <= DAY_MS)


@dataclass(frozen=True, slots=True)
class FileKey:
    """One archive file: the series and the UTC period [start_ms, end_ms) that it covers; no interval for fundings."""

    family: str
    symbol: str
    interval: str
    name: str
    start_ms: int
    end_ms: int
    monthly: bool

    @property
    def published_ms(self) -> int:
        """When the file appears: 08:30 UTC of the next day, or of the next month's first Monday."""
        if not self.monthly:
            return self.end_ms + _PUBLISHED_AT_MS
        return self.end_ms + (-utc(self.end_ms).weekday()) % 7 * DAY_MS + _PUBLISHED_AT_MS


def parse_path(path: str) -> tuple[FileKey | None, bool]:
    """The file that a path names (None: no such file can exist), and whether its checksum is requested."""
    found = _PATH.match(path)
    if found is None:
        return None, False
    monthly, family = found["period"] == "monthly", found["family"] or KLINES
    symbol, folder = found["symbol"] or found["coin"], found["folder"] or family
    interval = _interval(family, folder, monthly=monthly)
    if interval is None or found["stem"] != f"{symbol}-{folder}" or monthly != (found["day"] is None):
        return None, False
    try:
        start_ms = utc_ms(int(found["year"]), int(found["month"]), int(found["day"] or 1))
    except ValueError:
        return None, False
    end_ms = Grid("1M" if monthly else "1d").next(start_ms)
    name = path.rpartition("/")[2].removesuffix(".CHECKSUM")
    return FileKey(family, symbol, interval, name, start_ms, end_ms, monthly), found["checksum"] is not None


def _interval(family: str, folder: str, *, monthly: bool) -> str | None:
    """The interval of a file's rows; None if there are no such files."""
    if family == METRICS:
        return None if monthly else METRICS_INTERVAL
    if family == FUNDING:
        return "" if monthly else None
    interval = "1M" if folder == "1mo" else folder
    known = interval in _DAILY or (monthly and (interval in DURATIONS_MS or folder == "1mo"))
    return interval if known else None
