"""What is wished is followed at once, after a restart too, and only if it is on the disk."""

from pathlib import Path

import pytest

from app.collecting import wished_feeds
from app.collecting.choosing import Request, Unwishable
from app.collecting.wish import WishFileError
from app.collecting.wished_feeds import NotYet
from app.collector_events import FeedsChanged
from tests.collecting.control import Stage, listed

BTC = Request(["BTC-USDT"], ["trade"])


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.begin()
    return stage


def test_the_settings_are_followed_where_they_are_listed(stage: Stage) -> None:
    assert stage.followed() == ["swap/BTC-USDT/trade", "swap/ETH-USDT/trade"]
    assert stage.followed("deribit") == ["swap/BTC-USD/trade", "swap/ETH-USD/trade"]
    assert stage.events[0] == FeedsChanged(
        "okx", "BTC-USDT,ETH-USDT", ("swap/BTC-USDT/trade", "swap/ETH-USDT/trade"), (), 2
    )
    assert stage.collector.wished.faults() == [], "what another exchange lists is no fault here"


async def test_requests_have_effect_at_once_and_after_a_restart(stage: Stage) -> None:
    done = await stage.collector.wished.follow("okx", Request(["SOL-USDT", "BTC-USDT"], ["trade", "kline.1m"]))
    assert [str(each) for each in done.added] == [
        "spot/SOL-USDT/kline.1m",
        "spot/SOL-USDT/trade",
        "swap/BTC-USDT/kline.1m",
    ]
    left = await stage.collector.wished.leave("okx", Request(["ETH-USDT"], ["trade"]))
    assert [str(each) for each in left.removed] == ["swap/ETH-USDT/trade"]
    expected = ["spot/SOL-USDT/kline.1m", "spot/SOL-USDT/trade", "swap/BTC-USDT/kline.1m", "swap/BTC-USDT/trade"]
    assert [str(each) for each in left.followed] == expected == stage.followed()
    stage.restart()
    assert stage.followed() == expected
    assert stage.followed("deribit") == ["swap/BTC-USD/trade", "swap/ETH-USD/trade"]


async def test_a_request_that_changes_nothing_writes_and_follows_nothing(stage: Stage) -> None:
    stage.control.asked.clear()
    done = await stage.collector.wished.follow("okx", BTC)
    assert (done.added, done.removed, stage.control.asked) == ((), (), [])
    assert not (stage.folder / "wish.json").exists()


async def test_a_request_with_a_fault_changes_nothing(stage: Stage) -> None:
    before = stage.followed()
    with pytest.raises(Unwishable):
        await stage.collector.wished.follow("okx", Request(["SOL-USDT", "NOPE-USDT"], ["trade"]))
    assert stage.followed() == before
    assert not (stage.folder / "wish.json").exists()


async def test_a_wish_that_cannot_be_written_changes_nothing(stage: Stage) -> None:
    (stage.folder / "wish.json.new").mkdir()
    with pytest.raises(NotYet, match=r"wish\.json: Is a directory; nothing changed"):
        await stage.collector.wished.leave("okx", BTC)
    assert "swap/BTC-USDT/trade" in stage.followed()
    (stage.folder / "wish.json.new").rmdir()
    await stage.collector.wished.leave("okx", BTC)
    assert "swap/BTC-USDT/trade" not in stage.followed()


async def test_until_its_list_was_read_an_exchange_changes_nothing(stage: Stage) -> None:
    kept, stage.control.listings["okx"] = stage.control.listings["okx"], []
    stage.restart()
    assert stage.followed() == []
    with pytest.raises(NotYet, match="The instruments of okx have not been read yet"):
        await stage.collector.wished.follow("okx", BTC)
    stage.control.listings["okx"] = kept
    stage.collector.wished.apply("okx")
    assert stage.followed() == ["swap/BTC-USDT/trade", "swap/ETH-USDT/trade"]


async def test_an_exchange_that_there_is_not_is_a_lookup_error(stage: Stage) -> None:
    with pytest.raises(LookupError):
        await stage.collector.wished.follow("binance", BTC)


async def test_what_is_wished_and_not_listed_is_a_fault_of_its_exchange(tmp_path: Path) -> None:
    stage = Stage(tmp_path, collect_symbols="BTC-USDT,NOPE-USDT,deribit:SOL-USD,okx:ETH-USDT,binance:X-USDT")
    stage.begin()
    await stage.collector.wished.follow("okx", Request(["SOL-USDT"], ["trade"]))
    faults = stage.collector.wished.faults()
    assert ("deribit", "deribit does not list NOPE-USDT, SOL-USD: correct the settings") in faults
    assert ("okx", "okx does not list NOPE-USDT: correct the settings") in faults
    stage.control.listings["okx"] = listed("okx", "BTC-USDT ETH-USDT NOPE-USDT")
    stage.collector.wished.apply("okx")
    assert stage.collector.wished.faults() == [
        ("okx", "okx does not list spot SOL-USDT, which a request wished: unsubscribe it"),
        ("deribit", "deribit does not list SOL-USD: correct the settings"),
    ]
    assert stage.followed() == ["swap/BTC-USDT/trade", "swap/ETH-USDT/trade", "swap/NOPE-USDT/trade"]
    await stage.collector.wished.leave("okx", Request(["SOL-USDT"], ["trade"]))
    assert len(stage.collector.wished.faults()) == 1


async def test_feeds_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wished_feeds, "FEEDS_MAX", 3)
    stage = Stage(tmp_path, collect_types="trade,ticker")
    stage.begin()
    assert len(stage.followed()) == 3
    assert (
        "okx",
        "okx: 4 feeds are wished, of which 3 are followed: wish fewer",
    ) in stage.collector.wished.faults()
    with pytest.raises(Unwishable, match="okx would have 5 feeds; there may be 3"):
        await stage.collector.wished.follow("okx", Request(["SOL-USDT"], ["trade"]))


@pytest.mark.parametrize("content", [b"garbage", None])
def test_a_file_that_cannot_be_used_ends_the_start(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        (tmp_path / "wish.json").mkdir()
    else:
        (tmp_path / "wish.json").write_bytes(content)
    with pytest.raises(WishFileError, match=r"wish\.json"):
        Stage(tmp_path)


@pytest.mark.parametrize(
    ("markets", "expected"),
    [("", ["swap/BTC-USDT/trade"]), ("spot,swap", ["spot/BTC-USDT/trade", "swap/BTC-USDT/trade"]), ("future", [])],
)
def test_markets_may_be_named_for_all_symbols(tmp_path: Path, markets: str, expected: list[str]) -> None:
    stage = Stage(tmp_path, collect_symbols="BTC-USDT", collect_markets=markets)
    stage.begin()
    assert stage.followed() == expected
