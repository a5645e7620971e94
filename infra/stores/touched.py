"""Which open times a commit changed, for the journal that other processes follow."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from app.domain.series import Series
from app.domain.span import Span
from app.domain.store_rules import Batch
from app.ports.store import Committed

FIRST_SHIFT: Final = 12
"""A new database numbers changes from the time in ms << 12, above all numbers of one that it may have replaced."""


def touched(batches: Sequence[Batch], results: Sequence[Committed]) -> Iterator[tuple[Series, Span]]:
    """The series, and spans of open times, that `batches` changed, `results` being what came of each."""
    for batch, result in zip(batches, results, strict=True):
        if result.granted:
            yield batch.series, result.granted.hull
        for unheld in result.unheld:
            yield unheld.series, unheld.spans.hull


def hulls(changed: Iterable[tuple[Series, Span]]) -> dict[Series, Span]:
    """By series, in the order of their first change: the span from the first to the last of its `changed` times."""
    found: dict[Series, Span] = {}
    for series, span in changed:
        known = found.get(series, span)
        found[series] = Span(min(known.start_ms, span.start_ms), max(known.end_ms, span.end_ms))
    return found
