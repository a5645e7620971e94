"""All commits take one path to the store: which batches go first."""

import asyncio
from pathlib import Path

import pytest

from app.domain.interval import INTERVALS, MINUTE_MS
from app.domain.kline import Precision
from app.domain.ledger import Source
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from tests.fakes import BTC, DAY0_MS, minute, rig


def batch(number: int) -> list[Batch]:
    open_ms = DAY0_MS + number * MINUTE_MS
    return [Batch(BTC, Source.REST, Spans([Span(open_ms, open_ms + MINUTE_MS)]), [minute("BTCUSDT", open_ms)])]


async def test_klines_that_just_closed_wait_for_one_commit_of_history_at_most(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(made.committer.commit(batch(number)))
            tasks.create_task(made.committer.commit_first(batch(5)))
        written = [(each.rows[0].open_ms - DAY0_MS) // MINUTE_MS for (each,) in made.store.commits]
        assert written == [0, 5, 1, 2, 3, 4]
        assert await made.stored() == [minute("BTCUSDT", DAY0_MS + number * MINUTE_MS) for number in range(6)]


@pytest.mark.parametrize("code", ["5m", "1M"])
@pytest.mark.parametrize("is_relisting_refuted", [True, False])
async def test_absence_that_was_made_of_absent_minutes_does_not_outlive_them(
    tmp_path: Path, code: str, *, is_relisting_refuted: bool
) -> None:
    longer, before = Series(KLINES, "BTCUSDT", INTERVALS[code]), Spans([Span(0, INTERVALS[code].grid.floor(DAY0_MS))])
    async with rig(tmp_path) as made:
        await made.committer.commit([Batch(BTC, Source.ABSENT, before, [])])
        as_of = made.committer.epoch
        if is_relisting_refuted:
            await made.committer.unlist(Listing("BTCUSDT", 0, 0, Precision(2, 3)), DAY0_MS)
        else:
            await made.committer.commit([Batch(BTC, Source.ABSENT, before, [], withdraws=True)])
        await made.committer.commit([Batch(longer, Source.ABSENT, before, [], as_of)])
        assert not made.holdings.ledger(longer).known
        await made.committer.commit([Batch(longer, Source.ABSENT, before, [], made.committer.epoch)])
        assert made.holdings.ledger(longer).absent == before
