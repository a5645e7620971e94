"""Every route answers as documented, and every failure has the shape that clients of its path expect."""

from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from app.binance.error_body import service_unavailable
from app.domain.reason import Reason
from app.domain.span import Span
from app.http.params import PARAMETERS
from app.http.refused import REFUSED
from app.market.endpoints import ENDPOINTS
from app.ports.errors import StandDown, StoreUnavailable, UpstreamUnavailable
from tests.http.asgi import get
from tests.http.fakes import NOW_MS, Node

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"


async def test_klines_never_enter_fastapi_but_what_is_refused_does() -> None:
    entered: list[str] = []

    class Witness:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            entered.append(scope["path"])
            await self.app(scope, receive, send)

    def instrument(app: FastAPI) -> None:
        app.add_middleware(Witness)

    node = Node(instrument=instrument)
    async with node.client() as client:
        for _ in range(3):
            assert (await client.get(KLINES)).status_code == 200
            assert (await client.head(KLINES)).status_code == 200
        assert (entered, len(node.query.asked)) == ([], 1), "neither does the first answer"
        assert (await client.post(KLINES)).status_code == 405
        assert (await client.get(f"{KLINES}&x={'x' * 5000}")).status_code == 414
    assert entered == ["/fapi/v1/klines"] * 2
    assert (node.pages.hits, node.pages.misses) == (5, 1), "what is too large is no question to the pages"


async def test_a_change_while_an_answer_is_computed_keeps_it_out_of_the_cache() -> None:
    node = Node()

    async def repair() -> None:
        node.pages.drop(node.query.asked[-1].series, Span(0, 1))

    node.query.meanwhile = repair
    async with node.client() as client:
        assert (await client.get(KLINES)).status_code == 200
        assert node.pages.entries == 0
        node.query.meanwhile = None
        await client.get(KLINES)
        await client.get(KLINES)
    assert len(node.query.asked) == 2


async def test_only_final_and_live_pages_are_kept_apart_and_live_ones_go_with_each_move() -> None:
    node = Node()
    async with node.client() as client:
        await client.get(KLINES)
        node.query.is_live = True
        live = await client.get(KLINES + "&only_final=false")
        assert live.headers["cache-control"] == "public, max-age=0, must-revalidate"
        node.pages.moved(node.query.asked[0].series.symbol)
        await client.get(KLINES)
        await client.get(KLINES + "&only_final=false")
    assert [query.only_final for query in node.query.asked] == [True, False, False]


async def test_errors_of_the_query_service_are_passed_on_and_not_kept() -> None:
    node = Node()
    node.query.error = service_unavailable(7, Reason.STAND_DOWN)
    async with node.client() as client:
        refused = await client.get(KLINES)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
        assert refused.json()["code"] == -1001
        assert refused.headers["x-klinenode-reason"] == "stand-down"
        node.query.error = StoreUnavailable("the disk is full; make room")
        refused = await client.get(KLINES)
        assert (refused.status_code, refused.json()["code"]) == (503, -1001)
        assert refused.headers["x-klinenode-reason"] == "database"
        node.query.error = None
        assert (await client.get(KLINES)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "allow"),
    [
        ("GET", "/fapi/v1/nothing", 404, {"code": -5000, "msg": "Path /fapi/v1/nothing, Method GET is invalid"}, None),
        ("GET", "/fapi", 404, {"code": -5000, "msg": "Path /fapi, Method GET is invalid"}, None),
        ("GET", "/fapi/v1/ping/", 404, {"code": -5000, "msg": "Path /fapi/v1/ping/, Method GET is invalid"}, None),
        ("GET", "/futures/data/x", 404, {"code": -5000, "msg": "Path /futures/data/x, Method GET is invalid"}, None),
        (
            "POST",
            "/fapi/v1/klines",
            405,
            {"code": -5000, "msg": "Path /fapi/v1/klines, Method POST is invalid"},
            "GET, HEAD",
        ),
        ("GET", "/v1/nothing", 404, {"error": "There is no /v1/nothing here; /docs lists what there is."}, None),
        ("GET", "/fapix", 404, {"error": "There is no /fapix here; /docs lists what there is."}, None),
        ("PUT", "/v1/health", 405, {"error": "/v1/health does not take PUT; it takes GET, HEAD."}, "GET, HEAD"),
        (
            "GET",
            "/v1/admin/backfill",
            405,
            {"error": "/v1/admin/backfill does not take GET; it takes POST, DELETE."},
            "POST, DELETE",
        ),
    ],
)
async def test_unknown_paths_and_methods(
    method: str, path: str, status: int, body: dict[str, Any], allow: str | None
) -> None:
    async with Node().client() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json(), answer.headers.get("allow")) == (status, body, allow)
    assert answer.headers["cache-control"] == "no-store"


