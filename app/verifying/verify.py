"""The schedule of comparisons with the exchange: regular rounds, random samples, and audits requested by an operator.

Three loops spend weight at the lowest priority. Rounds compare every symbol whose days were not verified for
VERIFY_EVERY_DAYS. Samples compare, every minute, some series that have just closed a kline and some rows from the
archive. Audits compare what an operator requested, at once, with a report of their progress.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Final, NamedTuple

from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span
from app.holding.inventory import Inventory
from app.ports.clock import Clock
from app.ports.errors import StandDown, StoreUnavailable, UpstreamError, UpstreamRejected
from app.ports.tracing import Traced, untraced
from app.verifying.absence_audit import AbsenceAuditor
from app.verifying.audit import ROW_AGE_MS, Auditor, Tally
from app.verifying.requested import Audit, counts
from app.verifying.row_audit import RowAudit

VISIT_PAUSE_S: Final = 2.0  # between two symbols of a round: 700 of them take less than half an hour
DAY_PAUSE_S: Final = (
    0.05  # between two days of a round: 600 symbols × 7 intervals × a year take a day and a tenth of a core
)
ROUND_PAUSE_S: Final = 60.0
RETRY_S: Final = 60.0  # after an error of the exchange or the store, at least
SAMPLE_EVERY_S: Final = 60.0
SAMPLE_SERIES: Final = 5  # requests of weight 1 a minute: 0.2 % of what the exchange grants
SAMPLE_ROWS: Final = 99  # the most rows for a weight of 1 (binance-facts section 3)
SAMPLE_FRESH_MS: Final = 4 * MINUTE_MS  # a kline that closed within this time has "just closed"
AUDITS_KEPT_MAX: Final = 16  # audits in the report: waiting, running and done
AUDIT_TRIES_MAX: Final = 30  # errors in a row until an audit gives up: half an hour without the exchange
EVER: Final = Span(0, 1 << 50)


class TooManyAudits(Exception):
    """AUDITS_KEPT_MAX audits are waiting or running: another one is refused."""


class Auditors(NamedTuple):
    """What compares with the exchange: klines, and recorded absence."""

    klines: Auditor
    absence: AbsenceAuditor


class Verifier:
    """Runs rounds, samples and audits. `auditors` raises StoreUnavailable in a process that does not write."""

    def __init__(
        self,
        clock: Clock,
        inventory: Inventory,
        rng: Random,
        auditors: Callable[[], Auditors],
        *,
        every_days: int,
        traced: Traced = untraced,
    ) -> None:
        self._clock = clock
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._rng = rng
        self._auditors = auditors
        self._every_ms = every_days * DAY_MS
        self._traced = traced
        self._numbers = count(1)
        self._audits: deque[Audit] = deque()
        self._asked = asyncio.Event()
        self.background = Tally()
        """The counts and findings of rounds and samples since the start."""

    def request(self, series: Sequence[Series], span: Span, *, by_rows: bool = False) -> int:
        """Start an audit of `span` of each of `series`, of every row if `by_rows`; return its number.

        Raises StoreUnavailable, TooManyAudits.
        """
        self._auditors()
        waiting = [audit for audit in self._audits if audit.ended_ms is None]
        if len(waiting) >= AUDITS_KEPT_MAX:
            raise TooManyAudits(f"{len(waiting)} audits wait already; ask again when GET /v1/verification shows fewer")
        while len(self._audits) >= AUDITS_KEPT_MAX:
            self._audits.remove(next(audit for audit in self._audits if audit.ended_ms is not None))
        self._audits.append(Audit(next(self._numbers), tuple(series), span, self._clock.now_ms(), by_rows))
        self._asked.set()
        return self._audits[-1].number

    def audits(self) -> list[Audit]:
        """The audits, newest first. Raises StoreUnavailable."""
        self._auditors()
        return list(reversed(self._audits))

    def report(self) -> dict[str, object]:
        """The audits, newest first, and the findings of rounds and samples. Raises StoreUnavailable."""
        audits = self.audits()
        return {"background": counts(self.background), "audits": [audit.report() for audit in audits]}

    async def run(self) -> None:
        """Verify for ever. Raises StoreUnavailable in a process that does not write."""
        auditors = self._auditors()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._audit_asked(auditors), name="verify-audits")
            if self._every_ms:
                group.create_task(self._rounds(auditors), name="verify-rounds")
                group.create_task(self._samples(auditors.klines), name="verify-samples")

    # --- audits -------------------------------------------------------------------------------------------------

    async def _audit_asked(self, auditors: Auditors) -> None:
        while True:
            self._asked.clear()
            for audit in [each for each in self._audits if each.ended_ms is None]:
                with self._traced("verify audit", {"klinenode.series": len(audit.series)}):
                    await self._carry_out(auditors, audit)
            await self._asked.wait()

    async def _carry_out(self, auditors: Auditors, audit: Audit) -> None:
        audit.began_ms = self._clock.now_ms()
        audit.until_ms = min(audit.span.end_ms, audit.began_ms - ROW_AGE_MS)
        by_symbol = _by_symbol(each for each in audit.series if not each.kind.is_gathered)
        for each in audit.series:
            _count(auditors, audit, each)
        failures = 0
        for symbol in by_symbol:
            rows = RowAudit(self._clock, auditors.klines, self._holdings, by_symbol[symbol], audit.span)
            while failures < AUDIT_TRIES_MAX:
                try:
                    if audit.by_rows:
                        await rows.run(audit.tally)
                    else:
                        await _compare_held(auditors.klines, audit, by_symbol[symbol])
                    await _compare_absent(auditors.absence, audit, by_symbol[symbol])
                except UpstreamRejected as error:  # the exchange would refuse again
                    for series in by_symbol[symbol]:
                        audit.leave_out(series, audit.span, f"the exchange refuses: {error}")
                    break
                except (UpstreamError, StoreUnavailable) as error:
                    failures += 1
                    audit.error = str(error)
                    await self._clock.sleep(self._pause_s(error))
                else:
                    failures, audit.error = 0, None
                    break
            for left_out in rows.left_out:
                audit.leave_out(*left_out)
        audit.end(self._clock.now_ms())

    # --- rounds -------------------------------------------------------------------------------------------------

    async def _rounds(self, auditors: Auditors) -> None:
        while True:
            for series in _by_symbol(each for each in self._holdings.all() if not each.kind.is_gathered).values():
                await self._clock.sleep(VISIT_PAUSE_S * self._rng.uniform(0.8, 1.2))
                since_ms = self._clock.now_ms() - self._every_ms
                due = {each: auditors.klines.due(each, EVER, since_ms) for each in series}
                try:
                    with self._traced("verify round", {"klinenode.symbol": series[0].name}):
                        await auditors.klines.audit(due, self.background, DAY_PAUSE_S)
                        await auditors.absence.audit(series, EVER, since_ms, self.background)
                except (
                    UpstreamError,
                    StoreUnavailable,
                ) as error:  # the error was reported where it was raised; the next round tries again
                    await self._clock.sleep(self._pause_s(error))
            await self._clock.sleep(ROUND_PAUSE_S)

    # --- samples ------------------------------------------------------------------------------------------------

    async def _samples(self, auditor: Auditor) -> None:
        while True:
            await self._clock.sleep(SAMPLE_EVERY_S * self._rng.uniform(0.8, 1.2))
            try:
                for series, window in [*self._closed_lately(), *self._from_archive()]:
                    attributes = {"klinenode.symbol": series.name, "klinenode.interval": series.interval.code}
                    with self._traced("verify sample", attributes):
                        await self._compare(auditor, series, window)
            except (UpstreamError, StoreUnavailable) as error:
                await self._clock.sleep(self._pause_s(error))

    async def _compare(self, auditor: Auditor, series: Series, window: Span) -> None:
        replaced = await auditor.compare(series, window, self.background)
        if series.kind.rolls_up and series.interval != M1 and series.interval.grid.step_ms <= DAY_MS:
            for open_ms in self._holdings.grid(series).opens(*replaced.hull):
                if replaced.span_at(open_ms):
                    await auditor.explain(series, open_ms, self.background)

    def _closed_lately(self) -> list[tuple[Series, Span]]:
        """Samples of the newest rows: one random series for each interval that has just closed a kline.

        At most SAMPLE_SERIES of them, with SAMPLE_ROWS rows each or as many as are held without a gap.
        """
        now_ms = self._clock.now_ms()
        by_step: dict[int, list[Series]] = {}
        for series in self._wish().planned():
            grid = self._holdings.grid(series)
            if self._holdings.is_anchored(series) and now_ms - grid.floor(now_ms - ROW_AGE_MS) <= SAMPLE_FRESH_MS:
                by_step.setdefault(grid.step_ms, []).append(series)
        samples = []
        for step_ms in sorted(by_step, reverse=True)[:SAMPLE_SERIES]:  # the longest first: they close most rarely
            series = self._rng.choice(by_step[step_ms])
            grid = self._holdings.grid(series)
            held = self._holdings.ledger(series).held.span_at(grid.floor(now_ms - ROW_AGE_MS) - 1)
            if held is not None:
                end_ms = min(held.end_ms, grid.floor(now_ms - ROW_AGE_MS))
                samples.append((series, Span(max(held.start_ms, grid.shift(end_ms, -SAMPLE_ROWS)), end_ms)))
        return samples

    def _from_archive(self) -> list[tuple[Series, Span]]:
        """A sample of up to SAMPLE_ROWS rows that came from the archive; none if the random series has no such rows."""
        series = self._rng.choice(list(self._holdings.all()) or [None])
        if series is None:
            return []
        entries = [entry for entry in self._holdings.ledger(series).entries if entry.source is Source.ARCHIVE]
        if not entries:
            return []
        span, grid = self._rng.choice(entries).span, self._holdings.grid(series)
        first = self._rng.randrange(grid.count(*span))
        start_ms = grid.shift(span.start_ms, first)
        return [(series, Span(start_ms, min(span.end_ms, grid.shift(start_ms, SAMPLE_ROWS))))]

    def _pause_s(self, error: Exception) -> float:
        until_ms = error.until_ms if isinstance(error, StandDown) else 0
        return max(RETRY_S, (until_ms - self._clock.now_ms()) / 1000) * self._rng.uniform(1.0, 1.2)


def _by_symbol(series: Iterable[Series]) -> Mapping[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for each in series:
        found.setdefault(each.symbol, []).append(each)
    return found


def _count(auditors: Auditors, audit: Audit, series: Series) -> None:
    """Add to the audit how many comparisons a series takes, and what of it is left out."""
    if series.kind.is_gathered:
        audit.leave_out(series, audit.span, "the exchange grants too few requests to compare rows of this kind")
        return
    klines, absence = auditors
    span, began_ms = audit.span, audit.began_ms
    if audit.by_rows:
        audit.total += klines.count_rows(series, klines.held_rows(series, span))
    else:
        audit.total += klines.count(series, klines.due(series, span, began_ms))
        audit.total += klines.count_rows(series, klines.due_rows(series, span, began_ms))
    for hole, why in klines.left_out(series, span):
        audit.leave_out(series, hole, why)
    audit.total += len(absence.due(series, span, began_ms))


async def _compare_held(auditor: Auditor, audit: Audit, several: Sequence[Series]) -> None:
    """Compare the series of one symbol: whole days by their sums, parts of days row by row."""
    due = {series: auditor.due(series, audit.span, audit.began_ms) for series in several}
    await auditor.audit(due, audit.tally)
    for series in several:
        await auditor.audit_rows(series, auditor.due_rows(series, audit.span, audit.began_ms), audit.tally)


async def _compare_absent(absence: AbsenceAuditor, audit: Audit, several: Sequence[Series]) -> None:
    """Ask for the recorded absence of one symbol's series again."""
    await absence.audit(several, audit.span, audit.began_ms, audit.tally)
    for series in several:
        for span in absence.due(series, audit.span, audit.began_ms):
            audit.leave_out(series, span, "recorded absent, and more such spans than are asked at once")
