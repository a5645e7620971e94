"""The sandbox's REST answers beside klines: every field in order, with its type, and consistent with each other."""

import itertools
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from infra.sandbox.grid import DAY_MS, DURATIONS_MS, HOUR_MS, MINUTE_MS

if TYPE_CHECKING:
    from infra.sandbox.server import SandboxServer
    from tests.sandbox.conftest import ManualClock

FAPI, DATA = "/fapi/v1/", "/futures/data/"
PREMIUM = {
    **dict.fromkeys(("symbol", "markPrice", "indexPrice", "estimatedSettlePrice"), str),
    **dict.fromkeys(("lastFundingRate", "interestRate"), str),
    "nextFundingTime": int,
    "time": int,
}
TICKER = {
    **dict.fromkeys(("symbol", "priceChange", "priceChangePercent", "weightedAvgPrice", "lastPrice"), str),
    **dict.fromkeys(("lastQty", "openPrice", "highPrice", "lowPrice", "volume", "quoteVolume"), str),
    **dict.fromkeys(("openTime", "closeTime", "firstId", "lastId", "count"), int),
}
TRADE = {
    "id": int,
    "price": str,
    "qty": str,
    "quoteQty": str,
    "time": int,
    "isBuyerMaker": bool,
    "isRPITrade": bool,
}
RATIO = {"symbol": str, "longAccount": str, "longShortRatio": str, "shortAccount": str, "timestamp": int}
ASSET = {
    "symbol": str,
    "time": int,
    "index": str,
    "bidBuffer": str,
    "askBuffer": str,
    "bidRate": str,
    "askRate": str,
    **{f"autoExchange{side}{what}": str for what in ("Buffer", "Rate") for side in ("Bid", "Ask")},
}
BEST = {
    **dict.fromkeys(("symbol", "bidPrice", "bidQty", "askPrice", "askQty"), str),
    "time": int,
    "lastUpdateId": int,
}
BASIS = {
    **dict.fromkeys(("indexPrice", "contractType", "basisRate", "futuresPrice"), str),
    **dict.fromkeys(("annualizedBasisRate", "basis", "pair"), str),
    "timestamp": int,
}
OPEN_INTEREST = {
    **dict.fromkeys(("symbol", "sumOpenInterest", "sumOpenInterestValue", "CMCCirculatingSupply"), str),
    "timestamp": int,
}
FUNDING = {"symbol": str, "fundingTime": int, "fundingRate": str, "markPrice": str, "rateType": str}
BTC = {"symbol": "BTCUSDT"}
FIVE = {**BTC, "period": "5m"}
PERPETUAL = {"pair": "BTCUSDT", "contractType": "PERPETUAL"}

