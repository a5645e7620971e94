"""Which windows of metrics are answered from what is held, where rows are absent or unknown."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from app.domain.interval import DAY_MS, INTERVALS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.rest_forms import RestForms
from app.kinds.metrics import METRICS, REACH_MS
from app.ports.errors import UpstreamUnavailable
from app.querying.archived_rows import ByOrigin
from app.querying.statistics import Statistics, StatisticsQuery
from tests.fakes import DAY0_MS, NOW_MS, Rig, rig
from tests.querying.query_desk import Desk, TrustedClock

M5 = INTERVALS["5m"]
STEP_MS = M5.grid.step_ms
INTEREST = Series(METRICS["openInterestHist"], "BTCUSDT", M5)
OLD_MS = DAY0_MS - 60 * DAY_MS
"""A time that the exchange no longer has."""


class Held:
    """Rows of one series in a store, and questions about them."""

    def __init__(self, on: Rig, *, is_strict: bool) -> None:
        self._rig = on
        self.wished = Spans()
        self.statistics = Statistics(
            TrustedClock(Desk(on)),
            on.store,
            ByOrigin(on.store, RestForms(on.clock, on.store, on.observe, lambda symbol: None)),
            on.holdings,
            lambda _: self.wished,
            self._keep,
            lambda: True,
            is_retention_strict=is_strict,
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
async def holding(folder: Path, *, is_strict: bool = False) -> AsyncIterator[Held]:
    async with rig(folder) as on:
        yield Held(on, is_strict=is_strict)


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


async def test_the_last_page_backwards_ends_where_the_wish_begins(tmp_path: Path) -> None:
    async with holding(tmp_path) as held:
        held.wished = Spans([Span(OLD_MS, NOW_MS)])
        await held.commit(Source.ABSENT, Span(OLD_MS, OLD_MS + DAY_MS))
        await held.commit(Source.ARCHIVE, Span(OLD_MS + DAY_MS, OLD_MS + 2 * DAY_MS))
        first = [OLD_MS + DAY_MS + number * STEP_MS for number in range(3)]
        assert await held.opens_ms(None, first[-1] + STEP_MS, 500) == first
        assert await held.opens_ms(None, OLD_MS + DAY_MS, 500) == []
        assert await held.opens_ms(None, OLD_MS, 500) is None, "older than what is wished"
        assert await held.opens_ms(OLD_MS, first[-1] + STEP_MS, 500) is None, "the client asks for older ones"


async def test_the_begin_of_young_rows_is_the_exchanges_to_say(tmp_path: Path) -> None:
    async with holding(tmp_path) as held:
        begin_ms = M5.grid.floor(NOW_MS) - DAY_MS
        held.wished = Spans([Span(begin_ms, NOW_MS)])
        await held.commit(Source.REST, Span(begin_ms, begin_ms + 3 * STEP_MS))
        assert await held.opens_ms(None, begin_ms + 3 * STEP_MS, 3) is not None
        assert await held.opens_ms(None, begin_ms + 3 * STEP_MS, 4) is None


async def test_wished_rows_that_nobody_has_yet_are_not_left_out_in_silence(tmp_path: Path) -> None:
    """The exchange would answer such a question with the rows of its 30 days alone, however few they are."""
    for is_strict in (False, True):
        async with holding(tmp_path, is_strict=is_strict) as held:
            held.wished = Spans([Span(OLD_MS, NOW_MS)])
            reach_ms = M5.grid.ceil(NOW_MS - REACH_MS)
            across = (None, reach_ms + 4 * STEP_MS, 5)
            if is_strict:
                assert await held.opens_ms(*across) is None, "it is asked to answer as the exchange"
                continue
            with pytest.raises(UpstreamUnavailable, match="not held yet"):
                await held.opens_ms(*across)
            with pytest.raises(UpstreamUnavailable, match="not held yet"):
                await held.opens_ms(OLD_MS + DAY_MS, OLD_MS + 2 * DAY_MS, 5)
            assert await held.opens_ms(None, reach_ms + 4 * STEP_MS, 4) is None, "the exchange has them all"
            await held.commit(Source.ARCHIVE, Span(OLD_MS, reach_ms))
            assert await held.opens_ms(*across) is None
            held.wished = Spans([Span(reach_ms, NOW_MS)])
            assert await held.opens_ms(None, OLD_MS - DAY_MS, 5) is None, "not wished"
