"""A symbol is listed, and the delivery of another is announced, while the node runs."""

from pathlib import Path
from typing import Any

from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Programs, ShiftedClock, until

NEW = "FRESHUSDT"
GONE = "ETHUSDT"


async def test_a_listing_takes_effect_without_a_restart_and_an_announced_delivery_changes_nothing_yet(
    tmp_path: Path,
) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=46), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"SYMBOL_SYNC_INTERVAL_SEC": "5"})
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        sandbox.inject(kind="list_symbol", symbol=NEW)
        sandbox.inject(kind="delist_symbol", symbol=GONE, in_s=3_600)

        async def coverage(symbol: str) -> list[dict[str, Any]]:
            answer = await place.get(f"/v1/coverage?symbol={symbol}")
            return answer.json()["series"] if answer.status_code == 200 else []

        async def new_is_wished() -> bool:
            return bool(await coverage(NEW))

        await until(new_is_wished, "the new symbol is wished")

        async def new_is_served() -> bool:
            answer = await place.get(f"/fapi/v1/klines?symbol={NEW}&interval=1m&limit=5")
            return answer.status_code == 200 and len(answer.json()) >= 1

        await until(new_is_served, "a closed kline of the new symbol is served")
        rows = (await place.get(f"/fapi/v1/klines?symbol={NEW}&interval=1m&limit=5")).json()
        assert rows == sandbox.exchange.rows(NEW, "1m", rows[0][0], rows[-1][0] + 1)
        assert await coverage(GONE), "it trades until its delivery"
        assert len(node.events("NodeStarted")) == 1
        assert not node.events("TaskEnded")
        messages = [entry.detail for entry in sandbox.journal.since(0) if entry.kind == "message"]
        assert any('"SUBSCRIBE"' in detail and NEW.lower() in detail for detail in messages)
