"""The collector's routes: in the node, and in a process that only collects."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from app.access.key_gate import KeyGate
from app.collecting.collector import Collector
from app.http.admin_guard import AdminGuard, LocalToken
from app.http.collector import BODY_BYTES_MAX
from app.http.collector_app import create_collector_app
from app.node.collector_gauges import METRICS, sample_collector
from app.ports.collector import LAG_BOUNDS_S, ExchangeStats, Lag, OutboxStats
from app.ports.coordination import RpcRequest, RpcResponse
from infra.telemetry import Telemetry
from tests.collecting.control import BUSY, Stage
from tests.http.fakes import LOCAL, LOCAL_TOKEN, FakeLine, Node, no_metrics

STATUS, STATS, SUBSCRIBE = "/api/v1/status", "/api/v1/exchanges/okx/stats", "/api/v1/exchanges/okx/subscribe"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.begin()
    return stage


def alone(collector: Collector, host: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client of a process that only collects."""
    guard = AdminGuard(None, LocalToken("collect.token", lambda: LOCAL_TOKEN, "in COLLECT_DIR"))
    return client_of(create_collector_app(collector, instrument=no_metrics, admin=guard), host)


def client_of(app: ASGIApp, host: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(host, 40_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


def wish(**changes: Any) -> dict[str, Any]:
    return {"action": "subscribe", "symbols": ["SOL-USDT"], "data_types": ["trade"]} | changes


async def test_the_status_has_counts_exchanges_and_faults(stage: Stage) -> None:
    stage.control.set_stats("okx", BUSY)
    stage.control.set_outbox(OutboxStats(7, 4096, 0.25, "NATS does not answer: start it"))
    stage.clock.ms += 3_600_000
    async with alone(stage.collector) as client:
        found = (await client.get(STATUS)).json()
    assert found["service"] == "market-data-collector"
    assert (found["running"], found["uptime_seconds"]) == (True, 3_600)
    assert found["start_time"] == "2026-11-21T14:10:30.000Z"
    assert found["collector_metrics"] == {"messages_processed": 110, "messages_published": 100, "errors_count": 1}
    assert found["outbox"] == {
        "waiting": 7,
        "spilled_bytes": 4096,
        "spill_used": 0.25,
        "fault": "NATS does not answer: start it",
    }
    assert found["faults"] == ["NATS does not answer: start it"]
    okx, deribit = found["exchanges"]["okx"], found["exchanges"]["deribit"]
    assert (okx["connected"], okx["messages_count"], okx["errors_count"], okx["gaps_open"]) == (True, 110, 1, 1)
    assert (deribit["connected"], deribit["messages_count"]) == (False, 0)


async def test_the_stats_of_an_exchange_are_by_type(stage: Stage) -> None:
    lag = Lag((1,) * (len(LAG_BOUNDS_S) + 1), 12.5, 30, 900)
    stage.control.set_stats("okx", ExchangeStats("following", 2, BUSY.types, 3, 2, lag, ("a book is stale",)))
    async with alone(stage.collector) as client:
        found = (await client.get(STATS)).json()
    assert found["types"]["trade"] == {"feeds": 2, "processed": 100, "published": 90, "errors": 1, "gaps_open": 1}
    assert (found["lag_p50_ms"], found["lag_p99_ms"], found["books_valid"], found["books_followed"]) == (30, 900, 2, 3)
    assert found["faults"] == ["a book is stale"]
    assert found["followed"] == ["swap/BTC-USDT/trade", "swap/ETH-USDT/trade"]


async def test_a_subscription_has_effect_at_once_and_after_a_restart(stage: Stage) -> None:
    async with alone(stage.collector) as client:
        client.headers.update(LOCAL)
        done = await client.post(SUBSCRIBE, json=wish(market="spot"))
        assert (done.status_code, done.headers["cache-control"]) == (200, "no-store")
        assert done.json() == {
            "ok": True,
            "exchange": "okx",
            "added": ["spot/SOL-USDT/trade"],
            "removed": [],
            "followed": ["spot/SOL-USDT/trade", "swap/BTC-USDT/trade", "swap/ETH-USDT/trade"],
        }
        left = await client.post(SUBSCRIBE, json=wish(action="unsubscribe", symbols=["ETH-USDT"], market=None))
        assert left.json()["removed"] == ["swap/ETH-USDT/trade"]
    assert stage.followed() == ["spot/SOL-USDT/trade", "swap/BTC-USDT/trade"]
    stage.restart()
    assert stage.followed() == ["spot/SOL-USDT/trade", "swap/BTC-USDT/trade"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"action": "follow"}, "Not understood: Invalid enum value 'follow'"),
        ({"symbols": "SOL-USDT"}, "Not understood: Expected `array`"),
        ({"symbols": []}, "symbols names 0"),
        ({"data_types": []}, "data_types names 0"),
        ({"data_types": ["depth"]}, "'depth' is no type of data; there are trade"),
        ({"market": "margin"}, "'margin' is no market; there are spot, swap, future"),
        ({"symbol": "x"}, "unknown field `symbol`"),
        (
            {"symbols": ["BTCUSDT", "X-Y"], "data_types": ["kline"]},
            "okx lists no BTCUSDT; is BTC-USDT meant?; okx lists",
        ),
        ({"symbols": ["BTCUSDT", "X-Y"], "data_types": ["kline"]}, "kline needs an interval; write kline.1m"),
    ],
)
async def test_what_is_wrong_is_a_400_with_every_fault_and_changes_nothing(
    stage: Stage, changes: dict[str, Any], says: str
) -> None:
    before = stage.followed()
    async with alone(stage.collector) as client:
        answer = await client.post(SUBSCRIBE, json=wish(**changes), headers=LOCAL)
    assert (answer.status_code, set(answer.json())) == (400, {"error"})
    assert says in answer.json()["error"]
    assert stage.followed() == before


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 10_000, b'{"symbols":["\\ud800"]}'])
async def test_a_body_that_is_no_json_is_refused(stage: Stage, body: bytes) -> None:
    async with alone(stage.collector) as client:
        assert (await client.post(SUBSCRIBE, content=body, headers=LOCAL)).status_code == 400
        large = await client.post(SUBSCRIBE, content=b" " * (BODY_BYTES_MAX + 1), headers=LOCAL)
    assert large.status_code == 413


