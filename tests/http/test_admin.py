"""Only the operator may use the admin routes, and an invalid wish changes nothing."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.domain.span import Span
from app.http.admin import BODY_BYTES_MAX, understood
from app.kinds.klines import KLINES
from app.ports.errors import StoreUnavailable
from app.verifying.verify import TooManyAudits
from tests.http.fakes import LOCAL, LOCAL_TOKEN, Node, served, wire

REFRESH = "/v1/admin/symbols/refresh"
DONE = {"ok": True, "added": ["NEWUSDT"], "removed": []}


@pytest.mark.parametrize("token", [None, ""])
@pytest.mark.parametrize("client_host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "headers", [{}, {"host": "rebound.example:8000"}, {"origin": "null"}, {"sec-fetch-site": "none"}]
)
async def test_an_address_of_this_machine_proves_nothing(
    token: str | None, client_host: str, headers: dict[str, str]
) -> None:
    """Every proxy has one: nginx with HTTP/1.1 and no headers, a TCP proxy, the published port of a container."""
    async with Node(admin_token=token).client(client_host) as client:
        nobody = await client.post(REFRESH, headers=headers)
        assert nobody.status_code == 401
        assert 'Bearer $(cat klinenode.db.token)"' in nobody.json()["error"], "it says what to do"
        assert "beside the database" in nobody.json()["error"], "it says where the file is"
        for sent in ("Bearer ", "Bearer guessed", f"Basic {LOCAL_TOKEN}", LOCAL_TOKEN, f"Bearer {LOCAL_TOKEN}x"):
            wrong = await client.post(REFRESH, headers={**headers, "authorization": sent})
            assert (wrong.status_code, "ADMIN_TOKEN" in wrong.json()["error"]) == (401, True)
            assert wrong.headers["www-authenticate"].startswith("Bearer ")
        known = await client.post(REFRESH, headers={**headers, **LOCAL})
        assert (known.status_code, known.json()) == (200, DONE)


@pytest.mark.parametrize(
    ("client_host", "headers"),
    [
        ("192.168.1.7", {}),
        ("172.17.0.1", {}),
        ("::ffff:10.0.0.1", {}),
        ("testclient", {}),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"x-forwarded-host": "x"}),
        ("127.0.0.1", {"x-forwarded-proto": "https"}),
        ("127.0.0.1", {"x-real-ip": "127.0.0.1"}),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}),
        ("127.0.0.1", {"via": "1.1 nginx"}),
    ],
)
@pytest.mark.parametrize("sent", [LOCAL, {}])
async def test_the_local_token_is_not_for_networks(
    client_host: str, headers: dict[str, str], sent: dict[str, str]
) -> None:
    async with Node().client(client_host) as client:
        answer = await client.post(REFRESH, headers={**headers, **sent})
    assert (answer.status_code, "set ADMIN_TOKEN" in answer.json()["error"]) == (403, True)


@pytest.mark.parametrize(
    ("client_host", "url", "status"),
    [
        ("192.168.1.7", "http://192.168.1.7:8000", 200),
        ("2001:db8::7", "http://[2001:db8::7]:8000", 200),
        ("192.168.1.8", "http://192.168.1.7:8000", 403),
    ],
)
async def test_a_node_on_an_address_of_the_network_is_asked_from_that_address(
    client_host: str, url: str, status: int
) -> None:
    async with Node().client(client_host) as client:
        assert (await client.post(f"{url}{REFRESH}", headers=LOCAL)).status_code == status


async def test_a_token_that_cannot_be_kept_lets_nobody_in() -> None:
    def fails() -> str:
        raise PermissionError("the folder is read-only")

    async with Node(local_token=fails).client() as client:
        for headers in ({}, LOCAL):
            answer = await client.post(REFRESH, headers=headers)
            assert answer.status_code == 503
            assert "read-only" in answer.json()["error"]
            assert "ADMIN_TOKEN" in answer.json()["error"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer s3cret-ü", 200),
        ("bearer s3cret-ü", 200),
        ("Bearer  s3cret-ü ", 200),
        ("Bearer s3cret-", 401),
        ("Bearer s3cret-üx", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        ("Basic s3cret-ü", 401),
        ("s3cret-ü", 401),
        ("", 401),
    ],
)
@pytest.mark.parametrize("client_host", ["127.0.0.1", "203.0.113.9"])
async def test_with_a_token_only_its_holder_gets_through(client_host: str, authorization: str, status: int) -> None:
    headers = {b"authorization": authorization.encode(), b"x-forwarded-for": b"203.0.113.9"}
    async with Node(admin_token="s3cret-ü").client(client_host) as client:
        answer = await client.post(REFRESH, headers=headers)
        nobody = await client.post(REFRESH)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert "ADMIN_TOKEN" in answer.json()["error"]
    assert nobody.status_code == 401


async def test_a_real_server_lets_in_who_has_read_the_file_however_the_request_came() -> None:
    async with served(Node().app) as port, tcp_proxy(port) as through:
        known = list(LOCAL.items())
        assert (await wire(port, REFRESH, method="POST")).status == 401
        assert (await wire(through, REFRESH, method="POST")).status == 401
        assert (await wire(port, REFRESH, method="POST", headers=known)).status == 200
        marked = [*known, ("X-Forwarded-For", "127.0.0.1")]
        assert (await wire(port, REFRESH, method="POST", headers=marked)).status == 403


@asynccontextmanager
async def tcp_proxy(port: int) -> AsyncIterator[int]:
    """A TCP proxy to `port` that adds nothing to the bytes; yields its port."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            writer.write(chunk)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pass_on(reader, forth))
            tasks.create_task(pass_on(back, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def wish(**changes: Any) -> dict[str, Any]:
    return {
        "symbols": ["btcusdt", "BTCUSDT", "ETHUSDT"],
        "intervals": ["1m", "1M"],
        "start": "2024-01-01T00:00:00Z",
        "end": 1_704_153_600_000,
    } | changes


async def test_a_wish_is_handed_on_each_series_once() -> None:
    node = Node()
    async with node.operator() as client:
        answer = await client.post("/v1/admin/backfill", json=wish())
    assert answer.status_code == 202
    assert answer.json() == {"ok": True, "series": 4, "start": 1_704_067_200_000, "end": 1_704_153_600_000}
    series = [Series(KLINES, name, INTERVALS[code]) for name in ("BTCUSDT", "ETHUSDT") for code in ("1m", "1M")]
    assert node.backfill.requests == [(series, Span(1_704_067_200_000, 1_704_153_600_000))]


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("2024-01-01", 1_704_067_200_000),
        ("2024-01-01T00:00:00", 1_704_067_200_000),
        ("2024-01-01T01:00:00+01:00", 1_704_067_200_000),
        (0, 0),
    ],
)
async def test_times_without_an_offset_are_utc(text: str | int, time_ms: int) -> None:
    node = Node()
    async with node.operator() as client:
        await client.post("/v1/admin/backfill", json=wish(start=text))
    assert node.backfill.requests[0][1].start_ms == time_ms