async def test_the_unforeseen_tells_nothing_of_the_inside() -> None:
    node = Node()
    node.query.error = RuntimeError("a secret of the inside")
    async with node.client() as client:
        market, own = await client.get(KLINES), await client.get("/v1/coverage?symbol=ETHUSDT")
    assert (market.status_code, market.json()["code"]) == (500, -1000)
    assert (own.status_code, set(own.json())) == (500, {"error"})
    assert "secret" not in market.text + own.text


async def test_the_unforeseen_reaches_the_server_that_logs_it() -> None:
    node = Node()
    node.query.error = RuntimeError("a secret of the inside")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(node.app), base_url="http://127.0.0.1") as client:
        with pytest.raises(RuntimeError):
            await client.get(KLINES)


async def test_ping_and_time() -> None:
    async with Node().client() as client:
        ping, time = await client.get("/fapi/v1/ping"), await client.get("/fapi/v1/time")
    assert (ping.content, time.content) == (b"{}", b'{"serverTime":%d}' % NOW_MS)
    for answer in (ping, time):
        assert answer.headers["x-mbx-used-weight-1m"] == "1"
        assert answer.headers["cache-control"] == "no-store"


async def test_exchange_info_is_the_stored_body_or_an_honest_503() -> None:
    node = Node()
    async with node.client() as client:
        early = await client.get("/fapi/v1/exchangeInfo")
        assert (early.status_code, early.json()["code"], early.headers["retry-after"]) == (503, -1001, "5")
        node.symbols.info = b'{"symbols":[]}' + b" " * 2000
        first = await client.get("/fapi/v1/exchangeInfo?symbol=NONSENSE")
        assert first.content == node.symbols.info
        assert first.headers["content-encoding"] == "gzip"
        again = await client.get("/fapi/v1/exchangeInfo", headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304
        node.symbols.info = b'{"symbols":[1]}'
        assert (await client.get("/fapi/v1/exchangeInfo")).content == b'{"symbols":[1]}'


async def test_health_is_always_200_and_ready_is_not() -> None:
    node = Node()
    async with node.client() as client:
        health = await client.get("/v1/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert (await client.get("/v1/ready")).status_code == 503
        node.health.is_ready = True
        ready = await client.get("/v1/ready")
        assert (ready.status_code, ready.json()) == (200, {"ready": True})
        assert (await client.head("/v1/ready")).content == b""


@pytest.mark.parametrize(
    ("query", "report"),
    [
        ("", {"symbol": None, "interval": None, "offset": 0, "limit": 100}),
        (
            "symbol=btcusdt&interval=1M&offset=5&limit=1000",
            {"symbol": "BTCUSDT", "interval": "1M", "offset": 5, "limit": 1000},
        ),
    ],
)
async def test_coverage(query: str, report: dict[str, object]) -> None:
    async with Node().client() as client:
        answer = await client.get(f"/v1/coverage?{query}")
        assert answer.json() == report
        tag = answer.headers["etag"]
        assert (await client.get(f"/v1/coverage?{query}", headers={"If-None-Match": tag})).status_code == 304


@pytest.mark.parametrize(
    "query", ["limit=1001", "limit=0", "limit=x", "offset=-1", "offset=" + "9" * 30, "symbol=NOPE", "interval=1s"]
)
async def test_coverage_refuses_what_it_does_not_understand(query: str) -> None:
    async with Node().client() as client:
        answer = await client.get(f"/v1/coverage?{query}")
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


async def test_the_documentation_covers_routes_parameters_and_errors() -> None:
    async with Node().client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths) == {
        "/v1/klines/batch", "/v1/klines/rolling", "/v1/bars",
        "/fapi/v1/klines", "/fapi/v1/ping", "/fapi/v1/time", "/fapi/v1/exchangeInfo",
        "/v1/health", "/v1/ready", "/v1/coverage", "/v1/coverage/days", "/v1/overview", "/v1/admin/symbols/refresh",
        "/v1/admin/backfill",
        "/v1/verification", "/v1/admin/verify", "/api/v1/status", "/api/v1/exchanges/{name}/stats",
        "/api/v1/exchanges/{name}/subscribe", "/v1/export", *ENDPOINTS, *REFUSED,
    }  # fmt: skip
    klines = paths["/fapi/v1/klines"]["get"]
    assert tuple(each["name"] for each in klines["parameters"]) == PARAMETERS
    assert {"200", "304", "400", "503"} <= set(klines["responses"])


async def test_the_documentation_says_that_a_wrong_parameter_is_a_400() -> None:
    async with Node().client() as client:
        described = (await client.get("/openapi.json")).json()
        for target in ("/v1/coverage?limit=x", "/v1/coverage/days?limit=x", "/v1/export?symbols=BTCUSDT&intervals=1m"):
            assert (await client.get(target)).status_code == 400, target
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert "422" not in operation["responses"], f"{method} {path}"
    for path in ("/v1/coverage", "/v1/coverage/days", "/v1/export"):
        stated = described["paths"][path]["get"]["responses"]["400"]["content"]["application/json"]["schema"]
        assert stated["required"] == ["error"], path
    assert "ValidationError" not in orjson.dumps(described).decode()


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [(StandDown(NOW_MS + 90_500, "418"), "91"), (StandDown(NOW_MS - 1, "429"), "1"), (UpstreamUnavailable("no"), "5")],
)
async def test_a_refresh_that_cannot_be_done_says_so(error: Exception, retry_after: str) -> None:
    node = Node()
    node.symbols.error = error
    async with node.operator() as client:
        answer = await client.post("/v1/admin/symbols/refresh")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, retry_after)
    assert "try again" in answer.json()["error"]


