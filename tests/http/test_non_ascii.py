"""No character outside ASCII is taken for an ASCII one: ſ is no S, ı no I, the Kelvin sign no K, ٣ and ３ no 3."""

from urllib.parse import quote

import pytest

from tests.http.fakes import Node

KLINES = "/fapi/v1/klines?interval=1m&symbol="
BTC = "symbol=BTCUSDT"
SYMBOL, INTERVAL = -1121, -1120
MALFORMED, OUT_OF_RANGE = -1102, -1130


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (f"{KLINES}BTCUſDT", SYMBOL),
        (f"{KLINES}btcuſdt", SYMBOL),
        (f"{KLINES}ＢＴＣＵＳＤＴ", SYMBOL),
        (f"{KLINES}BTCUSDT\u0301", SYMBOL),
        (f"/fapi/v1/klines?{BTC}&interval=１m", INTERVAL),
        (f"/fapi/v1/klines?{BTC}&interval=1ｍ", INTERVAL),
        (f"/fapi/v1/klines?{BTC}&interval=1m&limit=３", MALFORMED),
        (f"/fapi/v1/klines?{BTC}&interval=1m&startTime=١٢", MALFORMED),
        (f"/fapi/v1/klines?{BTC}&interval=1m&endTime=²", MALFORMED),
        (f"/fapi/v1/klines?{BTC}&interval=1m&only_final=falſe", OUT_OF_RANGE),
        (f"/fapi/v1/klines?{BTC}&interval=1m&only_final=１", OUT_OF_RANGE),
        (f"/fapi/v1/klines?{BTC}&interval=1m&allow_partial=ｔrue", OUT_OF_RANGE),
        ("/fapi/v1/depth?symbol=btcuſdt", SYMBOL),
        ("/fapi/v1/depth?symbol=btcuſd_perp", SYMBOL),
        (f"/fapi/v1/depth?{BTC}&limit=５", MALFORMED),
        ("/fapi/v1/premiumIndex?symbol=BTCUſDT", SYMBOL),
        ("/fapi/v1/ticker/24hr?symbol=BTCUſDT", SYMBOL),
        ("/fapi/v1/indexPriceKlines?interval=1m&pair=BTCUſDT", SYMBOL),
        ("/fapi/v1/indexPriceKlines?interval=1m&pair=btcuſd", SYMBOL),
        ("/fapi/v1/markPriceKlines?interval=1m&symbol=BTCUſDT", SYMBOL),
        ("/fapi/v1/continuousKlines?interval=1m&contractType=PERPETUAL&pair=BTCUſDT", SYMBOL),
        ("/fapi/v1/continuousKlines?interval=1m&contractType=PERPETUAＬ&pair=BTCUSDT", OUT_OF_RANGE),
        ("/futures/data/basis?pair=BTCUSDT&contractType=PERPETUAL&period=５m", OUT_OF_RANGE),
        ("/futures/data/openInterestHist?symbol=BTCUſDT&period=5m", SYMBOL),
        (f"/fapi/v1/aggTrades?{BTC}&fromId=１", MALFORMED),
    ],
)
async def test_what_only_looks_like_ascii_is_refused_and_costs_nothing(target: str, code: int) -> None:
    node = Node()
    node.symbols.info = b"{}"
    async with node.client() as client:
        answer = await client.get(quote(target, safe="/?&=_"))
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert node.market.asked == []
    assert node.query.asked == []


@pytest.mark.parametrize("route", ["backfill", "verify"])
async def test_an_operator_is_not_misread_either(route: str) -> None:
    node = Node()
    wish = {"symbols": ["BTCUſDT"], "intervals": ["1m"], "start": 1, "end": 2}
    async with node.operator() as client:
        answer = await client.post(f"/v1/admin/{route}", json=wish)
        interval = await client.post(f"/v1/admin/{route}", json=wish | {"symbols": ["BTCUSDT"], "intervals": ["１m"]})
    assert (answer.status_code, interval.status_code) == (400, 400)
    assert [*node.backfill.requests, *node.verify.requests] == []
