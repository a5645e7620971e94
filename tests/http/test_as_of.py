"""Requests as of a past time: what they reach, and that nothing of them is kept."""

import pytest

from tests.http.fakes import NOW_MS, Node

THEN_MS = NOW_MS - 500
PATHS = {
    "/fapi/v1/klines?symbol=btcusdt&interval=1m": "BTCUSDT 1m",
    "/fapi/v1/markPriceKlines?symbol=BTCUSDT&interval=1h": "BTCUSDT@markPrice 1h",
    "/futures/data/openInterestHist?symbol=BTCUSDT&period=5m": "BTCUSDT@openInterestHist 5m",
    "/fapi/v1/fundingRate?symbol=BTCUSDT": "BTCUSDT@fundingRate 1h",
}


@pytest.mark.parametrize("path", PATHS)
async def test_the_answer_comes_from_what_was_held_and_is_kept_nowhere(path: str) -> None:
    node = Node()
    async with node.client() as client:
        for _ in range(2):
            found = await client.get(f"{path}&as_of={THEN_MS}")
            assert found.json() == [PATHS[path], THEN_MS]
            assert found.headers["cache-control"] == "no-store"
            assert "etag" not in found.headers
        early = await client.get(f"{path}&as_of={THEN_MS - 9_000}")
        assert (early.status_code, early.json()) == (400, {"code": -1130, "msg": "not recorded"})
        for wrong, code in (("", -1105), ("x", -1102), ("-1", -1130)):
            assert (await client.get(f"{path}&as_of={wrong}")).json()["code"] == code
    assert not node.query.asked, "nobody is asked how it is now"
    assert not node.market.asked


async def test_fundings_and_metrics_need_a_symbol_and_a_held_period() -> None:
    async with Node().client() as client:
        for path, code in {
            "/fapi/v1/fundingRate?": -1102,
            "/futures/data/openInterestHist?symbol=BTCUSDT&period=1h&": -1130,
        }.items():
            found = await client.get(f"{path}as_of={THEN_MS}")
            assert (found.status_code, found.json()["code"]) == (400, code)
            assert code != -1130 or "period=5m alone" in found.text


@pytest.mark.parametrize(
    "path",
    [
        "/fapi/v1/continuousKlines?pair=BTCUSDT&contractType=PERPETUAL&interval=1m",
        "/fapi/v1/depth?symbol=BTCUSDT",
        "/futures/data/basis?pair=BTCUSDT&contractType=PERPETUAL&period=5m",
        "/fapi/v1/exchangeInfo?",
        "/v1/klines/batch?symbols=BTCUSDT&interval=1m",
        "/v1/klines/rolling?symbol=BTCUSDT&window=5m",
        "/v1/bars?symbol=BTCUSDT&interval=1m",
    ],
)
async def test_a_route_that_knows_only_now_does_not_pass_it_off_as_then(path: str) -> None:
    node = Node()
    async with node.client() as client:
        found = await client.get(f"{path}&as_of={THEN_MS}")
        assert found.status_code == 400
        assert "as_of is not answered here" in found.text
        assert found.text.startswith('{"msg"') == path.startswith("/futures/data"), "as the exchange orders them there"
    assert not node.query.asked
    assert not node.market.asked


async def test_coverage_has_the_ledger_of_then() -> None:
    async with Node().client() as client:
        found = await client.get(f"/v1/coverage?as_of={THEN_MS}")
        assert (found.json(), found.headers["cache-control"]) == ({"as_of": THEN_MS}, "no-store")
        early = await client.get(f"/v1/coverage?as_of={THEN_MS - 9_000}")
        assert (early.status_code, early.json()) == (400, {"error": "not recorded"})
