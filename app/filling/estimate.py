"""The estimate: the requests, downloads, disk and time that fulfilling the wish takes, reported before it begins."""

from typing import Final

from app.domain.interval import DAY_MS, M1
from app.domain.span import Span
from app.events import WishEstimated
from app.filling.amounts import of_bytes, of_seconds
from app.filling.plan import ROLLUP_WAIT_MINUTES
from app.filling.room import shortage
from app.holding.gaps import survey
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import TAIL_KLINES, Wish

ROW_ZIP_BYTES: Final = 37  # a 1m kline inside a monthly ZIP, recorded files: 1.25–1.45 MB for 40,320–44,640 rows
MONTH_ROWS: Final = 43_200
GATHERED_ROW_DISK_BYTES: Final = 15
"""Bytes on disk of a row of a gathered series. Measured: 11 for sealed metrics of the archive; new ones take more."""
DOWNLOAD_BYTES_PER_S: Final = 4_000_000  # a modest line; the log says "about"
ROWS_PER_S: Final = 60_000  # unzip, parse, roll up and insert on one core
BUDGET_SHARE: Final = 0.7  # of the weight budget, which backfill may use


def estimate(
    wish: Wish,
    holdings: LedgerCache,
    now_ms: int,
    *,
    weight_per_minute: int,
    disk_free_bytes: int | None,
    disk_free_bytes_min: int,
    row_disk_bytes: int,
) -> WishEstimated:
    """Estimate the cost of every kline that is wished and not held. Bytes, seconds and requests are approximate.

    Of gathered series only the disk is counted: they take as long as their bucket makes it.
    """
    klines = missing = requests = weight = archive_rows = 0
    planned = wish.planned()
    for series in planned:
        gap = survey(wish, holdings, series, now_ms)
        probable = Span(wish.hint_ms(series), now_ms)  # one request most likely proves the time before it absent
        wished = sum(gap.grid.count(*span) for span in gap.wished.clip(probable))
        lacking = sum(gap.grid.count(*span) for span in gap.missing.clip(probable))
        klines += wished
        missing += lacking
        by_rest = 0
        if not series.kind.is_archived:
            by_rest = lacking
        elif series.interval == M1:
            by_rest = sum(gap.grid.count(*span) for span in gap.missing.clip(_recent(now_ms)))
            archive_rows += lacking - by_rest
        elif lacking and lacking * gap.grid.step_ms // M1.grid.step_ms > ROLLUP_WAIT_MINUTES:
            by_rest = min(lacking, TAIL_KLINES)
        pages = -(-by_rest // series.kind.rest.rows_thrifty)
        requests += pages
        weight += pages * series.kind.rest.weight(series.kind.rest.rows_thrifty)
    gathered = 0
    for series in wish.gathered():
        gap = survey(wish, holdings, series, now_ms)
        gathered += sum(gap.grid.count(*span) for span in gap.missing)
    download = archive_rows * ROW_ZIP_BYTES
    seconds = max(weight * 60 / (weight_per_minute * BUDGET_SHARE), download / DOWNLOAD_BYTES_PER_S)
    expected_s = int(seconds + missing / ROWS_PER_S)
    disk_bytes = missing * row_disk_bytes + gathered * GATHERED_ROW_DISK_BYTES
    series_count = len(planned)
    free = "" if disk_free_bytes is None else f" ({of_bytes(disk_free_bytes)} are free)"
    return WishEstimated(
        series=series_count,
        klines=klines,
        missing_klines=missing,
        requests=requests + -(-archive_rows // MONTH_ROWS),
        weight=weight,
        download_bytes=download,
        disk_bytes=disk_bytes,
        disk_free_bytes=disk_free_bytes,
        expected_s=expected_s,
        summary=(
            f"{len(wish.symbols)} symbols, {series_count} series, {wish.backfill_days} days back: still to come are "
            f"about {of_bytes(disk_bytes)} of disk{free}, "
            f"{of_bytes(download)} of download and {of_seconds(expected_s)}"
        ),
        shortage=shortage(disk_bytes, disk_free_bytes, disk_free_bytes_min),
    )


def _recent(now_ms: int) -> Span:
    """The span the archive does not have yet: today and, until its file is published, yesterday."""
    return Span(now_ms - now_ms % DAY_MS - DAY_MS, now_ms)
