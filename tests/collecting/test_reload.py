"""What is to be collected changes while the collector runs; what has a fault changes nothing."""

import asyncio
from pathlib import Path

import pytest

from app.collecting.choosing import Request
from app.collecting.reload import LOOK_EVERY_S
from app.collector_events import CollectConfigRead, CollectConfigRefused, FeedsChanged, RestartNeeded
from app.events import Event
from tests.collecting.control import NATS, Stage
from tests.patience import PATIENCE_S

FILE = "exchanges:\n  okx:\n    BTC-USDT: [trade]\n  deribit: {}\n"


class Filed(Stage):
    """A stage whose settings name a file."""

    def __init__(self, folder: Path, text: str = FILE) -> None:
        self.path = folder / "services.yaml"
        self.path.write_text(text)
        super().__init__(folder, collect_config=str(self.path))
        self.begin()
        self.events.clear()

    def write(self, text: str) -> None:
        """Replace the file as an editor does, which gives it another inode."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def others(self) -> list[Event]:
        return [event for event in self.events if not isinstance(event, FeedsChanged)]


@pytest.fixture
def filed(tmp_path: Path) -> Filed:
    return Filed(tmp_path)


async def test_a_file_that_has_changed_is_in_force_at_the_next_look(filed: Filed) -> None:
    assert filed.followed() == ["swap/BTC-USDT/trade"]
    await filed.collector.config.look()
    assert filed.events == [], "nothing has changed"
    filed.write("exchanges:\n  okx:\n    ETH-USDT: [trade, ticker]\n")
    await filed.collector.config.look()
    assert filed.followed() == ["swap/ETH-USDT/ticker", "swap/ETH-USDT/trade"]
    assert filed.others() == [CollectConfigRead(("okx", "deribit"), 2)]
    filed.events.clear()
    await filed.collector.config.look()
    assert filed.events == []


async def test_a_broken_file_changes_nothing_and_is_reported_with_its_line_once(filed: Filed) -> None:
    filed.write(FILE.replace("trade", "depth"))
    for _ in range(3):
        await filed.collector.config.look()
    [event] = filed.events
    assert isinstance(event, CollectConfigRefused)
    assert "services.yaml: line 3: 'depth' is no type of data" in event.reason
    assert filed.followed() == ["swap/BTC-USDT/trade"]
    assert "line 3" in (filed.collector.config.trouble or "")
    assert any("line 3" in reason for reason in filed.collector.health.reasons())
    filed.write(FILE)
    await filed.collector.config.look()
    assert filed.collector.config.trouble is None
    filed.path.unlink()
    await filed.collector.config.look()
    assert "cannot be read" in str(filed.collector.config.trouble)
    assert filed.followed() == ["swap/BTC-USDT/trade"]


async def test_a_signal_reads_again_and_says_so_though_nothing_has_changed(filed: Filed) -> None:
    filed.collector.config.ask()
    await filed.collector.config.look()
    await filed.collector.config.look()
    assert filed.events == [CollectConfigRead(("okx", "deribit"), 1)]


async def test_what_cannot_change_live_is_named_and_the_rest_is_in_force(filed: Filed) -> None:
    filed.values |= {"nats_url": "nats://other:secret@host:4222", "okx_ws_url": "wss://okx.example", "exchanges": "okx"}
    filed.write("exchanges:\n  okx:\n    ETH-USDT: [trade]\n")
    await filed.collector.config.look()
    [needed] = [event for event in filed.events if isinstance(event, RestartNeeded)]
    assert sorted(needed.settings) == ["EXCHANGES", "NATS_URL", "OKX_WS_URL"]
    assert filed.followed() == ["swap/ETH-USDT/trade"]
    filed.events.clear()
    filed.write("exchanges:\n  okx:\n    BTC-USDT: [trade]\n")
    await filed.collector.config.look()
    assert filed.others() == [CollectConfigRead(("okx", "deribit"), 1)], "the same names are said once"
    filed.collector.config.ask()
    await filed.collector.config.look()
    assert isinstance(filed.events[-2], RestartNeeded), "and again when somebody asks"


async def test_the_file_that_is_read_is_the_one_that_was_named_at_the_start(filed: Filed) -> None:
    other = filed.folder / "other.yaml"
    other.write_text("exchanges:\n  okx:\n    SOL-USDT: [trade]\n")
    filed.values["collect_config"] = str(other)
    filed.collector.config.ask()
    await filed.collector.config.look()
    assert filed.events == [RestartNeeded(("COLLECT_CONFIG",)), CollectConfigRead(("okx", "deribit"), 1)]
    assert filed.followed() == ["swap/BTC-USDT/trade"]


async def test_settings_that_cannot_be_used_change_nothing(filed: Filed) -> None:
    filed.values["trade_batch_max"] = 0
    filed.collector.config.ask()
    await filed.collector.config.look()
    [event] = filed.events
    assert isinstance(event, CollectConfigRefused)
    assert "TRADE_BATCH_MAX" in event.reason


async def test_what_requests_have_changed_stays_when_the_settings_change(filed: Filed) -> None:
    await filed.collector.wished.follow("okx", Request(["SOL-USDT"], ["trade"]))
    await filed.collector.wished.leave("okx", Request(["BTC-USDT"], ["trade"]))
    filed.write("exchanges:\n  okx:\n    BTC-USDT: [trade, ticker]\n")
    await filed.collector.config.look()
    assert filed.followed() == ["spot/SOL-USDT/trade", "swap/BTC-USDT/ticker"]


async def test_without_a_file_a_signal_reads_the_settings(tmp_path: Path) -> None:
    stage = Stage(tmp_path, nats_url=NATS)
    stage.begin()
    stage.values |= {"collect_symbols": "SOL-USDT", "collect_markets": "spot"}
    await stage.collector.config.look()
    assert stage.followed() == ["swap/BTC-USDT/trade", "swap/ETH-USDT/trade"]
    stage.collector.config.ask()
    await stage.collector.config.look()
    assert stage.followed() == ["spot/SOL-USDT/trade"]


async def test_a_collector_looks_every_second(filed: Filed) -> None:
    async def settle() -> None:
        await asyncio.to_thread(lambda: None)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(filed.collector.config.run())
        filed.write("exchanges:\n  okx:\n    ETH-USDT: [trade]\n")
        while filed.followed() != ["swap/ETH-USDT/trade"]:
            await filed.clock.advance(LOOK_EVERY_S, settle)
        watch.cancel()
