"""A comparison with the exchange that an operator requested: its progress and its result."""

from dataclasses import dataclass, field
from typing import Final

from app.domain.series import Series
from app.domain.span import Span
from app.verifying.audit import Tally

LEFT_OUT_MAX: Final = 100  # spans named in a report that an audit could not compare; all are counted


@dataclass(slots=True)
class Audit:
    """One requested comparison, with its progress and result; times in ms."""

    number: int
    series: tuple[Series, ...]
    span: Span
    asked_ms: int
    by_rows: bool = False
    """Whether every row is compared, and not the sums of whole days."""
    total: int = 0
    """The number of comparisons, as known when the audit began."""
    began_ms: int = 0
    """0 while it waits."""
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
            return "running" if self.began_ms else "waiting"
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
            "rows": self.by_rows,
            "asked": self.asked_ms,
            "ended": self.ended_ms,
            "total": self.total,
            "uncompared": self.left_out,
            "uncompared_total": self.left_out_total + self.tally.uncompared,
            "until": self.until_ms,
            **counts(self.tally),
        }


def counts(tally: Tally) -> dict[str, object]:
    """The counts and findings as GET /v1/verification shows them."""
    return {
        "compared": tally.compared,
        "mismatched": tally.mismatched,
        "rows_replaced": tally.mended,
        "disagreements": tally.disagreements,
        "findings": tally.findings,
    }
