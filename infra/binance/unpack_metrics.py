"""Unpacks and reads the downloaded ZIPs of a symbol's days of metrics."""

from collections.abc import Mapping
from io import BytesIO
from typing import Final, NamedTuple

from app.binance.metrics_csv import MetricsDay, MetricsFile, Report, parse
from app.binance.metrics_days import joined
from app.domain.columns import Columns
from app.domain.kind import Kind
from app.domain.kline import BadKline
from app.kinds.metrics import METRICS
from infra.binance.unpack import Collect, Gathered, unpack

BYTES_MAX: Final = 4 * 1024 * 1024  # of a ZIP and of its content; a day has 10 kB and 35 kB


class Download(NamedTuple):
    """A ZIP whose checksum was right."""

    sha256: str
    content: bytes


class MetricsRead(NamedTuple):
    """The rows of some days (see FileMetrics in app/ports/exchange.py), and the files that have none to use."""

    rows: Mapping[str, Columns]
    replaced: Mapping[str, Columns]
    reports: Mapping[MetricsDay, Report]
    bad: Mapping[MetricsDay, BadKline]


def read_days(downloads: Mapping[MetricsDay, bytes], collect: Collect = Gathered) -> MetricsRead:
    """The rows of ZIPs of one symbol, in ascending order of their days."""
    files: list[MetricsFile] = []
    reports: dict[MetricsDay, Report] = {}
    bad: dict[MetricsDay, BadKline] = {}
    for day, content in downloads.items():
        try:
            file = parse(unpack(BytesIO(content), day.name, BYTES_MAX), day.symbol, day.day_ms)
        except BadKline as error:
            bad[day] = error
            continue
        files.append(file)
        reports[day] = file.report
    made = joined(files)
    rows = {endpoint: _collected(METRICS[endpoint], each, collect) for endpoint, each in made.rows.items()}
    return MetricsRead(rows, made.replaced, reports, bad)


def _collected(kind: Kind, rows: Columns, collect: Collect) -> Columns:
    [interval] = kind.intervals
    collector = collect(kind, interval)
    collector.take(rows)
    return collector.found()