# path, query, keys of a row (or of the object) in order with their types, weight (None: a separate bucket)
SHAPES: list[tuple[str, dict[str, str], dict[str, type], int | None]] = [
    (FAPI + "depth", BTC, {"lastUpdateId": int, "E": int, "T": int, "bids": list, "asks": list}, 10),
    (FAPI + "rpiDepth", BTC, {"lastUpdateId": int, "E": int, "T": int, "bids": list, "asks": list}, 20),
    (FAPI + "trades", BTC, TRADE, 5),
    (FAPI + "aggTrades", BTC, {"a": int, "p": str, "q": str, "nq": str, "f": int, "l": int, "T": int, "m": bool}, 20),
    (FAPI + "premiumIndex", BTC, PREMIUM, 1),
    (FAPI + "premiumIndex", {}, PREMIUM, 10),
    (FAPI + "fundingRate", BTC, FUNDING, None),
    (FAPI + "fundingRate", {}, FUNDING, None),
    (FAPI + "ticker/24hr", BTC, TICKER, 1),
    (FAPI + "ticker/24hr", {}, TICKER, 40),
    (FAPI + "ticker/price", BTC, {"symbol": str, "price": str, "time": int}, 1),
    (FAPI + "ticker/price", {}, {"symbol": str, "price": str, "time": int}, 2),
    ("/fapi/v2/ticker/price", BTC, {"symbol": str, "price": str, "time": int}, 1),
    ("/fapi/v2/ticker/price", {}, {"symbol": str, "price": str, "time": int}, 2),
    (FAPI + "ticker/bookTicker", BTC, BEST, 2),
    (FAPI + "ticker/bookTicker", {}, BEST, 5),
    (FAPI + "openInterest", BTC, {"openInterest": str, "symbol": str, "time": int}, 1),
    (FAPI + "indexInfo", {}, {"symbol": str, "time": int, "component": str, "baseAssetList": list}, 1),
    (FAPI + "assetIndex", {"symbol": "BTCUSD"}, ASSET, 1),
    (FAPI + "assetIndex", {}, ASSET, 10),
    (FAPI + "constituents", BTC, {"symbol": str, "time": int, "constituents": list}, 2),
    (FAPI + "insuranceBalance", BTC, {"symbols": list, "assets": list}, 1),
    (FAPI + "insuranceBalance", {}, {"symbols": list, "assets": list}, 1),
    (FAPI + "symbolAdlRisk", BTC, {"symbol": str, "adlRisk": str, "updateTime": int}, 1),
    (FAPI + "symbolAdlRisk", {}, {"symbol": str, "adlRisk": str, "updateTime": int}, 1),
    (FAPI + "tradingSchedule", {}, {"updateTime": int, "marketSchedules": dict}, 5),
    (DATA + "openInterestHist", FIVE, OPEN_INTEREST, None),
    (DATA + "topLongShortAccountRatio", FIVE, RATIO, None),
    (DATA + "topLongShortPositionRatio", FIVE, RATIO, None),
    (DATA + "globalLongShortAccountRatio", FIVE, RATIO, None),
    (DATA + "takerlongshortRatio", FIVE, {"buySellRatio": str, "sellVol": str, "buyVol": str, "timestamp": int}, None),
    (DATA + "basis", {**PERPETUAL, "period": "5m"}, BASIS, None),
    (DATA + "delivery-price", {"pair": "BTCUSDT"}, {"deliveryTime": int, "deliveryPrice": float}, None),
]


async def get(http: httpx.AsyncClient, path: str, **query: str | int) -> Any:
    answer = await http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(("path", "query", "keys", "weight"), SHAPES)
async def test_an_answer_has_every_field_in_order_and_costs_its_weight(
    http: httpx.AsyncClient, path: str, query: dict[str, str], keys: dict[str, type], weight: int | None
) -> None:
    answer = await http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    for row in body if isinstance(body, list) else [body]:
        assert {name: type(value) for name, value in row.items()} == keys
        assert list(row) == list(keys)
    assert body
    used = answer.headers.get("x-mbx-used-weight-1m")
    assert used == (None if weight is None else str(weight))
    log = (await http.get("/sandbox/requests")).json()["requests"]
    assert log[-1]["weight"] == (weight or 0)


async def test_parts_of_answers_have_every_field(http: httpx.AsyncClient) -> None:
    parts = [
        ((await get(http, FAPI + "indexInfo", symbol="BTCDOMUSDT"))[0]["baseAssetList"][0],
         ["baseAsset", "quoteAsset", "weightInQuantity", "weightInPercentage"]),
        ((await get(http, FAPI + "constituents", symbol="BTCUSDT"))["constituents"][0],
         ["exchange", "symbol", "price", "weight"]),
        ((await get(http, FAPI + "insuranceBalance"))[0]["assets"][0], ["asset", "marginBalance", "updateTime"]),
        ((await get(http, FAPI + "tradingSchedule"))["marketSchedules"]["EQUITY"]["sessions"][0],
         ["startTime", "endTime", "type"]),
    ]  # fmt: skip
    for part, keys in parts:
        assert list(part) == keys
    assert (await get(http, FAPI + "constituents", symbol="XAUUSDT"))["constituents"][0]["price"] == "-1"
    infos = await get(http, FAPI + "fundingInfo", symbol="whatever")
    assert all(
        list(each)
        == [
            *("symbol", "adjustedFundingRateCap", "adjustedFundingRateFloor"),
            *("fundingIntervalHours", "disclaimer", "updateTime"),
        ]
        for each in infos
    )
    assert {each["fundingIntervalHours"] for each in infos} <= {1, 4, 8}
    assert {type(each["updateTime"]) for each in infos} == {int, type(None)}


