"""Market data beside klines: equal questions have one form, and what is wrong or not listed is known here."""

from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance.error_body import BinanceError, invalid_symbol
from app.http.market_params import question_of
from app.market.endpoints import ENDPOINTS, Endpoint
from tests.http.fakes import NOW_MS, Node


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/fapi/v1/depth?symbol=btcusdt", "symbol=BTCUSDT&limit=500"),
        ("/fapi/v1/depth?limit=0500&nonsense=1&symbol=BTCUSDT", "symbol=BTCUSDT&limit=500"),
        ("/fapi/v1/premiumIndex?timestamp=1&signature=x", ""),
        ("/fapi/v1/premiumIndex?symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt",
         "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT"),
        ("/fapi/v1/fundingInfo?symbol=NONSENSE", ""),
        ("/fapi/v1/premiumIndex?symbol=BTCUSD_PERP", "symbol=BTCUSD_PERP"),
        ("/fapi/v1/indexPriceKlines?pair=btcusd&interval=1M&limit=5", "pair=BTCUSD&interval=1M&limit=5"),
        ("/fapi/v1/markPriceKlines?interval=1m&symbol=BTCUSDT&startTime=0&endTime=99999999999999999",
         None),
        ("/fapi/v1/markPriceKlines?interval=1m&symbol=BTCUSDT&startTime=00&endTime=9007199254740992",
         "symbol=BTCUSDT&interval=1m&startTime=0&endTime=9999999999999&limit=500"),
        ("/fapi/v1/fundingRate", ""),
        ("/fapi/v1/fundingRate?limit=10", "limit=10"),
        ("/fapi/v1/assetIndex?symbol=btcusd", "symbol=BTCUSD"),
        ("/futures/data/basis?pair=BTCUSDT&contractType=PERPETUAL&period=5m",
         "pair=BTCUSDT&contractType=PERPETUAL&period=5m"),
    ],
)  # fmt: skip
async def test_what_means_the_same_is_asked_in_one_form(node: Node, asked: str, sent: str | None) -> None:
    async with node.client() as client:
        answer = await client.get(asked)
    assert [question.query_string for question in node.market.asked] == ([] if sent is None else [sent])
    assert answer.status_code == (400 if sent is None else 200)


async def test_requests_that_mean_the_same_cost_one(node: Node) -> None:
    async with node.client() as client:
        for query in ("symbol=BTCUSDT", "symbol=btcusdt", "symbol=BTCUSDT&limit=500", "recvWindow=5&symbol=BTCUSDT"):
            assert (await client.get(f"/fapi/v1/depth?{query}")).status_code == 200
        await client.get("/fapi/v1/depth?symbol=ETHUSDT")
    assert len(node.market.asked) == 2


def missing(name: str) -> tuple[int, str]:
    return -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


INVALID_LIMIT = (-1130, "Data sent for parameter 'limit' is not valid.")
BTC = "symbol=BTCUSDT"


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("v1/depth", missing("symbol")),
        ("v1/depth?symbol=NOPE", (-1121, "Invalid symbol.")),
        (f"v1/depth?{BTC}&{BTC}", (-1101, "Duplicate values for a parameter detected.")),
        (f"v1/depth?{BTC}&limit=7", (-4021, "7 is not valid depth limit")),
        (f"v1/depth?{BTC}&limit=1500", INVALID_LIMIT),
        (f"v1/trades?{BTC}&limit=1001", INVALID_LIMIT),
        (f"v1/aggTrades?{BTC}&limit=1001", INVALID_LIMIT),
        (
            f"v1/aggTrades?{BTC}&startTime={NOW_MS - 49 * 3_600_000}",
            (-4166, "Search window is restricted to recent 2 days only."),
        ),
        (f"v1/markPriceKlines?{BTC}&interval=1s", (-1120, "Invalid interval.")),
        (f"v1/markPriceKlines?{BTC}&interval=1m&limit=1501", INVALID_LIMIT),
        (
            f"v1/premiumIndexKlines?{BTC}&interval=1m&startTime=2&endTime=1",
            (-1023, "Start time is greater than end time."),
        ),
        (f"v1/indexPriceKlines?{BTC}&interval=1m", missing("pair")),
        ("v1/premiumIndex?symbol=", (-1105, "Parameter 'symbol' was empty.")),
        ("futures/data/openInterestHist?symbol=NOPE&period=5m", (-1121, "Invalid symbol.")),
        (
            f"futures/data/basis?pair=BTCUSDT&contractType=PERPETUAL&period=5m&startTime={NOW_MS - 36 * 86_400_000}",
            (-1130, "parameter 'startTime' is invalid."),
        ),
    ],
)
async def test_what_is_known_to_be_wrong_is_refused_here_and_costs_nothing(
    node: Node, target: str, error: tuple[int, str]
) -> None:
    is_data = target.startswith("futures/data")
    async with node.client() as client:
        answer = await client.get(f"/{target}" if is_data else f"/fapi/{target}")
    pairs = list(zip(("code", "msg"), error, strict=True))
    assert answer.status_code == 400
    assert list(answer.json().items()) == (pairs[::-1] if is_data else pairs)
    assert answer.headers["x-mbx-used-weight-1m"] == "1"
    assert node.market.asked == []


