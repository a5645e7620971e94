"""Ledgers as lines of a table."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from app.domain.ledger import Entry, Ledger, Source
from app.domain.ledger_log import growth
from app.domain.span import Span

LEDGER_COLUMNS: Final = ("symbol", "interval", "start_ms", "end_ms", "source")
_SOURCES: Final = {source.value: source for source in Source}


class SeriesName(NamedTuple):
    """Series name and interval code, as in the ledger table; cheaper to hash than Series."""

    symbol: str
    code: str


class LedgerChanges(NamedTuple):
    """What turns the stored lines of a series into those of another ledger.

    `lines`, in the order of LEDGER_COLUMNS, are written first; then the lines that start at `gone_ms` are deleted.
    """

    lines: list[tuple[str, str, int, int, str]]
    gone_ms: list[int]


def ledger_of(lines: Iterable[tuple[str | int, str | int, str]]) -> Ledger:
    """The ledger of lines, ascending: start and end in ms, and source."""
    return Ledger(Entry(Span(int(start), int(end)), _SOURCES[source]) for start, end, source in lines)


def ledger_changes(name: SeriesName, before: Ledger, after: Ledger) -> LedgerChanges:
    """What turns the stored lines of `before` into those of `after`."""
    if growth(before, after) is not None:
        last = after.entries[-1]
        return LedgerChanges([(*name, *last.span, last.source.value)], [])
    changed = set(after.entries).difference(before.entries)
    starts_ms = {entry.span.start_ms for entry in set(before.entries).difference(after.entries)}
    gone_ms = starts_ms.difference(entry.span.start_ms for entry in changed)
    return LedgerChanges([(*name, *entry.span, entry.source.value) for entry in changed], sorted(gone_ms))