@pytest.mark.parametrize(
    "changes",
    [
        {"symbols": []},
        {"intervals": []},
        {"symbols": "BTCUSDT"},
        {"symbols": ["NOPE"]},
        {"intervals": ["1s"]},
        {"start": "yesterday"},
        {"start": 1.5},
        {"start": None},
        {"start": -1},
        {"end": 10**14},
        {"end": "2023-01-01"},
        {"end": "9999-12-31"},
        {"symbol": "BTCUSDT"},
    ],
)
async def test_a_wish_that_is_not_understood_changes_nothing(changes: dict[str, Any]) -> None:
    node = Node()
    async with node.operator() as client:
        answer = await client.post("/v1/admin/backfill", json=wish(**changes))
    assert (answer.status_code, set(answer.json()), node.backfill.requests) == (400, {"error"}, [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 10_000,
        b'{"symbols":["\xff"]}',
        b'{"symbols":["\\ud800"]}',
        b'{"x":' + b"[" * 10_000,
    ],
)
async def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    async with Node().operator() as client:
        assert (await client.post("/v1/admin/backfill", content=body)).status_code == 400


async def test_an_audit_is_asked_for_and_reported() -> None:
    node = Node()
    async with node.operator() as client:
        answer = await client.post("/v1/admin/verify", json=wish(symbols=["btcusdt"], intervals=["1m"]))
        assert (answer.status_code, answer.json()["audit"], answer.json()["series"]) == (202, 1, 1)
        assert (await client.get("/v1/verification")).json() == {"audits": [{"audit": 1}]}
        assert (await client.post("/v1/admin/verify", json=wish(symbols=["NOPE"]))).status_code == 400


