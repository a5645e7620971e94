"""Which windows of metrics are answered from what is held, where rows are absent or unknown."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from app.domain.interval import DAY_MS, INTERVALS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.rest_forms import RestForms
from app.kinds.metrics import METRICS
from app.querying.archived_rows import ByOrigin
from app.querying.statistics import Statistics, StatisticsQuery
from tests.fakes import DAY0_MS, Rig, rig
from tests.querying.query_desk import Desk, TrustedClock

M5 = INTERVALS["5m"]
STEP_MS = M5.grid.step_ms
INTEREST = Series(METRICS["openInterestHist"], "BTCUSDT", M5)
OLD_MS = DAY0_MS - 60 * DAY_MS
"""A time that the exchange no longer has."""


class Held:
    """Rows of one series in a store, and questions about them."""

    def __init__(self, on: Rig) -> None:
        self._rig = on
        self.statistics = Statistics(
            TrustedClock(Desk(on)),
            on.store,
            ByOrigin(on.store, RestForms(on.clock, on.store, on.observe, lambda symbol: None)),
            on.holdings,
            lambda _: True,
            self._keep,
            lambda: True,
            is_retention_strict=False,
        )

    async def _keep(self, *_: object) -> None:
        raise AssertionError("the exchange is not asked")

    async def commit(self, source: Source, span: Span) -> None:
        rows = [INTEREST.kind.row(open_ms, "1", "2", "3") for open_ms in M5.grid.opens(*span)]
        batch = Batch(INTEREST, source, Spans([span]), [] if source is Source.ABSENT else rows)
        await self._rig.committer.commit([batch])

    async def opens_ms(self, start_ms: int | None, end_ms: int | None, limit: int) -> list[int] | None:
        """The open times of the rows of an answer; None if the exchange has to be asked."""
        answer = await self.statistics.held(StatisticsQuery(INTEREST, start_ms, end_ms, limit))
        if answer is None:
            return None
        return [row["timestamp"] - INTEREST.kind.rest.stamp_ms for row in orjson.loads(answer.body)]


@asynccontextmanager
async def holding(folder: Path) -> AsyncIterator[Held]:
    async with rig(folder) as on:
        yield Held(on)


async def test_absent_times_are_passed_over_however_long_they_are(tmp_path: Path) -> None:
    async with holding(tmp_path) as held:
        lacks = Span(OLD_MS, OLD_MS + 20 * DAY_MS)
        await held.commit(Source.ARCHIVE, Span(OLD_MS - DAY_MS, OLD_MS))
        await held.commit(Source.ABSENT, lacks)
        await held.commit(Source.ARCHIVE, Span(lacks.end_ms, lacks.end_ms + 3 * STEP_MS))
        last = [lacks.end_ms + number * STEP_MS for number in range(3)]
        before = [OLD_MS + number * STEP_MS for number in range(-7, 0)]
        end_ms = lacks.end_ms + 3 * STEP_MS
        assert await held.opens_ms(None, end_ms, 10) == [*before, *last]
        assert await held.opens_ms(OLD_MS - DAY_MS // 2, end_ms, 10) == [*before, *last]
        assert await held.opens_ms(None, lacks.end_ms - DAY_MS, 1) == before[-1:]
        assert await held.opens_ms(lacks.start_ms + 2 * STEP_MS, lacks.end_ms - DAY_MS, 5) == []
        assert await held.opens_ms(lacks.start_ms - STEP_MS, end_ms, 500) == [*before[-2:], *last]


async def test_an_answer_is_never_made_across_unknown_times(tmp_path: Path) -> None:
    async with holding(tmp_path) as held:
        await held.commit(Source.ARCHIVE, Span(OLD_MS, OLD_MS + DAY_MS))
        await held.commit(Source.ARCHIVE, Span(OLD_MS + DAY_MS + STEP_MS, OLD_MS + 2 * DAY_MS))
        assert await held.opens_ms(None, OLD_MS + 2 * DAY_MS, 287) is not None
        assert await held.opens_ms(None, OLD_MS + 2 * DAY_MS, 288) is None
        assert await held.opens_ms(OLD_MS, OLD_MS + 2 * DAY_MS, 500) is None
