"""What a request names becomes feeds, or one error with every fault."""

from collections.abc import Sequence

import pytest

from app.collecting.choosing import SYMBOLS_MAX, Listing, Request, Unwishable, configured, to_follow, to_leave
from app.collecting.wish import Item
from app.domain.choice import Choice, FeedType
from app.domain.instrument import Market
from app.domain.records import DataType, Feed
from tests.collecting.control import FakeControl, instrument

CONTROL = FakeControl()
OKX = Listing("okx", CONTROL.instruments("okx"), CONTROL.offers)
TRADE, FUNDING = FeedType(DataType.TRADE), FeedType(DataType.FUNDING_RATE)
DAYS3 = FeedType(DataType.KLINE, "3d")


def texts(request: Request) -> list[str]:
    return sorted(map(str, to_follow(OKX, request)))


def faults_of(symbols: Sequence[str], data_types: Sequence[str], market: str | None = None) -> tuple[str, ...]:
    with pytest.raises(Unwishable) as caught:
        to_follow(OKX, Request(symbols, data_types, market))
    assert str(caught.value) == "; ".join(caught.value.faults)
    return caught.value.faults


def test_the_swap_is_meant_or_spot_where_there_is_none_and_dated_futures_by_their_symbol() -> None:
    found = texts(Request(["BTC-USDT", "sol-usdt", "BTC-USD-261225"], ["trade", "kline.1M"]))
    assert found == [
        "future/BTC-USD-261225/kline.1M",
        "future/BTC-USD-261225/trade",
        "spot/SOL-USDT/kline.1M",
        "spot/SOL-USDT/trade",
        "swap/BTC-USDT/kline.1M",
        "swap/BTC-USDT/trade",
    ]
    assert texts(Request(["BTC-USDT"], ["trade"], "spot")) == ["spot/BTC-USDT/trade"]


def test_an_item_is_a_feed_of_its_instrument() -> None:
    item = Item(Market.SPOT, "BTC-USDT", FeedType(DataType.KLINE, "1m"))
    assert OKX.feed(item) == Feed(instrument("okx", Market.SPOT, "BTC-USDT"), DataType.KLINE, "1m")
    assert OKX.feed(item._replace(market=Market.FUTURE)) is None


def test_all_faults_are_told_at_once() -> None:
    faults = faults_of(
        ["BTC-USTD", "BTCUSDT", "ETH USDT", "SOL-USDT", "BTC-USDT"], ["trade", "depth", "kline.7m"], "swap"
    )
    assert faults[0].startswith("'ETH USDT' is no symbol")
    assert faults[1].startswith("'depth' is no type of data; there are trade, orderbook")
    assert faults[2].startswith("'7m' is no interval of klines")
    assert faults[3] == "okx lists no BTC-USTD; is BTC-USD or BTC-USDT or BTC-USD-261225 meant?"
    assert faults[4] == "okx lists no BTCUSDT; is BTC-USDT meant?"
    assert faults[5] == "okx has SOL-USDT in no swap market"
    assert len(faults) == 6


def test_what_a_market_does_not_have_is_a_fault() -> None:
    assert faults_of(["BTC-USDT"], ["funding_rate"], "spot") == ("a spot market has no funding_rate: BTC-USDT",)
    assert faults_of(["BTC-USDT"], ["kline.3d"]) == ("okx has no kline.3d of swap BTC-USDT",)
    assert faults_of(["BTC-USDT"], ["trade"], "margin") == ("'margin' is no market; there are spot, swap, future",)


@pytest.mark.parametrize(
    ("symbols", "data_types", "fault"),
    [
        ([], ["trade"], "symbols names 0; name 1 to 1000 at a time"),
        (["BTC-USDT"], [], "data_types names 0; name 1 to 32 at a time"),
        (["BTC-USDT"] * (SYMBOLS_MAX + 1), ["trade"], "symbols names 1001; name 1 to 1000 at a time"),
    ],
)
def test_a_request_names_something_and_not_too_much(symbols: list[str], data_types: list[str], fault: str) -> None:
    assert faults_of(symbols, data_types) == (fault,)


def test_what_is_left_is_what_is_followed_in_every_market_even_if_it_is_no_longer_listed() -> None:
    spot, swap = (Item(market, "BTC-USDT", TRADE) for market in (Market.SPOT, Market.SWAP))
    gone = Item(Market.SWAP, "GONE-USDT", TRADE)
    wished = {spot, swap, gone, swap._replace(type=FUNDING)}
    assert to_leave(OKX, Request(["BTC-USDT", "ETH-USDT"], ["trade"]), wished) == {spot, swap}
    assert to_leave(OKX, Request(["BTC-USDT"], ["trade"], "spot"), wished) == {spot}
    assert to_leave(OKX, Request(["gone-usdt"], ["trade"]), wished) == {gone}
    with pytest.raises(Unwishable, match="okx lists no BTCUSDT; is BTC-USDT meant"):
        to_leave(OKX, Request(["BTCUSDT"], ["trade"]), wished)


def test_of_the_settings_what_is_there_is_followed() -> None:
    choices = [
        Choice("BTC-USDT", None, (TRADE, FUNDING), is_own=False),
        Choice("SOL-USDT", None, (TRADE, FUNDING), is_own=False),
        Choice("ETH-USDT", Market.SPOT, (TRADE, DAYS3), is_own=True),
        Choice("ADA-USDT", None, (TRADE,), is_own=False),
    ]
    found = configured(OKX, choices)
    assert sorted(map(str, found.items)) == [
        "spot/ETH-USDT/trade",
        "spot/SOL-USDT/trade",
        "swap/BTC-USDT/funding_rate",
        "swap/BTC-USDT/trade",
    ]
    assert found.unlisted == (choices[3],)
    assert found.refused == ("okx has no kline.3d of spot ETH-USDT",), "for what was named for this exchange alone"