@pytest.mark.parametrize(
    ("name", "says"),
    [("kraken", "no exchange kraken; it follows okx, deribit"), ("binance", "binance (EXCHANGES does not name it)")],
)
async def test_an_exchange_that_is_not_followed_is_a_404(stage: Stage, name: str, says: str) -> None:
    async with alone(stage.collector) as client:
        for answer in (
            await client.get(f"/api/v1/exchanges/{name}/stats"),
            await client.post(f"/api/v1/exchanges/{name}/subscribe", json=wish(), headers=LOCAL),
        ):
            assert answer.status_code == 404
            assert says in answer.json()["error"]


async def test_only_the_operator_may_subscribe(stage: Stage) -> None:
    before = stage.followed()
    async with alone(stage.collector) as client:
        nobody = await client.post(SUBSCRIBE, json=wish())
        assert nobody.status_code == 401
        assert "collect.token in COLLECT_DIR" in nobody.json()["error"]
        assert (await client.post(SUBSCRIBE, json=wish(), headers={"authorization": "Bearer no"})).status_code == 401
        assert (await client.get(SUBSCRIBE)).status_code == 405
        assert (await client.get(STATUS)).status_code == 200
    async with alone(stage.collector, "192.168.1.7") as stranger:
        assert (await stranger.post(SUBSCRIBE, json=wish(), headers=LOCAL)).status_code == 403
    assert stage.followed() == before


async def test_what_cannot_be_done_at_the_moment_is_a_503_with_a_sentence(stage: Stage) -> None:
    stage.control.listings["okx"] = []
    async with alone(stage.collector) as client:
        answer = await client.post(SUBSCRIBE, json=wish(), headers=LOCAL)
    assert (answer.status_code, answer.headers["x-klinenode-reason"]) == (503, "collector")
    assert answer.json()["error"] == ("The instruments of okx have not been read yet; try again in a few seconds.")


async def test_health_says_why_it_is_degraded(stage: Stage) -> None:
    async with alone(stage.collector) as client:
        well = (await client.get("/v1/health")).json()
        assert (well["status"], well["reasons"]) == ("ok", [])
        stage.control.set_stats("okx", ExchangeStats("away", 0, {}, faults=("no socket: refused",)))
        for path in ("/v1/health", "/health"):
            ill = (await client.get(path)).json()
            assert (ill["status"], ill["reasons"]) == ("degraded", ["collector: okx: no socket: refused"])
            assert ill["collector"]["exchanges"]["okx"]["state"] == "away"
        assert (await client.head("/v1/health")).status_code == 200
        assert (await client.get("/v1/nothing")).status_code == 404


async def test_a_node_without_a_collector_says_so() -> None:
    async with Node().operator() as client:
        for answer in (
            await client.get(STATUS),
            await client.get(STATS),
            await client.post(SUBSCRIBE, json=wish()),
        ):
            assert answer.status_code == 503
            assert "no collector: set EXCHANGES and NATS_URL" in answer.json()["error"]


