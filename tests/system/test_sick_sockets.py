"""With a socket that is silently dead or slow, no answer is older than the node promises."""

from pathlib import Path

import pytest

from app.domain.interval import MINUTE_MS
from app.events import KlineClosed, SocketHandedOver, SocketLost
from app.kinds.klines import LIVE_AGE_MS_MAX
from tests.system.world import World, world

LIVE = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1&only_final=false"
SLACK_MS = 5_000  # of the clock, 170 ms real: rendered pages, frames in the node's queue
WATCHED_MS = 150_000  # longer than it takes to detect any kind of sickness


def trades_at(here: World, open_ms: int, at_ms: int) -> int:
    """The number of trades at `at_ms` in the exchange's kline that opens at `open_ms`."""
    item = here.sandbox.exchange.universe.find("BTCUSDT", at_ms)
    assert item is not None
    return here.sandbox.exchange.market.candle_now(item, "1m", open_ms, at_ms).trades


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "half_open"},
        {"kind": "slow_socket", "delay_s": 60},
        {"kind": "slow_socket", "delay_s": 8},
        {"kind": "silence", "duration_s": 100},
        {"kind": "silence", "symbol": "BTCUSDT", "duration_s": 100},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('delay_s', fault.get('symbol', ''))}",
)
async def test_the_kline_in_progress_is_never_an_old_one(tmp_path: Path, fault: dict[str, object]) -> None:
    async with (
        world(tmp_path, speed=30.0, symbols=5) as here,
        here.node(backfill_days=1, intervals="1m,3m") as watched,
        watched.http() as client,
    ):
        await watched.until_whole()
        for _ in range(2):  # after a whole minute the node knows which streams are busy
            await watched.until(lambda event: isinstance(event, KlineClosed) and event.symbol == "BTCUSDT")
        here.sandbox.inject(**fault)
        end_ms = here.clock.now_ms() + WATCHED_MS
        answers = 0
        while (asked_ms := here.clock.now_ms()) < end_ms:
            answer = await client.get(LIVE)
            assert answer.status_code == 200
            row = answer.json()[-1]
            known_ms = asked_ms - LIVE_AGE_MS_MAX - SLACK_MS
            assert row[0] >= known_ms // MINUTE_MS * MINUTE_MS
            assert row[8] >= trades_at(here, row[0], min(max(known_ms, row[0]), row[0] + MINUTE_MS - 1))
            answers += 1
            await here.clock.sleep(1)
        assert answers > 20
        if fault["kind"] == "half_open":
            assert watched.count(SocketLost)
        if fault.get("delay_s") == 60:
            assert watched.count(SocketHandedOver)
        here.sandbox.faults.clear()
        await here.hold_whole(watched)
        assert await here.differing(watched) == []
