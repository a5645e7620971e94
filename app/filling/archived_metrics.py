"""Metrics from the archive: what REST no longer has is filled from daily files, and what both have is compared.

The file of every wished day is read once, as soon as all of the day is known by REST or has begun to expire there, or
after three days: to compare both (app/filling/joining.py), and for rows that REST lacks. A file that was missing or
unreadable is tried again, one that was read is looked at again by its checksum (app/holding/metrics_looks.py). A row
that neither its day's file nor REST has any more is absent, until a later file has it. That a file gives no rows must
be seen twice: a proxy's page and the wrong host have no files either.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from app.binance.metrics_csv import MetricsDay
from app.domain.backoff import ceiling_s
from app.domain.block_grid import block_span
from app.domain.columns import Columns
from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.events import ArchiveRejected, MetricsFilesProgress, MetricsFilesRead
from app.filling.file_fill import why_rejected
from app.filling.joining import Joining
from app.filling.metrics_keeping import MetricsKeeping
from app.filling.room import Room
from app.holding.commit import Committer
from app.holding.inventory import Inventory
from app.holding.metrics_looks import (
    AGAIN_AGE_MS,
    AGAIN_MS,
    CONFIRM_MS,
    Look,
    Looks,
    due_ms,
    looks_of,
    month_of,
    save_looks,
)
from app.ports.errors import NotPublished, StoreUnavailable, UpstreamError, UpstreamUnavailable
from app.ports.exchange import Archive, FileMetrics
from app.ports.store import StoreWriter
from app.runtime import Runtime

WORKERS: Final = 2  # one portion is committed while the next is downloaded; downloads have slots of their own
PASS_EVERY_S: Final = 600.0  # between two looks for files that have become due
AWAY_S: Final = 15 * 60.0  # while the archive does not answer
FAILURES_MAX: Final = 3  # files in a row without an answer; fewer may be faults of these files alone
ALIVE_MS: Final = HOUR_MS  # so long after a file was read, another one that is not there is missing without doubt
LOOK_S: Final = 5.0  # how often it is seen that the wish has changed
NEXT_MS_MAX: Final = 2 * 15 * 60 * 1_000  # longer is never waited: the clock was set back
STORE_RETRY_S: Final = 30.0  # then twice as long each time: files are downloaded before they cannot be kept
SURVEY_SLICE: Final = 100  # series surveyed without a pause
PROGRESS_EVERY_MS: Final = 10_000
NEVER_MS: Final = 1 << 53
WAIT_MS: Final = 3 * DAY_MS
"""How long a file waits until REST has given all rows of its day: one of the endpoints may refuse for ever.

