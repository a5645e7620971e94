"""Filling from archive files: minutes and the longer klines made of them, committed together, some days at a time."""

from collections.abc import Iterator
from typing import Final

from app.binance.archive_csv import ArchiveFile, daily_exists
from app.domain.block_grid import block_span
from app.domain.columns import Columns
from app.domain.interval import D1, DAY_MS, INTERVALS, M1, MINUTE_MS, Grid, Interval
from app.domain.kline import Precision
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import ArchiveRejected
from app.filling.plan import Download, made_of
from app.holding.commit import Committer
from app.holding.inventory import Inventory
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.errors import FileRejected, NotPublished, UpstreamError, UpstreamGarbage, UpstreamUnavailable
from app.ports.exchange import Archive, FileKlines
from app.runtime import Runtime

PORTION: Final = INTERVALS["15m"]
"""Rows of a file are committed in portions as long as the blocks of this interval, half a month: those of 1m, 3m and 5m
end with it too, so that none is cut.

Klines that close meanwhile wait for such a transaction. Measured for the 35,000 rows and roll-ups of half a month:
sealed ones take a fifteenth of the time of columns, which a node that seals nothing gets (14 and 210 ms on a slow
machine).
"""
FILE_RETRY_MS: Final = 6 * 3_600_000  # a file that is missing or not whole may be republished (binance-facts 6.3)
HOLE_FILES_MAX: Final = 4  # files tried before holes are recorded; a hole in the trades is shorter than a day
UNREACHABLE_RETRY_MS: Final = 15 * MINUTE_MS  # while the archive does not answer, REST replaces it


class FileFiller:
    """Carries out downloads, and remembers which files are not worth another try for now."""

    def __init__(self, runtime: Runtime, archive: Archive, committer: Committer, inventory: Inventory) -> None:
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._archive = archive
        self._committer = committer
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._spent: dict[ArchiveFile, int] = {}

    def is_spent(self, file: ArchiveFile) -> bool:
        """Whether a file was tried recently and is not worth another try yet."""
        return file in self._spent

    def forget_the_past(self, now_ms: int) -> None:
        """Drop the entries of files that may be tried again."""
        self._spent = {file: until_ms for file, until_ms in self._spent.items() if until_ms > now_ms}

    async def fill(self, job: Download) -> None:
        """Carry out one download; an unusable file is reported and not tried again for a while.

        Raises StoreUnavailable; earlier commits stay.
        """
        grid = self._holdings.grid(job.series)
        listing = self._wish().listings.get(job.series.name)
        retry_ms = self._clock.now_ms() + FILE_RETRY_MS
        if listing is None:  # without the symbol's precision an archive row cannot be brought to REST's form
            self._spent[job.file] = retry_ms
            return
        try:
            found = await self._archive.fetch(job.file, grid, listing.precision, self._longer(job))
        except (NotPublished, UpstreamGarbage, UpstreamUnavailable) as error:
            pause_ms = UNREACHABLE_RETRY_MS if isinstance(error, UpstreamUnavailable) else FILE_RETRY_MS
            self._spent[job.file] = self._clock.now_ms() + pause_ms
            self._reject(job, *why_rejected(error), pause_ms)
            return
        rows = found.rows.within(job.windows)
        await self._keep(job.series, grid, FileKlines(rows, found.longer), listing.precision)
        lacking = job.windows - rows.spans(grid)
        if lacking:
            self._spent[job.file] = retry_ms
            missing = sum(grid.count(*span) for span in lacking)
            self._reject(job, "whole", f"{missing} of the klines wanted are not in the file", FILE_RETRY_MS)

    def _reject(self, job: Download, check: str, reason: str, pause_ms: int) -> None:
        then = f"REST is asked for what is missing; the file is tried again in {pause_ms // MINUTE_MS} min"
        self._observe(ArchiveRejected(job.file.name, check, reason, then))

    async def fill_holes(self, series: Series, holes: Spans) -> None:
        """Fill holes confirmed by REST from the archive's daily files, newest day first, at most HOLE_FILES_MAX."""
        days = {D1.grid.floor(open_ms) for hole in holes for open_ms in (hole.start_ms, hole.end_ms - 1)}
        for day_ms in sorted(days, reverse=True)[:HOLE_FILES_MAX]:
            file = ArchiveFile(series.name, series.interval, Span(day_ms, day_ms + DAY_MS), is_monthly=False)
            is_offered = daily_exists(series.interval) and file.published_ms <= self._clock.now_ms()
            if is_offered and not self.is_spent(file):
                await self.fill(Download(series, file, holes.clip(file.span)))

    def _longer(self, job: Download) -> list[Interval]:
        """The longer intervals whose missing klines can be rolled up from the minutes of the job's file."""
        if job.series.interval != M1:
            return []
        return [interval for interval in INTERVALS.values() if self._made_of(job.windows, job.series.of(interval))]

    def _made_of(self, minutes: Spans, longer: Series) -> Spans:
        return made_of(minutes, self._wish(), self._holdings, longer, self._clock.now_ms())

    async def _keep(self, series: Series, grid: Grid, found: FileKlines, precision: Precision) -> None:
        """Commit the rows, and those missing longer klines that are rolled up from these rows alone."""
        rows = found.rows.closed_by(self._clock.now_ms() - CLOSE_GRACE_MS, grid)
        spans = rows.spans(grid)
        wanted = {
            each: klines.within(self._made_of(spans, each))
            for interval, klines in found.longer.items()
            for each in [series.of(interval)]
        }
        for part in _portions(rows):
            batches = [Batch(series, Source.ARCHIVE, part.spans(grid), part, precision=precision)]
            for each, klines in wanted.items():
                if made := klines.between(part.opens_ms[0], part.opens_ms[-1] + 1):
                    filled = made.spans(each.interval.grid)
                    batches.append(Batch(each, Source.ROLLUP, filled, made, made_of=series, precision=precision))
            await self._committer.commit(batches)


def why_rejected(error: UpstreamError) -> tuple[str, str]:
    """The check that an archive file failed, and the details (app.events.ArchiveRejected)."""
    if isinstance(error, NotPublished):
        return "published", f"the archive has no {error} (404)"
    if isinstance(error, FileRejected):
        return error.check, str(error)
    return ("size" if isinstance(error, UpstreamGarbage) else "reachable"), str(error)


def _portions(rows: Columns) -> Iterator[Columns]:
    """Split `rows` where blocks of PORTION end."""
    while rows:
        part = rows.between(0, block_span(PORTION, rows.opens_ms[0]).end_ms)
        yield part
        rows = rows[len(part) :]
