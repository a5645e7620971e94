"""A follower knows at its start what is held; when the writer ends, it writes and still knows that."""

from contextlib import AsyncExitStack
from pathlib import Path

from app.domain.interval import M1, MINUTE_MS
from app.domain.series import Series
from app.events import KlineClosed, LeaseChanged
from app.kinds.klines import KLINES
from tests.system.world import world

BTC = Series(KLINES, "BTCUSDT", M1)
PATH = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=500"


async def test_a_follower_has_looked_before_it_is_asked(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=2) as made, made.node(intervals="1m,5m") as writer:
        await made.hold_whole(writer)  # no look grows old, and nothing is written, while the follower starts
        async with made.node(intervals="1m,5m") as other:
            assert other.node.writer is None
            assert other.node.parts.query.listed("btcusdt") == "BTCUSDT"
            assert other.node.parts.holdings.ledger(BTC).held == writer.node.parts.holdings.ledger(BTC).held
            assert other.node.parts.role.are_copies_current()


async def test_who_takes_over_is_as_warm_as_it_was_and_has_missed_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=2) as made, AsyncExitStack() as first:
        writer = await first.enter_async_context(made.node(intervals="1m,5m"))
        await writer.until_whole()
        async with made.node(intervals="1m,5m") as other, other.http() as client:
            assert other.node.writer is None
            (await client.get(PATH)).raise_for_status()
            warm = other.node.parts.tail.kept(BTC)
            assert warm is not None
            assert len(warm.rows) >= 500
            end_ms = warm.end_ms
            await first.aclose()
            await other.until(lambda event: isinstance(event, LeaseChanged) and event.is_writer)
            await other.until(lambda event: isinstance(event, KlineClosed) and event.symbol == BTC.symbol)
            made.clock.hold()
            assert other.node.parts.tail.kept(BTC) is warm
            assert warm.end_ms > end_ms
            rows = made.truth(BTC, warm.end_ms - 500 * MINUTE_MS, warm.end_ms)
            answer = await client.get(f"{PATH}&endTime={warm.end_ms - 1}")
            assert answer.content == rows
