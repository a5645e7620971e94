"""Every stream name of binance-facts section 5 is known, with its route; no other name is."""

import pytest

from app.binance.stream_name import NAME_CHARS_MAX, is_closing, parse

MARKET = """btcusdt@aggTrade btcusdt@markPrice btcusdt@markPrice@1s !markPrice@arr !markPrice@arr@1s btcusdt@kline_1m
btcusdt@kline_1M btcusdt_perpetual@continuousKline_15m btcusdt_current_quarter@continuousKline_1h btcusdt@miniTicker
!miniTicker@arr btcusdt@ticker !ticker@arr btcusdt@forceOrder !forceOrder@arr defiusdt@compositeIndex !contractInfo
!assetIndex@arr btcusd@assetIndex tradingSession 1000pepeusdt@kline_3d pBTCUSDT@kline_1m
iBTCUSDT@kline_1M ibtcusdt@kline_5m p1000PEPEUSDT@kline_1h i币安人生USDT@kline_1m btcusdt_perpetual@continuousKline_1s
xauusdt_tradifi_perpetual@continuousKline_1s btcusdt_260327@aggTrade 币安人生usdt@aggTrade"""
PUBLIC = """btcusdt@bookTicker !bookTicker btcusdt@depth5 btcusdt@depth10@100ms btcusdt@depth20@500ms btcusdt@depth
btcusdt@depth@100ms btcusdt@depth@500ms btcusdt@rpiDepth@500ms btcusdt@trade"""


@pytest.mark.parametrize(("route", "names"), [("market", MARKET), ("public", PUBLIC)])
def test_streams_have_their_route(route: str, names: str) -> None:
    for text in names.split():
        name = parse(text)
        assert name is not None, text
        assert (name.name, name.route) == (text, route)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@trade",
        "BTCUSDT@trade",
        "btcusdt@Trade",
        "btcusdt@kline_2m",
        "btcusdt@kline_",
        "btcusdt@depth6",
        "btcusdt@depth@1s",
        "btcusdt@rpiDepth",
        "btcusdt@markPrice@3s",
        "!markPrice",
        "!trade",
        "btc/usdt@trade",
        'btc"usdt@trade',
        "btc usdt@trade",
        "btcusdt@trade\n",
        "listenkey",
        "btcusdt@kline_1s",
        "pBTCUSDT@kline_1s",
        "pBtcUSDT@kline_1m",
        "PBTCUSDT@kline_1m",
        "mBTCUSDT@kline_1m",
        "iBTCUSDT@markPrice",
        "iBTCUSDT_PERPETUAL@continuousKline_1m",
        "btcuſdt@TRADE",
        "btcusdt@kline_１m",
        "btcusdt@depth２0",
        "x" * NAME_CHARS_MAX + "@trade",
    ],
)
def test_other_names_are_none(text: str) -> None:
    assert parse(text) is None


def test_a_name_says_symbol_interval_and_whether_newer_frames_replace_older_ones() -> None:
    kline, trade, depth, partial = (
        parse(f"btcusdt@{kind}") for kind in ("kline_1M", "aggTrade", "depth@100ms", "depth5@100ms")
    )
    assert kline
    assert trade
    assert depth
    assert partial
    assert (kline.symbol, kline.interval, kline.is_state) == ("BTCUSDT", "1M", True)
    assert (trade.is_state, depth.is_state, partial.is_state) == (False, False, True)
    assert (partial.kind, depth.kind) == ("partialDepth", "depth")


def test_the_closing_frame_of_a_kline_is_known_by_its_bytes() -> None:
    assert is_closing(b'{"e":"kline","k":{"n":1,"x":true,"q":"1"}}')
    assert not is_closing(b'{"e":"kline","k":{"n":1,"x":false,"q":"1"}}')


def test_what_is_no_ascii_letter_is_none_in_the_symbol_either() -> None:
    name = parse("btcuſdt@trade")
    assert name is not None
    assert name.symbol == "BTCUſDT"


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("btcusdt@kline_1m", ("BTCUSDT",)),
        ("iotausdt@kline_1m", ("IOTAUSDT", "OTAUSDT")),
        ("pbtcusdt@kline_1m", ("PBTCUSDT", "BTCUSDT")),
        ("pBTCUSDT@kline_1m", ("BTCUSDT",)),
        ("iBTCUSDT@kline_1d", ("BTCUSDT",)),
        ("pumpusdt@aggTrade", ("PUMPUSDT",)),
        ("xauusdt_tradifi_perpetual@continuousKline_1s", ("XAUUSDT",)),
        ("btcusdt_260327@aggTrade", ("BTCUSDT_260327",)),
        ("btcusd@assetIndex", ()),
        ("!markPrice@arr", ()),
    ],
)
def test_a_name_says_what_must_be_listed_for_it_to_exist(text: str, listed: tuple[str, ...]) -> None:
    name = parse(text)
    assert name is not None
    assert name.listed == listed


def test_what_no_kline_confirms_is_not_called_dead_early() -> None:
    seconds, minutes, price = (
        parse(f"{name}_{interval}")
        for name, interval in (
            ("btcusdt_perpetual@continuousKline", "1s"),
            ("btcusdt@kline", "1m"),
            ("pBTCUSDT@kline", "1m"),
        )
    )
    assert seconds
    assert minutes
    assert price
    assert (seconds.quiet_s, minutes.quiet_s, price.quiet_s) == (300, 75, 75)
    assert (price.kind, price.symbol, price.interval, price.is_state) == ("priceKline", "BTCUSDT", "1m", True)