async def test_while_nobody_knows_the_list_the_exchange_judges_symbols() -> None:
    node = Node()
    async with node.client() as client:
        assert (await client.get("/fapi/v1/depth?symbol=newusdt")).status_code == 200
        assert (await client.get("/fapi/v1/depth?symbol=NO-SUCH!")).status_code == 400
    assert [question.params["symbol"] for question in node.market.asked] == ["NEWUSDT"]


class Listed:
    """A list of two symbols."""

    def symbol(self, text: str) -> str | None:
        return text.upper() if text.upper() in ("BTCUSDT", "币安人生USDT") else None

    def is_known(self) -> bool:
        return True


_NAMES = sorted({parameter.name for endpoint in ENDPOINTS.values() for parameter in endpoint.parameters})
_VALUES = [
    "BTCUSDT", "btcusdt", "币安人生usdt", "BTCUSD_PERP", "btcusd", "NOPE", "1m", "1M", "5m", "PERPETUAL", "0", "5",
    "05", "500", "1000", "1500", "-1", str(NOW_MS), "9" * 16, "9" * 17, "", "x", "a b", "a&b", "\0", "é", "٣",
]  # fmt: skip

_GOOD = {"symbol": "btcusdt", "pair": "BTCUSDT", "interval": "1M", "contractType": "PERPETUAL", "period": "5m"}


@settings(max_examples=600)
@given(
    st.sampled_from(list(ENDPOINTS.values())),
    st.lists(
        st.tuples(st.sampled_from([*_NAMES, "timestamp"]), st.sampled_from(_VALUES) | st.text(max_size=9)), max_size=7
    ),
)
def test_every_query_is_one_question_in_its_form_or_an_error(endpoint: Endpoint, pairs: list[tuple[str, str]]) -> None:
    given_names = dict(pairs)
    needed = [each.name for each in endpoint.parameters if each.is_required and each.name not in given_names]
    sent = urlencode([*pairs, *((name, _GOOD[name]) for name in needed)], errors="surrogatepass").encode()
    try:
        question = question_of(endpoint, sent, Listed(), NOW_MS)
    except BinanceError as error:
        if error.status != 400:
            raise
        return
    names = [parameter.name for parameter in endpoint.parameters]
    assert [name for name, _ in question.pairs] == [name for name in names if name in question.params]
    assert question_of(endpoint, question.query_string.encode(), Listed(), NOW_MS) == question
    shuffled = urlencode([*reversed(question.pairs), ("nonsense", "1")]).encode()
    assert question_of(endpoint, shuffled, Listed(), NOW_MS) == question
    assert 0 <= endpoint.weight(question) <= 40


_OF_A_SYMBOL = [
    "/fapi/v1/klines?interval=1m&symbol=",
    "/fapi/v1/markPriceKlines?interval=1m&symbol=",
    "/fapi/v1/indexPriceKlines?interval=1m&pair=",
    "/fapi/v1/continuousKlines?interval=1m&contractType=PERPETUAL&pair=",
    "/fapi/v1/depth?symbol=",
    "/fapi/v1/premiumIndex?symbol=",
    "/futures/data/openInterestHist?period=5m&symbol=",
]


@pytest.mark.parametrize("target", _OF_A_SYMBOL)
async def test_a_symbol_that_was_listed_since_is_answered_everywhere(node: Node, target: str) -> None:
    node.names.new = {"FRESHUSDT"}
    async with node.client() as client:
        assert (await client.get(f"{target}freshusdt")).status_code == 200
        assert (await client.get(f"{target}NOPEUSDT")).json()["code"] == -1121
    assert node.names.learnt == ["FRESHUSDT", "NOPEUSDT"]


@pytest.mark.parametrize("target", _OF_A_SYMBOL)
async def test_coin_margined_names_are_the_exchange_s_to_judge_everywhere(node: Node, target: str) -> None:
    name = "BTCUSD" if "pair=" in target else "BTCUSD_PERP"
    async with node.client() as client:
        assert (await client.get(f"{target}{name.lower()}")).status_code == 200
    path = target.partition("?")[0]
    assert (node.names.learnt, node.names.asked) == ([], [(path, name)])
    node.query.error = invalid_symbol()
    node.market.status, node.market.body = 400, invalid_symbol().body()
    node.clock.ms += 3_600_000
    node.pages.clear()
    async with node.client() as client:
        assert (await client.get(f"{target}{name}")).json()["code"] == -1121
    if path != "/fapi/v1/klines":
        assert node.names.refused == [(path, name)]
