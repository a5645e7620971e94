"""The kline in progress made of closed minutes: which rows it needs, and its roll-up. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.domain.interval import D1, M1, Grid
from app.domain.ledger import Ledger
from app.domain.rollup import Bucket
from app.domain.series import Series
from app.domain.span import Span

LedgerOf = Callable[[Series], Ledger]


def rolls_up(series: Series) -> bool:
    """Whether a series has klines in progress made of minutes."""
    return series.kind.rolls_up and series.interval is not M1


def parts_of(series: Series, span: Span, ledger_of: LedgerOf) -> dict[Series, Span]:
    """By series: the rows of which the kline is made that opened with `span` and is in progress at its end.

    They are its minutes. Of a kline longer than a day the whole days are 1d rows where those are held: they are made of
    the same minutes, of which a month has 44,640.
    """
    today_ms = D1.grid.floor(span.end_ms)
    days = Span(span.start_ms, today_ms)
    if series.interval.grid.step_ms <= D1.grid.step_ms or not days or not ledger_of(series.of(D1)).known.covers(days):
        return {series.of(M1): span} if span else {}
    minutes = Span(today_ms, span.end_ms)
    return {series.of(D1): days} | ({series.of(M1): minutes} if minutes else {})


def rolled(
    begun: Bucket, end_ms: int, parts: Mapping[Series, Span], rows: Mapping[Series, Sequence[Any]], ledger_of: LedgerOf
) -> Bucket | None:
    """`begun` with `parts` added, which reach up to `end_ms` and whose rows are in `rows`.

    None if one of their rows is neither there nor proven absent.
    """
    bucket = begun.copy()
    for part, wanted in sorted(parts.items(), key=lambda item: item[1]):
        found = [row for row in rows.get(part, ()) if wanted.start_ms <= row.open_ms < wanted.end_ms]
        if not is_whole([row.open_ms for row in found], wanted, part.interval.grid, ledger_of(part)):
            return None
        for row in found:
            bucket.add(row)
    bucket.next_ms = end_ms
    return bucket


def is_whole(opens_ms: Sequence[int], span: Span, grid: Grid, ledger: Ledger) -> bool:
    """Whether each open time of `span` is one of `opens_ms`, or proven absent."""
    if len(opens_ms) == grid.count(*span):
        return True
    lacking = set(grid.opens(*span)).difference(opens_ms)
    return all(ledger.absent.span_at(open_ms) is not None for open_ms in lacking)