async def test_a_node_with_one_answers_alike(stage: Stage) -> None:
    node = Node(collector=lambda: stage.collector)
    async with node.operator() as client:
        assert (await client.get(STATUS)).json()["service"] == "market-data-collector"
        assert (await client.post(SUBSCRIBE, json=wish())).json()["added"] == ["spot/SOL-USDT/trade"]
    async with node.client() as nobody:
        assert (await nobody.post(SUBSCRIBE, json=wish())).status_code == 401


class Elsewhere:
    """The connection to a process that writes, which answers with what it was asked."""

    async def ask(self, request: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [], f"{request.method} {request.path} {request.body.decode()}".encode())


async def test_a_process_that_does_not_write_asks_the_one_that_does() -> None:
    async with Node(line=FakeLine(Elsewhere())).operator() as client:
        assert (await client.get(STATUS)).text == f"GET {STATUS} "
        assert (await client.post(SUBSCRIBE, content=b"x")).text == f"POST {SUBSCRIBE} x"
        assert (await client.post(SUBSCRIBE, content=b"x", headers={"authorization": ""})).status_code == 401


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        (SUBSCRIBE, True),
        (STATS, False),
        (STATUS, False),
        ("/api/v1/exchanges/okx/subscribe/x", False),
        ("/api/v1/exchanges/a/b/subscribe", False),
    ],
)
def test_a_key_is_not_needed_where_the_admin_token_is(path: str, is_open: bool) -> None:
    assert KeyGate.is_open(object.__new__(KeyGate), path) is is_open


async def test_the_metrics_are_by_exchange_and_type(stage: Stage) -> None:
    lag = Lag((2,) + (0,) * len(LAG_BOUNDS_S), 0.5, 1, 1)
    stats = ExchangeStats("following", 2, BUSY.types, 3, 2, lag, levels_compared=4_000, levels_equal=3_000)
    stage.control.set_stats("okx", stats)
    stage.clock.ms += 5_000
    telemetry = Telemetry("ERROR")
    sample_collector(telemetry, lambda: stage.collector)
    lines = telemetry.exposition().decode().splitlines()
    for line in (
        'messages_processed_total{exchange="okx",type="trade"} 100.0',
        'messages_published_total{exchange="okx",type="kline.1m"} 10.0',
        'errors_total{exchange="okx",type="trade"} 1.0',
        'exchange_connections_active{exchange="okx"} 2.0',
        'exchange_connections_active{exchange="deribit"} 0.0',
        'klinenode_collect_gaps_open{exchange="okx",type="trade"} 1.0',
        'klinenode_collect_lag_seconds_bucket{exchange="okx",le="0.005"} 2.0',
        'klinenode_collect_lag_seconds_count{exchange="okx"} 2.0',
        'klinenode_collect_book_levels_equal{exchange="okx"} 0.75',
        "uptime_seconds 5.0",
        "klinenode_collect_waiting 0.0",
        "# TYPE messages_processed_total counter",
    ):
        assert line in lines or line.replace("_total counter", " counter") in lines, line
    assert 'klinenode_collect_book_levels_equal{exchange="deribit"}' not in "\n".join(lines), "nothing was compared"


def test_a_process_without_a_collector_has_no_lines_of_it() -> None:
    telemetry = Telemetry("ERROR")
    sample_collector(telemetry, lambda: None)
    lines = [line for line in telemetry.exposition().decode().splitlines() if not line.startswith("#")]
    assert [line for line in lines if line.startswith(tuple(metric.name for metric in METRICS))] == []


async def test_metrics_are_served_beside_the_routes(stage: Stage) -> None:
    telemetry = Telemetry("ERROR")
    sample_collector(telemetry, lambda: stage.collector)
    guard = AdminGuard("secret", LocalToken("collect.token", lambda: LOCAL_TOKEN))
    app = create_collector_app(stage.collector, instrument=telemetry.instrument, admin=guard)
    async with client_of(app) as client:
        text = (await client.get("/metrics")).text
        assert "uptime_seconds 0.0" in text
        assert (await client.post(SUBSCRIBE, json=wish(), headers=LOCAL)).status_code == 401
        done = await client.post(SUBSCRIBE, json=wish(), headers={"authorization": "Bearer secret"})
        assert done.status_code == 200


async def test_a_process_that_only_collects_describes_its_api_without_another_host(stage: Stage) -> None:
    async with alone(stage.collector) as client:
        page = await client.get("/docs")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for name in ("docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js", "openapi.json"):
            assert name in page.text
            answer = await client.get(f"/{name}")
            assert answer.status_code == 200, name
        described = (await client.get("/openapi.json")).json()["paths"]
    assert {STATUS, "/api/v1/exchanges/{name}/subscribe", "/v1/health"} <= described.keys()