A cold start of 600 symbols fetches the 30 days that REST has in about a day.
"""
SOUGHT_MS: Final = 6 * HOUR_MS  # a file is not read again for lacking rows before this
SEEN_MS: Final = AGAIN_AGE_MS + AGAIN_MS + 32 * DAY_MS
"""Files of older days, which are no longer wished, are not looked at again."""
STEP: Final = INTERVALS["5m"]


class _Months(NamedTuple):
    """The wished series of one symbol that have archive files, and their months, newest first."""

    series: list[Series]
    span: Span
    """From the begin of the oldest wish, or of what may be looked at again, to now (ms)."""
    lacking: Spans
    """The wished times that one of the series lacks and REST no longer has."""


class ArchivedMetrics:
    """Reads the archive's metrics files, for ever. Only the process that writes has one."""

    def __init__(
        self,
        runtime: Runtime,
        archive: Archive,
        store: StoreWriter,
        committer: Committer,
        inventory: Inventory,
        joining: Joining,
        room: Room,
    ) -> None:
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._archive = archive
        self._store = store
        self._keeping = MetricsKeeping(runtime.clock, store, committer, inventory)
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._joining = joining
        self._room = room
        self._began_ms = runtime.clock.now_ms()
        self._next_ms: dict[tuple[str, int], int] = {}
        """By symbol and begin of a month (ms): when one of the month's files is due next."""
        self._turns: dict[str, asyncio.Lock] = {}
        """By symbol: which of two files has a row depends on what was read before, so one month is read at a time."""
        self._away_until_ms = 0
        self._failures = 0
        self._read_ms = -ALIVE_MS
        """When a file was read last (ms)."""
        self._failing: set[tuple[str, int]] = set()
        """By symbol and begin of a month (ms): the months with files that did not answer, which are read last."""
        self._sought_ms: dict[tuple[Series, int], int] = {}
        """By series and begin of a day (ms): when its file, read before, was read again for rows that lack."""
        self._is_woken = False
        self.last_error: str | None = None

    async def run(self) -> None:
        """Read files for ever as they become due."""
        store_failures = 0
        while True:
            pause_s = PASS_EVERY_S
            try:
                await self.read_all()
            except* StoreUnavailable as errors:
                self.last_error = str(errors.exceptions[0])
                pause_s = ceiling_s(store_failures, STORE_RETRY_S, PASS_EVERY_S)
                store_failures += 1
            else:
                store_failures = 0
            next_ms = max(self._away_until_ms, self._clock.now_ms() + int(pause_s * 1_000))
            while not self._is_woken and 0 < next_ms - self._clock.now_ms() <= NEXT_MS_MAX:
                await self._clock.sleep(LOOK_S)

    def wake(self) -> None:
        """Look at once for files that are due: the wish has changed."""
        self._is_woken = True

    async def read_all(self) -> None:
        """Read every file that is due, the newest months first. Raises a group of StoreUnavailable."""
        self._is_woken, self._away_until_ms, self._failures = False, 0, 0
        jobs = await self._due()
        turns = iter(enumerate(jobs))
        told_ms = self._clock.now_ms()

        async def work() -> None:
            nonlocal told_ms
            for number, (month, symbol, series) in turns:
                if self._is_woken or self._away_until_ms or self._room.refusal() is not None:
                    return
                async with self._turns.setdefault(symbol, asyncio.Lock()):
                    await self._month(symbol, series, month)
                if self._clock.now_ms() - told_ms >= PROGRESS_EVERY_MS:
                    told_ms = self._clock.now_ms()
                    self._observe(MetricsFilesProgress(number + 1, len(jobs), symbol, month.start_ms))

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work())

    # --- what is due ------------------------------------------------------------------------------------------------

    async def _due(self) -> list[tuple[Span, str, list[Series]]]:
        """The months in which a file is due, or a row lacks that REST no longer has: newest first."""
        now_ms, jobs = self._clock.now_ms(), []
        self._sought_ms = {key: at_ms for key, at_ms in self._sought_ms.items() if 0 <= now_ms - at_ms < SOUGHT_MS}
        for symbol, (series, span, lacking) in (await self._by_symbol(now_ms)).items():
            end_ms = span.end_ms
            while end_ms > span.start_ms:
                month = month_of(end_ms - 1)
                end_ms = month.start_ms
                if self._next_ms.get((symbol, month.start_ms), 0) <= now_ms or lacking.clip(month):
                    jobs.append((month, symbol, series))
        return sorted(jobs, key=lambda job: ((job[1], job[0].start_ms) in self._failing, -job[0].start_ms))

    async def _by_symbol(self, now_ms: int) -> dict[str, _Months]:
        found: dict[str, _Months] = {}
        for number, series in enumerate(self._archived(), start=1):
            gap = self._keeping.gap(series)
            if gap.wished:
                expired = self._keeping.expired(series)
                former = found.get(series.symbol, _Months([], Span(now_ms - SEEN_MS, now_ms), Spans()))
                found[series.symbol] = _Months(
                    [*former.series, series],
                    Span(min(former.span.start_ms, gap.wished.hull.start_ms), now_ms),
                    former.lacking | gap.missing.clip(expired),
                )
            if number % SURVEY_SLICE == 0:
                await self._clock.sleep(0)
        return found

    def _archived(self) -> Iterator[Series]:
        return (series for series in self._wish().gathered() if series.kind.is_archived)

    # --- a month of a symbol ------------------------------------------------------------------------------------------

    async def _month(self, symbol: str, series: list[Series], month: Span) -> None:
        """Look at the files of a month that are due, and read those that are new."""
        before = await looks_of(self._store, symbol, month.start_ms)
        later = (await looks_of(self._store, symbol, month.end_ms)).get(month.end_ms)
        looks, now_ms = dict(before), self._clock.now_ms()
        self._failing.discard((symbol, month.start_ms))
        gaps = {each: self._keeping.gap(each) for each in series}
        wished, missing = Spans(), Spans()
        for gap in gaps.values():
            wished |= gap.wished.clip(month)
            missing |= gap.missing.clip(month)
        expired = min(map(self._keeping.expired, series))
        lacking = {each: gap.missing.clip(month).clip(expired) for each, gap in gaps.items()}
        files = [
            MetricsDay(symbol, day_ms)
            for day_ms in range(month.start_ms, month.end_ms, DAY_MS)
            if day_ms in looks or wished.clip(Span(day_ms, day_ms + DAY_MS))
        ]
        wanted, sought = [], dict[MetricsDay, list[Series]]()
        for file in files:
            if self._away_until_ms:
                break
            look, when_ms = looks.get(file.day_ms), due_ms(file, looks.get(file.day_ms))
            is_anew = look is not None and not look.is_proof and (symbol, month.start_ms) not in self._next_ms
            if look is not None and look.is_proof and (lost := self._lost(file, lacking, now_ms)):
                sought[file] = lost
                wanted.append(file)
            elif not is_anew and (when_ms is None or when_ms > now_ms):
                continue
            elif file.span.start_ms >= expired.end_ms and missing.clip(file.span) and self._waits(file, now_ms):
                continue  # REST has the first word: it is looked at again in the next pass
            elif await self._is_new(file, looks):
                wanted.append(file)
        for _, some in groupby(wanted, key=lambda file: block_span(STEP, file.day_ms)):
            if self._away_until_ms:
                break
            await self._read(series, list(some), looks, later)
        for file, lost in sought.items():
            if looks.get(file.day_ms) != before.get(file.day_ms):
                self._sought_ms |= {(each, file.day_ms): now_ms for each in lost}
        if looks != before:
            await save_looks(self._store, symbol, month.start_ms, looks, self._clock.now_ms())
        due = [when_ms for file in files if (when_ms := due_ms(file, looks.get(file.day_ms))) is not None]
        unpublished = (MetricsDay(symbol, day_ms).published_ms for day_ms in range(*month, DAY_MS))
        due += [when_ms for when_ms in unpublished if when_ms > now_ms]  # of days that may be wished by then
        self._next_ms[symbol, month.start_ms] = min(due, default=NEVER_MS)

    def _waits(self, file: MetricsDay, now_ms: int) -> bool:
        """Whether REST may still give the rows of a file that it has not given yet."""
        return now_ms - max(file.published_ms, self._began_ms) < WAIT_MS

    def _lost(self, file: MetricsDay, lacking: Mapping[Series, Spans], now_ms: int) -> list[Series]:
        """The series that lack rows of a file that was looked at, and were not sought in it a short while ago.

        Rows that neither file nor REST has pass out of REST's reach one by one.
        """
        return [
            each
            for each, spans in lacking.items()
            if spans.clip(file.span)
            and not 0 <= now_ms - self._sought_ms.get((each, file.day_ms), -SOUGHT_MS) < SOUGHT_MS
        ]

    async def _is_new(self, file: MetricsDay, looks: Looks) -> bool:
        """Whether a file that is due is another one than was read, by its checksum; notes that it was looked at."""
        look = looks.get(file.day_ms)
        if look is None or look.sha256 is None:
            return True
        try:
            is_new = await self._archive.metrics_sha256(file) != look.sha256
        except UpstreamUnavailable as error:
            self._note_failure(file, error)
            return False
        except UpstreamError:  # it was withdrawn, or its checksum is garbage: what was read stays
            is_new = False
        self._failures = 0
        if not is_new:
            looks[file.day_ms] = look._replace(looked_ms=self._clock.now_ms())
        return is_new

    # --- some days of a symbol ----------------------------------------------------------------------------------------

    async def _read(
        self, series: Sequence[Series], files: Sequence[MetricsDay], looks: Looks, later: Look | None
    ) -> None:
        """Read files of neighbouring days, and keep and compare their rows; notes in `looks` what was seen.

        `later`: what was seen of the next month's first file.
        """
        found = await self._archive.metrics(files)
        now_ms, seen = self._clock.now_ms(), dict(looks)
        if found.read:
            self._failures, self._read_ms = 0, now_ms
        for file, read in found.read.items():
            seen[file.day_ms] = Look(read.sha256, "", now_ms)
        for file, error in found.failed.items():
            self._note_failure(file, error)
            if not isinstance(error, UpstreamUnavailable):
                former, (_, reason) = looks.get(file.day_ms), why_rejected(error)
                if self._is_proof(error, former, now_ms):
                    seen[file.day_ms] = Look(None, reason, now_ms)
                else:
                    since_ms = now_ms if former is None or former.is_proof else former.looked_ms
                    seen[file.day_ms] = Look(None, reason, since_ms, is_proof=False)
                    self.last_error = f"{reason}; the file is looked at again in {CONFIRM_MS // MINUTE_MS} min"
        looked = [(file, seen.get(file.day_ms)) for file in files if seen.get(file.day_ms) != looks.get(file.day_ms)]
        days = Spans(file.span for file, look in looked if look is not None and look.is_proof)
        before = looks if later is None else {**looks, month_of(files[0].day_ms).end_ms: later}
        for each in series:
            await self._keeping.keep(each, found, days, before)
        await self._join(series, found)
        self._tell(files, found)
        looks.update(seen)

    def _is_proof(self, error: UpstreamError, former: Look | None, now_ms: int) -> bool:
        """Whether it is sure that a file has no rows, given how it failed and what was seen of it before."""
        if former is not None and former.sha256 is None:
            return former.is_proof or now_ms - former.looked_ms >= CONFIRM_MS
        return isinstance(error, NotPublished) and 0 <= now_ms - self._read_ms < ALIVE_MS

    async def _join(self, series: Sequence[Series], found: FileMetrics) -> None:
        """Compare the archive's rows with those of the same times that are held from REST."""
        archived, by_rest = {}, {}
        for each in series:
            rows = Columns.of(found.rows.get(each.kind.name, ()))
            both = _from_rest(self._holdings.ledger(each)) & rows.spans(self._holdings.grid(each))
            if both:
                archived[each.kind] = rows.within(both)
                by_rest[each.kind] = [
                    row
                    for span in both
                    for row in (await self._store.read(each, span, each.interval.grid.count(*span))).rows
                ]
        if archived:
            await self._joining.check(series[0].symbol, archived, by_rest)

    # --- reports ------------------------------------------------------------------------------------------------------

    def _note_failure(self, file: MetricsDay, error: UpstreamError) -> None:
        check, reason = why_rejected(error)
        if isinstance(error, UpstreamUnavailable):
            self.last_error = reason
            self._failures += 1
            self._failing.add((file.symbol, month_of(file.day_ms).start_ms))
            if self._failures >= FAILURES_MAX:
                self._away_until_ms = self._clock.now_ms() + int(AWAY_S * 1_000)
                then = f"the archive is asked again in {AWAY_S / 60:.0f} min"
            else:
                then = "the file is tried again after all others"
        else:
            self._failures = 0
            then = "its rows stay unknown or absent; the file is tried again later"
        self._observe(ArchiveRejected(file.name, check, reason, then))

    def _tell(self, files: Sequence[MetricsDay], found: FileMetrics) -> None:
        reports = [read.report for read in found.read.values()]
        self._observe(
            MetricsFilesRead(
                symbol=files[0].symbol,
                files=len(reports),
                failed=len(found.failed),
                lines=sum(report.lines for report in reports),
                missing=sum(report.missing for report in reports),
                duplicates=sum(report.duplicates for report in reports),
                conflicts=sum(report.conflicts for report in reports),
                unknown=sum(report.blank_values + report.zero_values for report in reports),
                misplaced=sum(report.disordered + report.outside + report.bare_dates for report in reports),
            )
        )


def _from_rest(ledger: Ledger) -> Spans:
    return Spans(entry.span for entry in ledger.entries if entry.source is Source.REST)
