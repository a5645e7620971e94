"""Composition of what is answered from held klines alone, because it would ask the exchange for too much at once."""

from collections.abc import Sequence
from typing import NamedTuple

from app.domain.interval import M1, Grid
from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.node.parts import Parts
from app.ports.arrow import ArrowKlines
from app.querying.bars import Bars
from app.querying.batch import BatchKlines
from app.querying.in_progress import InProgress
from app.querying.prove import Prover
from app.querying.query import QueryService
from app.querying.read_through import ReadThrough
from app.querying.rolling_query import RollingKlines
from infra.exporting.arrow_bytes import ArrowBytes


class Bulk(NamedTuple):
    """The services of batches, rolling windows and bars."""

    batch: BatchKlines
    rolling: RollingKlines
    bars: Bars
    arrow: ArrowKlines


def bulk_of(parts: Parts) -> Bulk:
    """The services, on the copies and the store of `parts`, with a query service that never asks the exchange."""
    clock, copies, settings = parts.clock, parts.copies, parts.settings
    nothing = ReadThrough(clock, parts.rest, copies, parts.absence, _keeps_nothing, is_allowed=False)
    held = QueryService(
        clock,
        copies,
        parts.gatherer,
        Prover(clock, nothing, copies.ledgers, stale_ms_max=settings.read_stale_sec_max * 1000),
        InProgress(clock, nothing, copies.tail, copies.rolling, lambda series: parts.role.last_seen_ms(series)),
        parts.wish,
    )

    def wished() -> Sequence[str]:
        return [each.symbol for each in parts.wish().series() if each == Series(KLINES, each.symbol, M1)]

    rolling = RollingKlines(clock, copies.ledgers, copies.tail, held.answer, parts.wish)
    bars = Bars(clock, copies.ledgers, copies.tail, held.answer, parts.reader.revised)
    return Bulk(BatchKlines(clock, held, wished), rolling, bars, ArrowBytes())


async def _keeps_nothing(_series: Series, _grid: Grid, _span: Span, _rows: Sequence[Row]) -> None:
    """Nothing is fetched, so there is nothing to commit."""
