"""With API keys every request but those of monitoring needs one, on the fast path as on the long one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from starlette.types import Receive, Scope, Send

from app.access.api_keys import ApiKeys, line_of
from app.access.key_gate import KeyGate
from app.binance.error_body import BinanceError
from app.http.fast_path import FastPath
from app.http.forward import answer_by
from app.ports.coordination import RpcRequest
from tests.access.quota import FakeQuota
from tests.http.fakes import LOCAL, ManualClock, Node, kline_body, served, wire

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"
KEYS = {"alice": "a" * 64, "bob": "b" * 64}
ALICE = ("X-MBX-APIKEY", KEYS["alice"])
BOB = ("Authorization", f"Bearer {KEYS['bob']}")
UNKNOWN = ("X-MBX-APIKEY", "u" * 64)


@dataclass
class Keyed:
    node: Node
    gate: KeyGate
    port: int
    entered: list[str]


def keys(**quotas: int) -> ApiKeys:
    return ApiKeys.parse("".join(f"{line_of(name, KEYS[name], n)}\n" for name, n in quotas.items()).encode())


@asynccontextmanager
async def keyed(*, in_memory: bool = True, per_minute: int = 5) -> AsyncIterator[Keyed]:
    clock = ManualClock()
    gate = KeyGate(clock, FakeQuota())
    gate.use(keys(alice=per_minute, bob=per_minute))
    node = Node(gate=gate, clock=clock)
    node.query.body = kline_body()
    node.query.is_in_memory = in_memory
    entered: list[str] = []
    inner = node.app
    assert isinstance(inner, FastPath)

    class Witness(FastPath):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            entered.append(scope["path"])
            await inner(scope, receive, send)

    outer = Witness.__new__(Witness)
    vars(outer).update(vars(inner))
    async with served(outer) as port:
        yield Keyed(node, gate, port, entered)


async def statuses(here: Keyed, *headers: tuple[str, str], times: int, target: str = KLINES) -> list[int]:
    return [(await wire(here.port, target, headers=headers)).status for _ in range(times)]


@pytest.mark.parametrize("in_memory", [True, False])
async def test_a_quota_is_exact_on_every_way_and_in_binances_shape(in_memory: bool) -> None:
    async with keyed(in_memory=in_memory) as here:
        assert await statuses(here, ALICE, times=7) == [200] * 5 + [429] * 2
        assert (here.entered.count("/fapi/v1/klines") < 7) is True
        refused = await wire(here.port, KLINES, headers=[ALICE])
        assert (refused.status, refused.headers["content-type"]) == (429, "application/json")
        assert b'"code":-1003' in refused.body
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert refused.headers["cache-control"] == "no-store"
        head = await wire(here.port, KLINES, method="HEAD", headers=[ALICE])
        assert (head.status, head.body) == (429, b"")
        assert await statuses(here, BOB, times=6) == [200] * 5 + [429], "each key has a quota of its own"
        here.node.clock.ms += int(refused.headers["retry-after"]) * 1000
        assert await statuses(here, ALICE, times=6) == [200] * 5 + [429]


async def test_the_usual_request_with_a_key_never_becomes_an_asgi_one() -> None:
    async with keyed(per_minute=100) as here:
        assert await statuses(here, ALICE, times=50) == [200] * 50
        assert here.entered == []
        assert here.gate.admitted == {"alice": 50}


async def test_a_connection_that_stays_is_checked_for_each_request() -> None:
    """Its requests are repeated byte for byte, so that they are answered without being parsed."""
    request = f"GET {KLINES} HTTP/1.1\r\nHost: x\r\nX-MBX-APIKEY: {KEYS['alice']}\r\n\r\n".encode()
    async with keyed(per_minute=30) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        seen = []
        for number in range(35):
            if number == 33:
                here.gate.use(keys(bob=1))
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            seen.append(int(head[9:12]))
        writer.close()
        assert seen == [200] * 30 + [429] * 3 + [401] * 2


@pytest.mark.parametrize("kind", ["kept", "in memory", "neither"])
async def test_without_a_valid_key_nothing_is_served_from_anywhere(kind: str) -> None:
    async with keyed(in_memory=kind == "in memory", per_minute=1_000) as here:
        if kind == "kept":
            assert await statuses(here, ALICE, times=2) == [200, 200]
        for headers, code in (
            ([], -2014),
            ([("X-MBX-APIKEY", KEYS["alice"][1:])], -2014),
            ([("Authorization", "Basic YTpi")], -2014),
            ([UNKNOWN], -2015),
            ([UNKNOWN, BOB], -2015),
        ):
            for target in (KLINES, "/fapi/v1/exchangeInfo", "/fapi/v1/depth?symbol=BTCUSDT", "/fapi/nothing"):
                for _ in range(2):
                    answer = await wire(here.port, target, headers=headers)
                    assert answer.status == 401, (target, headers)
                    assert b'"code":%d' % code in answer.body
                    assert answer.headers["access-control-allow-origin"] == "*"
            for target in ("/v1/coverage", "/v1/verification", "/nothing"):
                answer = await wire(here.port, target, headers=headers)
                assert (answer.status, answer.body[:10]) == (401, b'{"error":"')
                assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_monitoring_needs_no_key_and_the_operator_none_under_v1() -> None:
    async with keyed() as here:
        for target in ("/", "/docs", "/docs/start.js", "/openapi.json", "/v1/health", "/v1/ready"):
            assert set(await statuses(here, times=20, target=target)) <= {200, 503}, target
        operator = next(iter(LOCAL.items()))
        assert await statuses(here, operator, times=20, target="/v1/coverage") == [200] * 20
        assert await statuses(here, operator, times=1, target="/api/v1/status") == [503], "without a collector"
        assert await statuses(here, operator, times=1) == [401], "the admin token is no key for market data"
        assert await statuses(here, ALICE, times=1, target="/v1/admin/verify") != [200]
        assert await statuses(here, times=1, target="/api/v1/status") == [401]


async def test_no_shared_cache_may_keep_what_needs_a_key() -> None:
    async with keyed(per_minute=100) as here:
        for _ in range(3):
            kept = (await wire(here.port, KLINES, headers=[ALICE])).headers["cache-control"]
            assert kept.startswith("private")
        assert "public" not in (await wire(here.port, "/v1/coverage", headers=[ALICE])).headers["cache-control"]
    async with served(Node().app) as port:
        assert (await wire(port, KLINES)).headers["cache-control"].startswith("public")


async def test_what_another_process_has_checked_is_not_counted_again() -> None:
    async with keyed(per_minute=1) as here:
        assert await statuses(here, ALICE, times=2) == [200, 429]
        forwarded = RpcRequest("GET", "/v1/verification", "", "127.0.0.1", [], b"")
        assert (await answer_by(here.node.app, forwarded)).status == 200


async def test_a_refusal_never_repeats_the_key() -> None:
    async with keyed(per_minute=1) as here:
        for headers in ([UNKNOWN], [ALICE], [ALICE]):
            for target in (KLINES, "/v1/coverage"):
                answer = await wire(here.port, target, headers=headers)
                for secret in (*KEYS.values(), UNKNOWN[1]):
                    assert secret.encode() not in answer.body
                    assert secret not in str(answer.header_list)
        assert isinstance(here.gate.admit(b"x"), BinanceError)
