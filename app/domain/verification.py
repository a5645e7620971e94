"""Which spans of a series were compared with the exchange's klines, and when."""

from collections.abc import Iterable
from typing import NamedTuple

from app.domain.span import Span, Spans


class Check(NamedTuple):
    """The rows that open in `span` were found equal to the exchange's at `at_ms`."""

    span: Span
    at_ms: int


class Verification:
    """The checks of one series: ascending, disjoint; adjacent ones differ in `at_ms`. Immutable."""

    __slots__ = ("checks", "spans")

    def __init__(self, checks: Iterable[Check] = ()) -> None:
        joined: list[Check] = []
        for check in sorted(checks):
            last = joined[-1] if joined else None
            assert last is None or last.span.end_ms <= check.span.start_ms, "checks of one series overlap"
            if last is not None and last.at_ms == check.at_ms and last.span.end_ms == check.span.start_ms:
                joined[-1] = Check(Span(last.span.start_ms, check.span.end_ms), check.at_ms)
            else:
                joined.append(check)
        self.checks = tuple(joined)
        self.spans = Spans(check.span for check in joined)

    @property
    def end_ms(self) -> int | None:
        """The end of the newest checked span; None when nothing was ever compared."""
        return self.checks[-1].span.end_ms if self.checks else None

    def since(self, at_ms: int) -> Spans:
        """The spans that were compared at `at_ms` or later."""
        return Spans(check.span for check in self.checks if check.at_ms >= at_ms)

    def without(self, spans: Spans) -> "Verification":
        """The checks without `spans`, whose rows have changed since."""
        return Verification(Check(span, check.at_ms) for check in self.checks for span in spans.complement(check.span))

    def record(self, spans: Spans, at_ms: int) -> "Verification":
        """The checks after `spans` were compared at `at_ms`."""
        return Verification((*self.without(spans).checks, *(Check(span, at_ms) for span in spans)))
