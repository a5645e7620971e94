"""Filling: carries out one job of the plan, and decides when an answer without klines proves their absence."""

from collections.abc import Sequence
from typing import Final

from app.binance.archive_csv import ArchiveFile
from app.domain.columns import Columns
from app.domain.interval import M1, MINUTE_MS, Grid
from app.domain.kind import Row
from app.domain.ledger import Source
from app.domain.rollup import roll_up
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.filling.absence import RECORD_AFTER_MS, Absence, Unproven
from app.filling.file_fill import FileFiller
from app.filling.plan import Download, Fetch, Job, LearnAnchor, RollUp
from app.holding.commit import Committer
from app.holding.inventory import Inventory
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.errors import StoreUnavailable, UpstreamGarbage
from app.ports.exchange import Exchange, Priority
from app.ports.store import StoreReader
from app.runtime import Runtime

REST_COMMIT_ROWS_MAX: Final = 5_000  # rows per transaction; more gain nothing and lock the database longer
ABSENT_AGE_MS: Final = 10 * MINUTE_MS
"""Younger spans are not declared absent, for the exchange may be late, unless they lie before a listing that agrees."""
ABSENT_CONFIRM_MS: Final = 30 * MINUTE_MS  # a hole between klines counts as real when it is still there after this long
ABSENT_ELSEWHERE_CONFIRM_MS: Final = 2 * MINUTE_MS  # the same where other klines of the same trades are proven absent
PROOF_RETRY_MS: Final = MINUTE_MS  # while a proof is pending, REST is asked this often: the klines may reappear
PROOF_PAUSE_MS_MAX: Final = 5 * MINUTE_MS  # a claim not repeated for this long may have been an error
SUSPECTS_MAX: Final = 10_000