MISSING = "Mandatory parameter '{}' was not sent, was empty/null, or malformed."
INVALID = "Data sent for parameter '{}' is not valid."
ERRORS: list[tuple[str, dict[str, str], int, int, str]] = [
    *((FAPI + path, {}, 400, -1102, MISSING.format("symbol"))
      for path in ("depth", "trades", "aggTrades", "openInterest", "constituents", "markPriceKlines",
                   "premiumIndexKlines")),
    *((FAPI + path, {"symbol": "NOPE"}, 400, -1121, "Invalid symbol.")
      for path in ("depth", "trades", "aggTrades", "openInterest", "constituents", "premiumIndex", "fundingRate",
                   "ticker/24hr", "ticker/price", "ticker/bookTicker", "symbolAdlRisk", "insuranceBalance",
                   "indexInfo", "assetIndex")),
    (FAPI + "assetIndex", BTC, 400, -1121, "Invalid symbol."),
    (FAPI + "indexPriceKlines", {**BTC, "interval": "1m"}, 400, -1102, MISSING.format("pair")),
    (FAPI + "continuousKlines", {"pair": "BTCUSDT", "interval": "1m"}, 400, -1102, MISSING.format("contractType")),
    (FAPI + "continuousKlines", {**PERPETUAL, "contractType": "X", "interval": "1m"}, 400, -1130,
     INVALID.format("contractType")),
    (FAPI + "markPriceKlines", {**BTC, "interval": "1s"}, 400, -1120, "Invalid interval."),
    (FAPI + "premiumIndexKlines", {**BTC, "interval": "1m", "limit": "1501"}, 400, -1130, INVALID.format("limit")),
    (FAPI + "markPriceKlines", {**BTC, "interval": "1m", "startTime": "2", "endTime": "1"}, 400, -1023,
     "Start time is greater than end time."),
    (FAPI + "depth", {**BTC, "limit": "3"}, 400, -4021, "3 is not valid depth limit"),
    (FAPI + "depth", {**BTC, "limit": "1500"}, 400, -1130, INVALID.format("limit")),
    (FAPI + "rpiDepth", {**BTC, "limit": "5"}, 400, -4021, "5 is not valid depth limit"),
    (FAPI + "trades", {**BTC, "limit": "1001"}, 400, -1130, INVALID.format("limit")),
    (FAPI + "aggTrades", {**BTC, "limit": "1001"}, 400, -1130, INVALID.format("limit")),
    (FAPI + "aggTrades", {**BTC, "fromId": "5"}, 400, -4166, "Search window is restricted to recent 2 days only."),
    (FAPI + "aggTrades", {**BTC, "startTime": "5"}, 400, -4166, "Search window is restricted to recent 2 days only."),
    (FAPI + "aggTrades", {**BTC, "fromId": "5", "startTime": "5"}, 400, -1128,
     "Combination of optional parameters invalid."),
    (FAPI + "historicalTrades", BTC, 401, -2014, "API-key format invalid."),
    (FAPI + "order", {}, 401, -2014, "API-key format invalid."),
    ("/fapi/v3/account", {}, 401, -2014, "API-key format invalid."),
    (FAPI + "allForceOrders", {}, 404, -5000, "Path /fapi/v1/allForceOrders, Method GET is invalid"),
    (FAPI + "fundingRate", {"limit": "1001"}, 400, -1130, INVALID.format("limit")),
    (DATA + "openInterestHist", {"period": "5m"}, 400, -1102, MISSING.format("symbol")),
    (DATA + "openInterestHist", BTC, 400, -1102, MISSING.format("period")),
    (DATA + "openInterestHist", {**BTC, "period": "1m"}, 400, -1130, "parameter 'period' is invalid."),
    (DATA + "openInterestHist", {**FIVE, "startTime": "1600000000000"}, 400, -1130,
     "parameter 'startTime' is invalid."),
    (DATA + "basis", {"pair": "BTCUSDT", "period": "5m"}, 400, -1102, MISSING.format("contractType")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "query", "status", "code", "msg"), ERRORS)
