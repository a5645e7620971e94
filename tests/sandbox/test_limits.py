"""The weight limit, the ban after it, and the clock minute that resets the limit."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.sandbox.limits import REJECTIONS_BEFORE_BAN
from infra.sandbox.options import Options
from infra.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock


@pytest.fixture
async def strict(clock: "ManualClock") -> AsyncIterator[httpx.AsyncClient]:
    async with (
        SandboxServer(clock, seed=1, symbols=2, weight_limit=20) as server,
        httpx.AsyncClient(base_url=server.base_url, verify=trusting_nobody()) as client,
    ):
        yield client


async def ping(http: httpx.AsyncClient) -> httpx.Response:
    return await http.get("/fapi/v1/ping")


async def test_above_the_limit_429_until_the_clock_minute_ends(strict: httpx.AsyncClient, clock: "ManualClock") -> None:
    clock.advance(13_000)
    used = [(await ping(strict)).headers["x-mbx-used-weight-1m"] for _ in range(20)]
    assert used == [str(count) for count in range(1, 21)]
    answer = await ping(strict)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "42"
    assert answer.json() == {
        "code": -1003,
        "msg": "Too many requests; current limit of IP(127.0.0.1) is 20 requests per minute. "
        "Please use the websocket for live updates to avoid polling the API.",
    }
    clock.advance(41_999)
    assert (await ping(strict)).status_code == 429
    clock.advance(1)
    answer = await ping(strict)
    assert (answer.status_code, answer.headers["x-mbx-used-weight-1m"]) == (200, "1")


async def test_rejected_requests_cost_weight_too(strict: httpx.AsyncClient) -> None:
    answer = await strict.get("/fapi/v1/klines", params={"symbol": "BTCUSDT", "interval": "1m", "limit": 1501})
    assert (answer.status_code, answer.headers["x-mbx-used-weight-1m"]) == (400, "10")
    answer = await strict.get("/fapi/v1/klines", params={"symbol": "NOPE", "interval": "1m"})
    assert (answer.status_code, answer.headers["x-mbx-used-weight-1m"]) == (400, "15")


async def test_ignoring_429_brings_bans_that_grow(strict: httpx.AsyncClient, clock: "ManualClock") -> None:
    async def exhaust() -> httpx.Response:
        for _ in range(20 + REJECTIONS_BEFORE_BAN):
            assert (await ping(strict)).status_code in {200, 429}
        return await ping(strict)

    answer = await exhaust()
    until_ms = clock.now_ms() + 120_000
    assert answer.status_code == 418
    assert answer.headers["retry-after"] == "120"
    assert answer.json() == {
        "code": -1003,
        "msg": f"Way too many requests; IP(127.0.0.1) banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans.",
    }
    clock.advance(119_999)
    assert (await ping(strict)).status_code == 418
    clock.advance(1)
    assert (await exhaust()).headers["retry-after"] == "600"
    status = (await strict.get("/sandbox/status")).json()
    assert status["used_weight_max"] == 20 + REJECTIONS_BEFORE_BAN + 1
    assert (status["answers_429"], status["answers_418"], status["bans"]) == (20, 3, 2)
    assert status["requests_while_banned"] == 3


async def test_the_sandbox_s_own_endpoints_and_the_archive_have_no_weight(strict: httpx.AsyncClient) -> None:
    for _ in range(50):
        assert (await strict.get("/sandbox/status")).status_code == 200
        assert (await strict.get("/data/x")).status_code == 404
    assert (await ping(strict)).headers["x-mbx-used-weight-1m"] == "1"


@pytest.mark.parametrize("per_path", [False, True])
async def test_paths_of_statistics_share_a_bucket_or_have_one_each(clock: "ManualClock", *, per_path: bool) -> None:
    full, other = "/futures/data/delivery-price?pair=ETHUSDT", "/futures/data/openInterestHist?symbol=X&period=5m"
    options = Options(data_limit_per_path=per_path)
    async with (
        SandboxServer(clock, seed=1, symbols=2, options=options) as server,
        httpx.AsyncClient(base_url=server.base_url, verify=trusting_nobody()) as http,
    ):
        for _ in range(999):
            assert (await http.get(full)).status_code == 200
        assert (await http.get(other)).status_code == 400
        assert (await http.get(full)).status_code == (200 if per_path else 429)
        assert (await http.get(full)).status_code == 429
        assert (await http.get(other)).status_code == (400 if per_path else 429)
        assert (await http.get("/fapi/v1/fundingInfo")).status_code == 200
        assert server.limiter.bucket_totals == {"funding": 1, "futures_data": 1003}
        clock.advance(5 * 60_000)
        assert (await http.get(full)).status_code == 200
