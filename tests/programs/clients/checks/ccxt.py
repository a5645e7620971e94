"""Checks of blocking ccxt: markets, klines over ranges and pages, tickers, book, trades, funding, open interest."""

from decimal import Decimal
from typing import Any

from tests.programs.clients.raw import Raw, floats, levels

MINUTE_MS = 60_000
STEP_MS = 5 * MINUTE_MS
DAY_MS = 1_440 * MINUTE_MS
HISTORY_DAYS = 90  # the exchange itself has open interest and ratios of 30 days
PAGE = 500
BTC, ID = "BTC/USDT:USDT", "BTCUSDT"
TICKER = {
    "last": "lastPrice",
    "open": "openPrice",
    "high": "highPrice",
    "low": "lowPrice",
    "change": "priceChange",
    "baseVolume": "volume",
    "quoteVolume": "quoteVolume",
}


def check(page: dict[str, Any], raw: Raw) -> None:
    """Compare what the page's client received with the node's own answers."""
    exchange = page["new_exchange"]()
    markets(exchange, raw)
    klines(exchange, raw)
    prices(exchange, raw)
    funding(exchange, raw)
    history(exchange, raw)
    beyond_ms = raw.get("/fapi/v1/time")["serverTime"] - (HISTORY_DAYS + 5) * DAY_MS
    try:
        exchange.fetch_open_interest_history(BTC, "5m", since=beyond_ms, limit=PAGE)
    except page["ccxt"].BadRequest as error:
        refused = str(error)
    assert "-1130" in refused, "what nobody has is refused as by the exchange"
    try:
        exchange.fapiPublicGetKlines({"symbol": "NOSUCHSYMBOL", "interval": "1m"})
    except page["ccxt"].BadSymbol:
        return
    raise AssertionError("an unknown symbol is a BadSymbol")


def markets(exchange: Any, raw: Raw) -> None:
    found = {market["id"]: market for market in exchange.load_markets().values() if market["swap"]}
    listed = raw.get("/fapi/v1/exchangeInfo")["symbols"]
    perpetual = {each["symbol"]: each for each in listed if each["contractType"] in {"PERPETUAL", "TRADIFI_PERPETUAL"}}
    assert found.keys() == perpetual.keys()
    for name, each in perpetual.items():
        ticks = {item["filterType"]: item for item in each["filters"]}
        assert Decimal(str(found[name]["precision"]["price"])) == Decimal(ticks["PRICE_FILTER"]["tickSize"])
        assert Decimal(str(found[name]["precision"]["amount"])) == Decimal(ticks["LOT_SIZE"]["stepSize"])
        assert found[name]["active"] == (each["status"] == "TRADING")


def klines(exchange: Any, raw: Raw) -> None:
    for interval in ("1m", "5m", "1h"):
        closed = raw.closed(ID, interval, 6)
        since = closed[0][0]
        assert exchange.fetch_ohlcv(BTC, interval, since=since, limit=6) == [floats(row) for row in closed]
    closed = raw.closed(ID, "1m", 700)
    paged: list[Any] = []
    while len(paged) < len(closed):
        paged += exchange.fetch_ohlcv(BTC, "1m", since=closed[len(paged)][0], limit=min(250, 700 - len(paged)))
    assert paged == [floats(row) for row in closed]
    until = {"until": closed[-1][0], "paginate": True}
    assert exchange.fetch_ohlcv(BTC, "1m", since=closed[200][0], params=until) == [floats(row) for row in closed[200:]]
    rows, mine = raw.still("/fapi/v1/klines", lambda: exchange.fetch_ohlcv(BTC, "1m", limit=3), symbol=ID,
                           interval="1m", limit=3)  # fmt: skip
    assert mine == [floats(row) for row in rows]
    now_ms = raw.get("/fapi/v1/time")["serverTime"]
    assert now_ms - mine[-1][0] < MINUTE_MS + 5_000, "the kline in progress comes last"


