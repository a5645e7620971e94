"""What becomes of ledgers when another coin takes over a symbol, and which listings other processes must know."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from app.domain.interval import Interval
from app.domain.ledger import Entry, Ledger, Source
from app.domain.listing import Listing
from app.domain.span import Span
from app.ports.store import EVERYTHING

LISTING_COLUMNS: Final = (
    "symbol",
    "onboard_ms",
    "delivery_ms",
    "price_precision",
    "quantity_precision",
    "since_ms",
    "is_doubted",
)
FORMER_LISTING_COLUMNS: Final = ("symbol", "until_ms", *LISTING_COLUMNS[1:5])


def ledger_after(before: Ledger, interval: Interval, first_ms: int, *, keeps: bool) -> Ledger:
    """The new listing's ledger: absent before its first kline, unknown where a kline spans both listings."""
    entries = []
    if not interval.needs_anchor and (start_ms := interval.grid.floor(first_ms)):
        entries.append(Entry(Span(0, start_ms), Source.ABSENT))
    if keeps:
        window = Span(interval.grid.ceil(first_ms), EVERYTHING.end_ms)
        clipped = (Entry(entry.span.clip(window), entry.source) for entry in before.entries)
        entries.extend(entry for entry in clipped if entry.span)
    return Ledger(entries)


def former_entries(before: Ledger, end_ms: int) -> Iterator[Entry]:
    """The entries of the former listing's rows, which open before `end_ms`."""
    window = Span(0, end_ms)
    for entry in before.entries:
        if entry.source is not Source.ABSENT and (span := entry.span.clip(window)):
            yield Entry(span, entry.source)


def told_symbols(before: Mapping[str, Listing], listings: Iterable[Listing]) -> Iterator[str]:
    """The symbols of `listings` whose start or doubt differs from that of the listing stored `before`."""
    for each in listings:
        old = before.get(each.symbol)
        is_other = _is_special(each) != (old is not None and _is_special(old))
        if is_other or (old is not None and (old.since_ms, old.onboard_ms) != (each.since_ms, each.onboard_ms)):
            yield each.symbol


def _is_special(listing: Listing) -> bool:
    return listing.is_doubted or listing.since_ms > 0
