"""The schedule of comparisons with the exchange: regular rounds, random samples, and audits requested by an operator.

Three loops spend weight at the lowest priority. Rounds compare every symbol whose days were not verified for
VERIFY_EVERY_DAYS. Samples compare, every minute, some series that have just closed a kline and some rows from the
archive. Audits compare what an operator requested, at once, with a report of their progress.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
LEFT_OUT_MAX: Final = 100  # spans named in a report that an audit could not compare; all are counted
AUDIT_TRIES_MAX: Final = 30  # errors in a row until an audit gives up: half an hour without the exchange
EVER: Final = Span(0, 1 << 50)


class TooManyAudits(Exception):
    """AUDITS_KEPT_MAX audits are waiting or running: another one is refused."""


@dataclass(slots=True)
class Audit:
    """One requested comparison, with its progress and result; times in ms."""

    number: int
    series: tuple[Series, ...]
    span: Span
    asked_ms: int
    total: int = 0
    """The number of comparisons, as known when the audit began."""
    is_begun: bool = False
    ended_ms: int | None = None
    error: str | None = None
    tally: Tally = field(default_factory=Tally)
    left_out: list[dict[str, object]] = field(default_factory=list)
    """Spans that could not be compared, with reasons; the first LEFT_OUT_MAX."""
    left_out_total: int = 0
    until_ms: int = 0
    """The audit compares no kline that opens at or after this time."""

    def leave_out(self, series: Series, span: Span, why: str) -> None:
        """Record a span that is not compared, and why."""
        self.left_out_total += 1
        if len(self.left_out) < LEFT_OUT_MAX:
            named = {"symbol": series.name, "interval": series.interval.code}
            self.left_out.append({**named, "start": span.start_ms, "end": span.end_ms, "why": why})

    def end(self, now_ms: int) -> None:
        """End the audit. If it has compared nothing, it has failed."""
        self.ended_ms = now_ms
        if self.error is None and not self.tally.compared:
            why = f"{self.left_out[0]['why']}" if self.left_out else "the exchange gave nothing to compare with"
            self.error = f"nothing was compared: {why}"

    @property
    def state(self) -> str:
        """`waiting`, `running`, `done` or `failed`."""
        if self.ended_ms is None:
            return "running" if self.is_begun else "waiting"
        return "done" if self.error is None else "failed"

    def report(self) -> dict[str, object]:
        """The audit as GET /v1/verification shows it; times in ms."""
        return {
            "audit": self.number,
            "state": self.state,
            "error": self.error,
            "series": len(self.series),
            "start": self.span.start_ms,
            "end": self.span.end_ms,
            "asked": self.asked_ms,
            "ended": self.ended_ms,
            "total": self.total,
            "uncompared": self.left_out,
            "uncompared_total": self.left_out_total + self.tally.uncompared,
            "until": self.until_ms,
            **_tally(self.tally),
        }


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

    def request(self, series: Sequence[Series], span: Span) -> int:
        """Start an audit of `span` of each of `series`; return its number. Raises StoreUnavailable, TooManyAudits."""
        self._auditors()
        waiting = [audit for audit in self._audits if audit.ended_ms is None]
        if len(waiting) >= AUDITS_KEPT_MAX:
            raise TooManyAudits(f"{len(waiting)} audits wait already; ask again when GET /v1/verification shows fewer")
        while len(self._audits) >= AUDITS_KEPT_MAX:
            self._audits.remove(next(audit for audit in self._audits if audit.ended_ms is not None))
        self._audits.append(Audit(next(self._numbers), tuple(series), span, self._clock.now_ms()))
        self._asked.set()
        return self._audits[-1].number

    def audits(self) -> list[Audit]:
        """The audits, newest first. Raises StoreUnavailable."""
        self._auditors()
        return list(reversed(self._audits))

    def report(self) -> dict[str, object]:
        """The audits, newest first, and the findings of rounds and samples. Raises StoreUnavailable."""
        audits = self.audits()
        return {"background": _tally(self.background), "audits": [audit.report() for audit in audits]}

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
        auditor, absence = auditors
        began_ms = self._clock.now_ms()
        by_symbol = _by_symbol(each for each in audit.series if not each.kind.is_gathered)
        audit.is_begun = True
        audit.until_ms = min(audit.span.end_ms, began_ms - ROW_AGE_MS)
        for each in audit.series:
            if each.kind.is_gathered:
                audit.leave_out(each, audit.span, "the exchange grants too few requests to compare rows of this kind")
                continue
            audit.total += auditor.count(each, auditor.due(each, audit.span, began_ms))
            audit.total += auditor.count_rows(each, auditor.due_rows(each, audit.span, began_ms))
            for span, why in auditor.left_out(each, audit.span):
                audit.leave_out(each, span, why)
            audit.total += len(absence.due(each, audit.span, began_ms))
        failures = 0
        for symbol in by_symbol:
            while failures < AUDIT_TRIES_MAX:
                due = {series: auditor.due(series, audit.span, began_ms) for series in by_symbol[symbol]}
                try:
                    await auditor.audit(due, audit.tally)
                    for series in by_symbol[symbol]:
                        await auditor.audit_rows(series, auditor.due_rows(series, audit.span, began_ms), audit.tally)
                    await absence.audit(by_symbol[symbol], audit.span, began_ms, audit.tally)
                    for series in by_symbol[symbol]:
                        for span in absence.due(series, audit.span, began_ms):
                            audit.leave_out(series, span, "recorded absent, and more such spans than are asked at once")
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


def _tally(tally: Tally) -> dict[str, object]:
    return {
        "compared": tally.compared,
        "mismatched": tally.mismatched,
        "rows_replaced": tally.mended,
        "disagreements": tally.disagreements,
        "findings": tally.findings,
    }