class Filler:
    """Carries out jobs: fetches from REST or the archive, or rolls up, and commits the result."""

    def __init__(
        self,
        runtime: Runtime,
        exchange: Exchange,
        store: StoreReader,
        committer: Committer,
        inventory: Inventory,
        absence: Absence,
    ) -> None:
        self._clock = runtime.clock
        self._traced = runtime.traced
        self._rest = exchange.rest
        self._store = store
        self._committer = committer
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._files = FileFiller(runtime, exchange.archive, committer, inventory)
        self._absence = absence
        self._suspects: dict[tuple[Series, Span], int] = {}
        self._pending_proofs: dict[Series, tuple[Span, int]] = {}
        """By series: the span before its first kline whose absence is being proven, and when to ask again (ms)."""

    async def fill(self, job: Job) -> None:
        """Carry out one job. Raises UpstreamError and StoreUnavailable; earlier commits stay."""
        series = job.series
        attributes = {"klinenode.symbol": series.name, "klinenode.interval": series.interval.code}
        with self._traced(f"fill {type(job).__name__}", attributes):
            match job:
                case Fetch():
                    await self._fetch(job)
                case Download():
                    await self._files.fill(job)
                case RollUp():
                    await self._roll_up(job)
                case LearnAnchor():
                    await self._learn_anchor(job)

    def is_spent(self, file: ArchiveFile) -> bool:
        """Whether a file was tried recently and is not worth another try yet."""
        return self._files.is_spent(file)

    def forget_the_past(self, now_ms: int) -> None:
        """Drop the entries of files that may be tried again, and of suspected holes that are known by now."""
        self._files.forget_the_past(now_ms)
        for series, hole in list(self._suspects):
            if self._holdings.ledger(series).known.covers(hole):
                del self._suspects[series, hole]

    async def _fetch(self, job: Fetch) -> None:
        self._wait_for_proof(job)
        grid = self._holdings.grid(job.series)
        priority = Priority.TAIL if job.is_tail else Priority.BACKFILL
        limit = grid.count(*job.window)
        klines = await self._rest.klines(job.series, grid, job.window, limit, priority)
        given = Columns.of(klines).spans(grid)
        for span in given:
            self._absence.found(job.series, span)
        await self.keep(job.series, grid, klines, Source.REST)
        holes = Spans([job.window]) - given
        if holes:
            await self._prove_absent(job.series, grid, holes, priority)

    def _wait_for_proof(self, job: Fetch) -> None:
        """Raise Unproven while it is too early to ask again about a span that the exchange claims to be empty."""
        span, until_ms = self._pending_proofs.get(job.series, (Span(0, 0), 0))
        left_ms = until_ms - self._clock.now_ms()
        if job.window.clip(span) == job.window and 0 < left_ms <= PROOF_RETRY_MS:  # more: the clock was set back
            raise Unproven(f"{job.series.name} {job.series.interval}: is asked for again before long", until_ms)

    async def keep(self, series: Series, grid: Grid, klines: Sequence[Row], source: Source) -> int:
        """Commit klines from the exchange with the spans they fill; klines that may still change are left out.

        Returns how many rows are new or changed. Raises StoreUnavailable.
        """
        new = 0
        closed_ms = self._clock.now_ms() - CLOSE_GRACE_MS
        rows = Columns.of(klines).closed_by(closed_ms, grid)
        for at in range(0, len(rows), REST_COMMIT_ROWS_MAX):
            part = rows[at : at + REST_COMMIT_ROWS_MAX]
            held = self._holdings.ledger(series).held
            for result in await self._committer.commit([Batch(series, source, part.spans(grid), part)]):
                new += result.revised + sum(grid.count(*span) for span in result.granted - held)
        return new

    async def keep_read(self, series: Series, grid: Grid, window: Span, klines: Sequence[Row]) -> None:
        """Commit klines fetched for a user's request if the series is wished; StoreUnavailable is ignored."""
        if not self._wish().has(series) or not self._holdings.is_anchored(series):
            return
        try:
            if not series.kind.is_sparse:
                await self.keep(series, grid, klines, Source.REST)
            elif window:  # events are known of all of it, wherever there are any
                rows = Columns.of(klines).between(*window)
                await self._committer.commit([Batch(series, Source.REST, Spans([window]), rows)])
        except StoreUnavailable:
            return  # the store reports its failure itself, once, not per request; the gap stays

    async def _prove_absent(self, series: Series, grid: Grid, holes: Spans, priority: Priority) -> None:
        """Record the parts of `holes` that are proven absent. Raises UpstreamGarbage for the rest, Unproven: not yet.

        The span before a series' first kline (fetched by itself, twice) is absent. A hole between klines is against the
        exchange's rules (binance-facts section 3, Gaps), so it must still be there ABSENT_CONFIRM_MS later. A longer
        interval waits for its parts; their proof supports its own, so it needs only ABSENT_ELSEWHERE_CONFIRM_MS.
        """
        now_ms = self._clock.now_ms()
        until_now = Span(0, grid.shift(grid.floor(now_ms), 1))  # with the kline in progress: a new symbol's first
        found = await self._rest.klines(series, grid, until_now, 1, priority)
        first_open_ms = found[0].open_ms if found else self._listed_ms(series, grid)
        is_just_listed = bool(found) and self._absence.agrees_with_listing(series, grid, first_open_ms)
        nothing_before_ms = first_open_ms if is_just_listed else min(first_open_ms, grid.floor(now_ms - ABSENT_AGE_MS))
        before_first = holes.clip(Span(0, nothing_before_ms))
        unproven: Unproven | None = None
        if before_first:
            try:
                await self._check_begin(series, grid, first_open_ms)
                await self._record_begin(series, nothing_before_ms)
            except Unproven as error:
                unproven = error
        proven = Spans([hole for hole in holes - before_first if self._is_confirmed(series, hole, now_ms)])
        if proven:
            await self._record_holes(series, proven)
        if unproven is not None:
            raise unproven
        lacking = holes - self._holdings.ledger(series).known
        if lacking:
            missing = sum(grid.count(*span) for span in lacking)
            raise UpstreamGarbage(f"{series.name} {series.interval}: {missing} klines are missing from REST's answer")

    async def _check_begin(self, series: Series, grid: Grid, first_ms: int) -> None:
        """Raise UpstreamGarbage when absence before `first_ms` is contradicted, Unproven while it is not proven yet."""
        before = Span(0, first_ms)
        self._absence.must_not_lack(series, before)
        after_ms = RECORD_AFTER_MS.get(doubt := await self._absence.doubt(series, grid, first_ms))
        if after_ms is None:
            raise UpstreamGarbage(f"{series.name} {series.interval}: nothing before {first_ms}, but {doubt.value}")
        try:
            self._absence.check(series, before, after_ms, PROOF_PAUSE_MS_MAX)
        except Unproven as error:
            until_ms = min(error.until_ms, self._clock.now_ms() + PROOF_RETRY_MS)
            self._pending_proofs[series] = before, until_ms
            raise Unproven(str(error), until_ms) from error
        self._pending_proofs.pop(series, None)

    async def _record_begin(self, series: Series, first_ms: int) -> None:
        await self._committer.commit([Batch(series, Source.ABSENT, Spans([Span(0, first_ms)]), [])])
        if series.interval == M1 and series.kind.rolls_up:
            await self._committer.commit(self._longer_absent(series, first_ms))

    def _is_confirmed(self, series: Series, hole: Span, now_ms: int) -> bool:
        """Whether a hole between klines has been seen for long enough and no held row refutes it."""
        seen_ms = self._suspects.setdefault((series, hole), now_ms)
        if seen_ms > now_ms:  # the clock was set back
            self._suspects[series, hole] = seen_ms = now_ms
        while len(self._suspects) > SUSPECTS_MAX:
            del self._suspects[next(iter(self._suspects))]
        after_ms = ABSENT_ELSEWHERE_CONFIRM_MS if self._absence.is_absent_elsewhere(series, hole) else ABSENT_CONFIRM_MS
        if now_ms - seen_ms < after_ms or self._absence.refuted_by(series, hole) is not None:
            return False
        self._suspects.pop((series, hole), None)
        return True

    async def _record_holes(self, series: Series, holes: Spans) -> None:
        """Fill holes that REST has confirmed from the archive, and record the rest as absent."""
        if series.kind.is_archived:
            await self._files.fill_holes(series, holes)
        lacking = holes - self._holdings.ledger(series).held
        await self._committer.commit([Batch(series, Source.ABSENT, lacking, [])])

    def _listed_ms(self, series: Series, grid: Grid) -> int:
        """The begin (ms) of a series for which the exchange returned no kline: its listing's date, or 0.

        An empty answer alone proves nothing after the listing. It proves nothing at all (0) of a symbol that trades,
        which has a kline by now, and of kinds whose rows begin before trading does.
        """
        listing = self._wish().listings.get(series.symbol)
        if listing is None or not series.kind.begins_with_listing:
            return 0
        listed_ms = grid.floor(listing.onboard_ms)
        is_begun = listing.status == "TRADING" and listed_ms <= grid.floor(self._clock.now_ms())
        return 0 if is_begun else listed_ms

    def _longer_absent(self, minutes: Series, first_ms: int) -> list[Batch]:
        """Batches that record longer klines as absent before the bucket that contains the symbol's first minute."""
        longer = [minutes.of(interval) for interval in self._wish().held_intervals if interval != M1]
        return [
            Batch(series, Source.ABSENT, Spans([(0, self._holdings.grid(series).floor(first_ms))]), [])
            for series in longer
            if self._holdings.is_anchored(series)
        ]

    async def _roll_up(self, job: RollUp) -> None:
        grid = self._holdings.grid(job.series)
        limit = job.part.interval.grid.count(*job.window)
        as_of = self._committer.epoch
        snapshot = await self._store.read(job.part, job.window, limit)
        if not snapshot.ledger.known.covers(job.window):
            return  # a repair is under way; the next plan sees it
        klines = roll_up(snapshot.rows, grid)
        made = Columns.of(klines).spans(grid)
        batches = [Batch(job.series, Source.ROLLUP, made, klines, as_of)] if klines else []
        empty = Spans([job.window]) - made
        if empty:  # all parts proven absent
            batches.append(Batch(job.series, Source.ABSENT, empty, [], as_of))
        await self._committer.commit(batches)

    async def _learn_anchor(self, job: LearnAnchor) -> None:
        klines = await self._rest.klines(job.series, job.series.interval.grid, None, 1, Priority.TAIL)
        if not klines:
            raise UpstreamGarbage(f"{job.series.name}: the exchange gave no {job.series.interval} kline")
        await self._committer.save_anchor(job.series.name, klines[-1].open_ms)
