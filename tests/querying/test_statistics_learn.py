"""What is kept of the exchange's answers to clients' questions about metrics."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.binance.statistics_rows import TAKERS
from app.domain.interval import INTERVALS, MINUTE_MS, Grid
from app.domain.kind import Kind, Row
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.rest_forms import RestForms
from app.kinds.metrics import METRICS
from app.querying.archived_rows import ByOrigin
from app.querying.statistics import Statistics, StatisticsQuery
from tests.fakes import NOW_MS, rig
from tests.querying.query_desk import Desk, TrustedClock

M5 = INTERVALS["5m"]
FIRST_MS = M5.grid.floor(NOW_MS) - 15 * MINUTE_MS
OPENS = (FIRST_MS, FIRST_MS + 5 * MINUTE_MS)


@pytest.mark.parametrize("kind", [kind for name, kind in METRICS.items() if name != TAKERS])  # they state no symbol
async def test_nothing_is_kept_of_an_answer_with_a_row_of_another_symbol(tmp_path: Path, kind: Kind) -> None:
    series = Series(kind, "BTCUSDT", M5)
    kept: list[tuple[Span, Sequence[Row]]] = []

    async def keep(of: Series, grid: Grid, span: Span, rows: Sequence[Row]) -> None:
        assert of == series
        kept.append((span, rows))

    rows = [kind.row(open_ms, "1", "2", "3") for open_ms in OPENS]
    mine = [kind.finished(kind.encode(row, 0), "BTCUSDT") for row in rows]
    theirs = [kind.finished(kind.encode(row, 0), "ETHUSDT") for row in rows]
    query = StatisticsQuery(series, None, None, 30)
    async with rig(tmp_path) as on:
        statistics = Statistics(
            TrustedClock(Desk(on)),
            on.store,
            ByOrigin(on.store, RestForms(on.clock, on.store, on.observe, lambda symbol: None)),
            on.holdings,
            lambda _: Spans(),
            keep,
            lambda: True,
            is_retention_strict=False,
        )
        for answer in ((mine[0], theirs[1]), (theirs[0], mine[1]), theirs):
            await statistics.learn(query, b"[" + b",".join(answer) + b"]")
            assert not kept
        await statistics.learn(query, b"[" + b",".join(mine) + b"]")
        assert kept == [(Span(FIRST_MS, FIRST_MS + 10 * MINUTE_MS), rows)]