@settings(max_examples=150)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from([*PARAMETERS, "=", "&", "1m", "BTCUSDT", "%", "%ff", "1", "-", "é"]), max_size=20).map(
            lambda parts: "".join(parts).encode()
        ),
    )
)
async def test_no_query_string_gives_a_500(raw: bytes) -> None:
    status, body = await get(Node().app, "/fapi/v1/klines", raw)
    assert status in (200, 400)
    assert body == b"[]" or body.startswith(b'{"code":-1')


EXPORT = "/v1/export?symbols=BTCUSDT&intervals=1m&startTime=1795892160017"
DUPLICATE = "Duplicate values"
MALFORMED = "was not sent, was empty/null, or malformed"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (f"{EXPORT}&symbols=ETHUSDT", DUPLICATE),
        (f"{EXPORT}&startTime=1795892160017", DUPLICATE),
        *(
            (EXPORT.replace("1795892160017", odd), MALFORMED)
            for odd in ("1_795_892", "%2B1795892", "%201795892", "1.0")
        ),
        (f"{EXPORT}&as_of=1_000", MALFORMED),
        (f"{EXPORT}&allow_partial=yes", "allow_partial"),
        ("/v1/coverage?symbol=BTCUSDT&symbol=ETHUSDT", DUPLICATE),
        ("/v1/coverage?limit=1_0", MALFORMED),
        ("/v1/coverage?incomplete=on", "incomplete"),
        ("/v1/coverage/days?kind=klines&kind=klines", DUPLICATE),
        ("/v1/coverage/days?days=%2B3", MALFORMED),
    ],
)
async def test_own_routes_refuse_what_klines_refuse(path: str, says: str) -> None:
    async with Node().client() as client:
        answer = await client.get(path)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


async def test_own_routes_ignore_what_they_do_not_know_and_take_truths_as_clients_write_them() -> None:
    async with Node().client() as client:
        answer = await client.get("/v1/coverage?t=1&t=1&incomplete=True&limit=010")
    assert answer.status_code == 200