async def test_errors_have_the_exchange_s_words(
    http: httpx.AsyncClient, path: str, query: dict[str, str], status: int, code: int, msg: str
) -> None:
    answer = await http.get(path, params=query)
    assert (answer.status_code, answer.json()) == (status, {"code": code, "msg": msg})
    assert answer.content.startswith(b'{"msg":' if path.startswith(DATA) else b'{"code":')


async def test_signed_routes_ask_for_key_signature_and_a_key_that_is_known(http: httpx.AsyncClient) -> None:
    key = {"X-MBX-APIKEY": "k" * 64}
    assert (await http.post(FAPI + "order")).json()["code"] == -2014
    assert (await http.post(FAPI + "order", headers=key)).json() == {"code": -1102, "msg": MISSING.format("signature")}
    answer = await http.get("/fapi/v3/balance", params={"signature": "s"}, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (401, -2015)
    rows = (await http.get(FAPI + "historicalTrades", params={**BTC, "limit": 7}, headers=key)).json()
    assert rows == await get(http, FAPI + "trades", symbol="btcusdt", limit=7)
    later = (await http.get(FAPI + "historicalTrades", params={**BTC, "fromId": rows[2]["id"]}, headers=key)).json()
    assert later[:5] == rows[2:]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ADAUSDT", "XRPUSDT", "币安人生USDT"])
async def test_trades_add_up_to_the_candles_at_any_moment(
    http: httpx.AsyncClient, clock: "ManualClock", symbol: str
) -> None:
    clock.advance(23_456)
    rows = await get(http, FAPI + "klines", symbol=symbol, interval="1m", limit=300)
    first_ms = next(row[0] for row in reversed(rows) if row[8])
    aggregates = await get(http, FAPI + "aggTrades", symbol=symbol, startTime=first_ms, limit=1000)
    trades = await get(http, FAPI + "trades", symbol=symbol, limit=1000)
    covered = 0
    for row in rows:
        mine = [each for each in trades if row[0] <= each["time"] <= row[6]]
        if not mine or mine[0] is trades[0]:
            continue  # some of the minute's trades may be older than the answer's oldest
        covered += 1
        assert sum(Decimal(each["qty"]) for each in mine) == Decimal(row[5])
        assert sum(Decimal(each["quoteQty"]) for each in mine) == Decimal(row[7])
        assert sum(Decimal(each["qty"]) for each in mine if not each["isBuyerMaker"]) == Decimal(row[9])
        assert sum(Decimal(each["quoteQty"]) for each in mine if not each["isBuyerMaker"]) == Decimal(row[10])
        prices = [each["price"] for each in mine]
        assert [prices[0], max(prices, key=Decimal), min(prices, key=Decimal), prices[-1]] == row[1:5]
        assert len(mine) == row[8]
    assert covered or symbol == "BTCUSDT"
    for hour in {each["time"] // HOUR_MS for each in trades}:
        ids = [each["id"] for each in trades if each["time"] // HOUR_MS == hour]
        assert ids == list(range(ids[0], ids[-1] + 1))
    assert all(one["time"] <= two["time"] <= clock.now_ms() for one, two in itertools.pairwise(trades))
    known = {each["id"]: each for each in trades}
    for each in aggregates:
        parts = [known[number] for number in range(each["f"], each["l"] + 1) if number in known]
        if len(parts) == each["l"] - each["f"] + 1:
            assert sum(Decimal(part["qty"]) for part in parts) == Decimal(each["q"]) == Decimal(each["nq"])
            assert {part["price"] for part in parts} == {each["p"]}
            assert parts[0]["time"] == each["T"]
    assert [each["a"] for each in aggregates] == list(range(aggregates[0]["a"], aggregates[-1]["a"] + 1))
    assert all(one["l"] + 1 == two["f"] for one, two in itertools.pairwise(aggregates))


async def test_aggregates_page_by_id_and_by_time_without_a_hole(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    path, now_ms = FAPI + "aggTrades", clock.now_ms()
    whole = await get(http, path, symbol="DOGEUSDT", startTime=now_ms - 20 * MINUTE_MS, limit=1000)
    again: list[Any] = []
    number = whole[0]["a"]
    while len(again) < len(whole):
        page = await get(http, path, symbol="DOGEUSDT", fromId=number, limit=77)
        again += page
        number = page[-1]["a"] + 1
    assert again[: len(whole)] == whole
    start_ms, end_ms = whole[100]["T"], whole[200]["T"]
    window = await get(http, path, symbol="DOGEUSDT", startTime=start_ms, endTime=end_ms)
    assert window == [each for each in whole if start_ms <= each["T"] <= end_ms]
    newest = await get(http, path, symbol="DOGEUSDT", limit=9)
    assert newest == (await get(http, path, symbol="DOGEUSDT", endTime=now_ms, limit=500))[-9:]
    old = await http.get(path, params={"symbol": "DOGEUSDT", "startTime": now_ms - 2 * DAY_MS - 1})
    assert old.json()["code"] == -4166


async def test_depth_holds_as_many_levels_as_asked_for_in_order(http: httpx.AsyncClient) -> None:
    for limit, levels in ((5, 5), (10, 10), (20, 20), (50, 50), (100, 100), (500, 500)):
        book = await get(http, FAPI + "depth", symbol="BTCUSDT", limit=limit)
        bids, asks = book["bids"], book["asks"]
        assert len(bids) == len(asks) == levels
        assert [Decimal(each[0]) for each in bids] == sorted({Decimal(each[0]) for each in bids}, reverse=True)
        assert [Decimal(each[0]) for each in asks] == sorted({Decimal(each[0]) for each in asks})
        assert Decimal(bids[0][0]) < Decimal(asks[0][0])
        assert all(Decimal(each[1]) > 0 for each in bids + asks)
        assert all(re.fullmatch(r"\d+\.\d\d", each[0]) and re.fullmatch(r"\d+\.\d{3}", each[1]) for each in bids)
    best = await get(http, FAPI + "ticker/bookTicker", symbol="BTCUSDT")
    assert [best["bidPrice"], best["bidQty"]] == bids[0]
    assert [best["askPrice"], best["askQty"]] == asks[0]
    assert best["lastUpdateId"] == book["lastUpdateId"]
    last = (await get(http, FAPI + "trades", symbol="BTCUSDT", limit=1))[0]["price"]
    assert last in (best["bidPrice"], best["askPrice"])
    settled = await get(http, FAPI + "depth", symbol="OMGUSDT")
    assert settled["bids"] == settled["asks"] == []


async def test_tickers_agree_with_klines_and_trades(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    clock.advance(11_000)
    for symbol in ("BTCUSDT", "XRPUSDT", "NEW1121USDT"):
        ticker = await get(http, FAPI + "ticker/24hr", symbol=symbol)
        rows = await get(http, FAPI + "klines", symbol=symbol, interval="1m", startTime=ticker["openTime"], limit=1500)
        traded = [row for row in rows if row[8]]
        last = (await get(http, FAPI + "trades", symbol=symbol, limit=1))[0]
        assert ticker["openTime"] % MINUTE_MS == 0
        assert ticker["closeTime"] == clock.now_ms()
        assert rows[0][0] == ticker["openTime"] >= clock.now_ms() // MINUTE_MS * MINUTE_MS - DAY_MS
        assert ticker["count"] == sum(row[8] for row in rows)
        assert Decimal(ticker["volume"]) == sum(Decimal(row[5]) for row in rows)
        assert abs(Decimal(ticker["quoteVolume"]) - sum(Decimal(row[7]) for row in rows)) < 1
        assert ticker["openPrice"] == traded[0][1]
        assert ticker["highPrice"] == max((row[2] for row in traded), key=Decimal)
        assert ticker["lowPrice"] == min((row[3] for row in traded), key=Decimal)
        assert (ticker["lastPrice"], ticker["lastQty"], ticker["lastId"]) == (last["price"], last["qty"], last["id"])
        assert Decimal(ticker["priceChange"]) == Decimal(ticker["lastPrice"]) - Decimal(ticker["openPrice"])
        assert re.fullmatch(r"-?\d+\.\d{3}", ticker["priceChangePercent"])
        price = await get(http, FAPI + "ticker/price", symbol=symbol)
        assert price == {"symbol": symbol, "price": last["price"], "time": last["time"]}
        assert price in await get(http, "/fapi/v2/ticker/price")
        assert ticker in await get(http, FAPI + "ticker/24hr")
    names = {each["symbol"] for each in await get(http, FAPI + "ticker/24hr")}
    info = await get(http, FAPI + "exchangeInfo")
    assert names == {each["symbol"] for each in info["symbols"] if each["status"] == "TRADING"}
    assert "OMGUSDT" in {each["symbol"] for each in await get(http, FAPI + "ticker/price")}


@pytest.mark.parametrize("kind", ["markPriceKlines", "indexPriceKlines", "premiumIndexKlines"])
async def test_candles_of_samples_add_up_and_hold_the_price_now(
    http: httpx.AsyncClient, clock: "ManualClock", kind: str
) -> None:
    clock.advance(17_000)
    name = "pair" if kind == "indexPriceKlines" else "symbol"
    minutes = await get(http, FAPI + kind, interval="1m", limit=1500, **{name: "ETHUSDT"})
    assert all(len(row) == 12 and row[5] == row[7] == row[9] == row[10] == row[11] == "0" for row in minutes)
    assert all(re.fullmatch(r"-?\d+\.\d{8}", text) for row in minutes for text in row[1:5])
    assert {row[8] for row in minutes[:-1]} == {60}
    assert minutes[-1][8] == clock.now_ms() % MINUTE_MS // 1000 + 1
    for interval in ("5m", "1h", "4h"):
        size_ms = DURATIONS_MS[interval]
        rows = await get(http, FAPI + kind, interval=interval, limit=5, **{name: "ETHUSDT"})
        for row in rows:
            parts = [each for each in minutes if row[0] <= each[0] < row[0] + size_ms]
            if parts[0][0] == row[0]:
                highs, lows = (max if place == 2 else min for place in (2, 3))
                assert row[1] == parts[0][1]
                assert row[2] == highs((each[2] for each in parts), key=Decimal)
                assert row[3] == lows((each[3] for each in parts), key=Decimal)
                assert (row[4], row[8]) == (parts[-1][4], sum(each[8] for each in parts))
    now = await get(http, FAPI + "premiumIndex", symbol="ETHUSDT")
    field = {"markPriceKlines": "markPrice", "indexPriceKlines": "indexPrice"}.get(kind)
    if field is not None:
        assert minutes[-1][4] == now[field]
    week = await get(http, FAPI + kind, interval="1w", limit=2, **{name: "NEW1120USDT"})
    assert len(week) == 1


async def test_continuous_klines_are_those_of_the_contract(http: httpx.AsyncClient) -> None:
    for kind, symbol in (("PERPETUAL", "BTCUSDT"), ("CURRENT_QUARTER", "BTCUSDT_261225")):
        mine = await get(http, FAPI + "continuousKlines", pair="BTCUSDT", contractType=kind, interval="15m", limit=9)
        assert mine == await get(http, FAPI + "klines", symbol=symbol, interval="15m", limit=9)
    gold = await get(http, FAPI + "continuousKlines", pair="xauusdt", contractType="TRADIFI_PERPETUAL", interval="1m")
    assert len(gold) == 500


async def test_fundings_are_a_ledger_with_windows(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    path, now_ms = FAPI + "fundingRate", clock.now_ms()
    newest = await get(http, path, symbol="BTCUSDT")
    assert len(newest) == 100
    times = [each["fundingTime"] for each in newest]
    assert times == sorted(times)
    assert times[-1] <= now_ms < times[-1] + 8 * HOUR_MS
    assert all(time % (8 * HOUR_MS) <= 8 for time in times)
    assert {time % 1000 > 0 for time in times} == {True, False}
    assert all(re.fullmatch(r"-?0\.\d{8}", each["fundingRate"]) and each["rateType"] == "Regular" for each in newest)
    middle = await get(http, path, symbol="BTCUSDT", startTime=times[50], endTime=times[60])
    assert middle == newest[50:61]
    assert await get(http, path, symbol="BTCUSDT", startTime=times[50] + 1, limit=5) == newest[51:56]
    assert await get(http, path, symbol="BTCUSDT", endTime=times[50] - 1, limit=5) == newest[45:50]
    old = await get(http, path, symbol="BTCUSDT", startTime=0, limit=3)
    assert all(each["markPrice"] == "" for each in old)
    assert old[0]["fundingTime"] // (8 * HOUR_MS) == 1_567_965_420_000 // (8 * HOUR_MS) + 1
    everyone = await get(http, path, limit=1000)
    assert [each for each in everyone if each["symbol"] == "BTCUSDT"][-3:] == newest[-3:]
    foretold = await get(http, FAPI + "premiumIndex", symbol="BTCUSDT")
    clock.advance(foretold["nextFundingTime"] - now_ms + 10)
    came = (await get(http, path, symbol="BTCUSDT", limit=1))[0]
    assert came["fundingRate"] == foretold["lastFundingRate"]
    assert await get(http, path, symbol="BTCUSDT_261225") == []


async def test_statistics_agree_with_what_they_are_of(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    rows = await get(http, DATA + "takerlongshortRatio", symbol="BTCUSDT", period="1h", limit=3)
    hours = await get(http, FAPI + "klines", symbol="BTCUSDT", interval="1h", limit=4)
    for row, hour in zip(rows, hours[:3], strict=True):
        assert row["timestamp"] == hour[6] + 1
        assert Decimal(row["buyVol"]) == Decimal(hour[9])
        assert Decimal(row["sellVol"]) == Decimal(hour[5]) - Decimal(hour[9])
    newest = (await get(http, DATA + "openInterestHist", symbol="BTCUSDT", period="5m", limit=1))[0]
    now = await get(http, FAPI + "openInterest", symbol="BTCUSDT")
    assert Decimal(newest["sumOpenInterest"]) == Decimal(now["openInterest"]) > 0
    assert newest["timestamp"] == clock.now_ms() // (5 * MINUTE_MS) * 5 * MINUTE_MS
    month = await get(http, DATA + "openInterestHist", symbol="BTCUSDT", period="4h", limit=500)
    assert len(month) in (180, 181)
    prices = await get(http, DATA + "delivery-price", pair="BTCUSDT")
    assert [each["deliveryTime"] for each in prices] == sorted((each["deliveryTime"] for each in prices), reverse=True)
    assert len(prices) == len({each["deliveryTime"] for each in prices}) == 8
    raw = (await http.get(DATA + "delivery-price", params={"pair": "BTCUSDT"})).text
    assert re.search(r'"deliveryPrice":\d+\.\d[,}]', raw)


async def test_buckets_are_counted_apart_from_weight(
    http: httpx.AsyncClient, sandbox: "SandboxServer", clock: "ManualClock"
) -> None:
    for path, limit in ((FAPI + "fundingInfo", 500), (DATA + "delivery-price?pair=ETHUSDT", 1000)):
        for _ in range(limit):
            assert (await http.get(path)).status_code == 200
        refused = await http.get(path)
        assert (refused.status_code, refused.json()["code"]) == (429, -1003)
        assert f"{limit} requests per 5 minutes" in refused.json()["msg"]
        assert "x-mbx-used-weight-1m" not in refused.headers
    assert (await http.get(FAPI + "ping")).headers["x-mbx-used-weight-1m"] == "1"
    status = (await http.get("/sandbox/status")).json()
    assert (status["weight_total"], status["bucket_totals"]) == (1, {"funding": 501, "futures_data": 1001})
    clock.advance(5 * MINUTE_MS)
    assert (await http.get(FAPI + "fundingInfo")).status_code == 200
    sandbox.limiter.ban("127.0.0.1", 60, clock.now_ms())
    assert (await http.get(FAPI + "fundingInfo")).status_code == 418
