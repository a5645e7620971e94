"""A symbol is listed and another delisted while the node runs."""

from pathlib import Path
from typing import Any

from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Programs, ShiftedClock, until

NEW = "FRESHUSDT"
GONE = "ETHUSDT"


async def test_listings_and_delistings_take_effect_without_a_restart(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=46), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"SYMBOL_SYNC_INTERVAL_SEC": "5"})
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        sandbox.inject(kind="list_symbol", symbol=NEW)
        sandbox.inject(kind="delist_symbol", symbol=GONE, in_s=3)

        async def coverage(symbol: str) -> list[dict[str, Any]]:
            answer = await place.get(f"/v1/coverage?symbol={symbol}")
            return answer.json()["series"] if answer.status_code == 200 else []

        async def new_is_wished() -> bool:
            return bool(await coverage(NEW)) and not await coverage(GONE)

        await until(new_is_wished, "one symbol came, the other went")

        async def new_is_served() -> bool:
            answer = await place.get(f"/fapi/v1/klines?symbol={NEW}&interval=1m&limit=5")
            return answer.status_code == 200 and len(answer.json()) >= 1

        await until(new_is_served, "a closed kline of the new symbol is served")
        rows = (await place.get(f"/fapi/v1/klines?symbol={NEW}&interval=1m&limit=5")).json()
        assert rows == sandbox.exchange.rows(NEW, "1m", rows[0][0], rows[-1][0] + 1)
        held = await place.get(f"/fapi/v1/klines?symbol={GONE}&interval=1m&limit=5&endTime={rows[0][0] - 3_600_000}")
        assert (held.status_code, len(held.json())) == (200, 5), "what is held of a delisted symbol is served"
        assert len(node.events("NodeStarted")) == 1
        assert not node.events("TaskEnded")
        messages = [entry.detail for entry in sandbox.journal.since(0) if entry.kind == "message"]
        assert any("UNSUBSCRIBE" in detail and GONE.lower() in detail for detail in messages)
        assert any('"SUBSCRIBE"' in detail and NEW.lower() in detail for detail in messages)
