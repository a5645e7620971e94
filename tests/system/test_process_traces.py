"""Traces of a real node at a collector: which spans there are, whose child each is, and what becomes of lost ones."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.infra.otlp import Collector, Received, collecting
from tests.system.processes import Place, Programs, until

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CLIENT}-01"
SECRETS = ("the-admin-token", "the-api-secret", "the-signature", "the-collectors-key")
KLINES = "/fapi/v1/klines"
COLD = f"{KLINES}?symbol=ETHUSDT&interval=4h&limit=5"  # not wished: the exchange is asked
HIT = "symbol=BTCUSDT&interval=5m&limit=2"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
async def place(tmp_path: Path, collector: Collector) -> AsyncIterator[Place]:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        settings = {
            "SYMBOLS": "BTCUSDT",
            "INTERVALS": "5m",
            "AUTO_SYNC_SYMBOLS": "false",
            "ADMIN_TOKEN": SECRETS[0],
            "LOG_LEVEL": "DEBUG",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={SECRETS[3]}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        (tmp_path / ".env").write_text("OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test\n")
        yield Place(programs, sandbox.port, settings=settings)


def one(spans: list[Received], **wanted: object) -> Received:
    found = [span for span in spans if all(getattr(span, name) == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, found)
    return found[0]


def is_answer(span: Received) -> bool:
    """Whether the span is of a request of the test itself."""
    return span.kind == "SERVER" and (span.trace == TRACE or span.name == f"GET {KLINES}")


def check(spans: list[Received]) -> str:
    """Check the spans of the requests; return the id of the one that the exchange was asked for."""
    ours = [span for span in spans if span.trace == TRACE]
    server = one(ours, kind="SERVER", name=f"GET {KLINES}")
    assert server.parent == CLIENT
    assert server.attributes["url.query"] == "symbol=ETHUSDT&interval=4h&limit=5"
    assert (server.attributes["http.response.status_code"], server.attributes["server.address"]) == (200, "127.0.0.1")
    upstream = [span for span in ours if span.kind == "CLIENT"]
    assert {(span.parent, span.attributes["url.path"]) for span in upstream} == {(server.id, KLINES)}
    assert all(span.attributes["klinenode.weight"] and span.attributes["klinenode.weight_used"] for span in upstream)
    assert one(ours, name="GET /v1/coverage").parent == CLIENT
    assert one(ours, name="GET", kind="SERVER").attributes["http.response.status_code"] == 404

    hits = [span for span in spans if span.name == f"GET {KLINES}" and span.trace != TRACE]
    assert [(span.attributes["url.query"], span.parent) for span in hits] == [(HIT, ""), (HIT, "")]
    by_id = {span.id: span for span in spans}
    assert "fill Fetch" in {by_id[span.parent].name for span in spans if span.name == "commit" and span.parent}
    assert {span.resource["service.name"] for span in spans} == {"klinenode"}
    assert {span.resource["deployment.environment.name"] for span in spans} == {"test"}, "from .env"
    return server.id


async def test_a_clients_trace_goes_to_the_exchange_and_a_collector_away_costs_one_warning(
    place: Place, collector: Collector
) -> None:
    program = place.serve()
    await until(place.is_whole, "the node holds its wish")
    async with place.http(traceparent=PARENT) as client:
        assert (await client.get(COLD)).status_code == 200
        assert (await client.get("/v1/coverage")).status_code == 200
        missing = await client.get("/nowhere?signature=the-signature", headers={"X-MBX-APIKEY": "the-api-secret"})
        assert missing.status_code == 404
    async with place.http(traceparent="junk") as client:
        for _ in range(2):
            assert (await client.get(f"{KLINES}?{HIT}&apiKey=the-api-secret")).is_success
    await asyncio.to_thread(collector.wait, lambda spans: sum(is_answer(span) for span in spans) == 5)
    server_id = check(collector.spans)
    logged = [event for event in program.events("RequestDone") if event.get("trace_id") == TRACE]
    assert {event["span_id"] for event in logged} == {server_id}
    assert {headers["x-key"] for headers in collector.headers} == {SECRETS[3]}
    assert [secret for secret in SECRETS if any(secret.encode() in body for body in collector.bodies)] == []

    async def has_said(name: str) -> bool:
        assert (await place.get("/fapi/v1/ping")).status_code == 200
        return bool(program.events(name))

    collector.status = 401
    await until(lambda: has_said("TracesLost"), "the loss is reported")
    collector.status = 200
    await until(lambda: has_said("TracesResumed"), "the collector takes spans again")
    assert "klinenode_spans_lost_total 0.0" not in (await place.get("/metrics")).text
    program.signal(signal.SIGTERM)
    assert await program.ended() == 0
    [lost] = program.events("TracesLost")
    assert "401" in lost["reason"]
    assert lost["endpoint"] == f"{collector.url}/v1/traces"
    assert len(program.events("TracesBegan")) == 1
    assert "Traceback" not in program.said()