def prices(exchange: Any, raw: Raw) -> None:
    row, ticker = raw.still("/fapi/v1/ticker/24hr", lambda: exchange.fetch_ticker(BTC), symbol=ID)
    for name, field in TICKER.items():
        assert ticker[name] == float(row[field]), (name, ticker, row)
    tickers = exchange.fetch_tickers()
    assert tickers.keys() >= {BTC, "ETH/USDT:USDT"}
    book, mine = raw.still("/fapi/v1/depth", lambda: exchange.fetch_order_book(BTC, limit=20), symbol=ID, limit=20)
    assert (mine["bids"], mine["asks"]) == (levels(book["bids"]), levels(book["asks"]))
    assert mine["nonce"] == book["lastUpdateId"]
    best = exchange.fetch_bids_asks([BTC])[BTC]
    assert best["bid"] < best["ask"]
    newest = {str(each["a"]): each for each in raw.get("/fapi/v1/aggTrades", symbol=ID, limit=1000)}
    trades = [each for each in exchange.fetch_trades(BTC, limit=100) if each["id"] in newest]
    assert trades
    assert all(each["price"] == float(newest[each["id"]]["p"]) for each in trades)
    interest = exchange.fetch_open_interest(BTC)
    assert interest["openInterestAmount"] > 0


def funding(exchange: Any, raw: Raw) -> None:
    row = raw.get("/fapi/v1/premiumIndex", symbol=ID)
    mine = exchange.fetch_funding_rate(BTC)
    assert mine["fundingRate"] == float(row["lastFundingRate"])
    assert mine["fundingTimestamp"] == row["nextFundingTime"]
    events = raw.get("/fapi/v1/fundingRate", symbol=ID, limit=50)
    history = exchange.fetch_funding_rate_history(BTC, since=events[0]["fundingTime"], limit=50)
    assert [(each["timestamp"], each["fundingRate"]) for each in history] == [
        (each["fundingTime"], float(each["fundingRate"])) for each in events
    ]
    assert BTC in exchange.fetch_funding_rates()
    rows = raw.get("/fapi/v1/markPriceKlines", symbol=ID, interval="1m", limit=6)[:-1]
    marks = exchange.fetch_mark_ohlcv(BTC, "1m", since=rows[0][0], limit=5)
    assert [each[:5] for each in marks] == [floats(row)[:5] for row in rows]
    indices = raw.get("/fapi/v1/indexPriceKlines", pair=ID, interval="1m", limit=6)[:-1]
    mine = exchange.fetch_index_ohlcv(BTC, "1m", since=indices[0][0], limit=5)
    assert [each[:5] for each in mine] == [floats(row)[:5] for row in indices]
    hourly = raw.get("/futures/data/openInterestHist", symbol=ID, period="1h", limit=5)
    history = exchange.fetch_open_interest_history(BTC, "1h", limit=5)
    assert [each["timestamp"] for each in history] == [each["timestamp"] for each in hourly]


def history(exchange: Any, raw: Raw) -> None:
    """Page through open interest, ratios and fundings of HISTORY_DAYS, and compare each page with the node's rows."""
    now_ms = raw.get("/fapi/v1/time")["serverTime"]
    first_ms, last_ms = now_ms - (HISTORY_DAYS - 1) * DAY_MS, now_ms - 2 * 60 * MINUTE_MS
    interests: list[Any] = []
    ratios: list[Any] = []
    since = first_ms // STEP_MS * STEP_MS
    while since < last_ms:
        window = {"symbol": ID, "period": "5m", "limit": PAGE, "startTime": since, "endTime": since + PAGE * STEP_MS}
        rows = raw.get("/futures/data/openInterestHist", **window)
        mine = exchange.fetch_open_interest_history(BTC, "5m", since=since, limit=PAGE)
        assert [each["openInterestAmount"] for each in mine] == [float(row["sumOpenInterest"]) for row in rows]
        interests += mine
        rows = raw.get("/futures/data/globalLongShortAccountRatio", **window)
        until = {"until": window["endTime"]}
        mine = exchange.fetch_long_short_ratio_history(BTC, "5m", since=since, limit=PAGE, params=until)
        assert [each["longShortRatio"] for each in mine] == [float(row["longShortRatio"]) for row in rows]
        ratios += mine
        since = mine[-1]["timestamp"] + 1
    for found in (interests, ratios):
        times = [each["timestamp"] for each in found]
        assert times == list(range(times[0], times[-1] + 1, STEP_MS)), "no step lacks, also at the 30-day edge"
        assert len(times) > (HISTORY_DAYS - 2) * DAY_MS // STEP_MS
    events: list[Any] = []
    since = first_ms
    while since < last_ms and (mine := exchange.fetch_funding_rate_history(BTC, since=since, limit=100)):
        events += mine
        since = mine[-1]["timestamp"] + 1
    told = raw.get("/fapi/v1/fundingRate", symbol=ID, startTime=first_ms, limit=1000)
    known = [(each["fundingTime"], float(each["fundingRate"])) for each in told]
    assert [(each["timestamp"], each["fundingRate"]) for each in events] == known
    assert len(events) >= 3 * (HISTORY_DAYS - 2)