@pytest.mark.parametrize(("error", "status"), [(TooManyAudits("16 wait"), 429), (StoreUnavailable("a reader"), 503)])
async def test_an_audit_that_cannot_begin_is_refused(error: Exception, status: int) -> None:
    node = Node()
    node.verify.error = error
    async with node.operator() as client:
        answer = await client.post("/v1/admin/verify", json=wish())
        assert (answer.status_code, set(answer.json())) == (status, {"error"})
        if status == 503:
            assert (await client.get("/v1/verification")).status_code == 503


@pytest.mark.parametrize(("rows", "status"), [(True, 202), (False, 202), ("true", 400), (1, 400), (None, 400)])
async def test_every_row_is_compared_when_a_boolean_says_so(rows: object, status: int) -> None:
    node = Node()
    async with node.operator() as client:
        assert (await client.post("/v1/admin/verify", json=wish() | {"rows": rows})).status_code == status
        assert [by_rows for _, _, by_rows in node.verify.requests] == ([rows] if status == 202 else [])
        assert (await client.post("/v1/admin/backfill", json=wish() | {"rows": True})).status_code == 400


async def test_a_large_body_is_refused_before_it_is_read_whole() -> None:
    async with Node().operator() as client:
        assert (await client.post("/v1/admin/backfill", content=b" " * (BODY_BYTES_MAX + 1))).status_code == 413


def test_a_wish_that_repeats_itself_costs_what_it_names_once() -> None:
    body = b'{"symbols":[%b],"intervals":[%b],"start":0,"end":1}' % (
        b",".join([b'"BTCUSDT"'] * 3_000),
        b",".join([b'"1m"'] * 5_000),
    )
    assert len(body) <= BODY_BYTES_MAX
    tracemalloc.start()
    try:
        series, _ = understood(body, lambda text: text)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert series == [Series(KLINES, "BTCUSDT", INTERVALS["1m"])]


async def test_a_wish_is_withdrawn_by_the_same_body() -> None:
    node = Node()
    async with node.operator() as client:
        await client.post("/v1/admin/backfill", json=wish(symbols=["btcusdt"], intervals=["1m"]))
        answer = await client.request("DELETE", "/v1/admin/backfill", json=wish(symbols=["btcusdt"], intervals=["1m"]))
        assert (answer.status_code, answer.json()["withdrawn"], answer.json()["remaining"]) == (200, 1, 0)
        assert node.backfill.withdrawn == node.backfill.requests
        wrong = await client.request("DELETE", "/v1/admin/backfill", json=wish(symbols=["NOPE"]))
    async with node.client("10.0.0.1") as stranger:
        refused = await stranger.request("DELETE", "/v1/admin/backfill", json=wish(symbols=["btcusdt"]))
    assert (wrong.status_code, refused.status_code, len(node.backfill.withdrawn)) == (400, 403, 1)


async def test_a_path_names_all_that_it_takes() -> None:
    async with Node().operator() as client:
        answer = await client.request("OPTIONS", "/v1/admin/backfill")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST, DELETE"
        assert answer.json()["error"] == "/v1/admin/backfill does not take OPTIONS; it takes POST, DELETE."
        health = await client.request("POST", "/v1/health")
        assert health.headers["allow"] == "GET, HEAD"
        assert (await client.request("PATCH", "/fapi/v1/listenKey")).headers["allow"] == "POST, PUT, DELETE"
