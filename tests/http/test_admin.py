"""Nobody but the operator gets through to the admin routes, and a wish that is not understood changes nothing."""

import tracemalloc
from typing import Any

import pytest

from app.domain.interval import INTERVALS
from app.domain.span import Span
from app.http.admin import BODY_BYTES_MAX, understood
from app.ports import Series, StoreUnavailable
from app.services.verify import TooManyAudits
from tests.http.fakes import Node, served, wire

REFRESH = "/v1/admin/symbols/refresh"
DONE = {"ok": True, "added": ["NEWUSDT"], "removed": []}


@pytest.mark.parametrize(
    ("client_host", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.1.2.3", {"host": "localhost"}, 200),
        ("::1", {"host": "[::1]:8000"}, 200),
        ("::ffff:127.0.0.1", {"host": "LOCALHOST:8000"}, 200),
        ("127.0.0.1", {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ("192.168.1.7", {}, 403),
        ("172.17.0.1", {}, 403),
        ("::ffff:10.0.0.1", {}, 403),
        ("testclient", {}, 403),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, 403),
        ("127.0.0.1", {"x-forwarded-host": "x"}, 403),
        ("127.0.0.1", {"x-forwarded-proto": "https"}, 403),
        ("127.0.0.1", {"x-real-ip": "127.0.0.1"}, 403),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, 403),
        ("127.0.0.1", {"via": "1.1 nginx"}, 403),
        ("127.0.0.1", {"host": "rebound.example:8000"}, 403),
        ("127.0.0.1", {"host": "127.0.0.1.example"}, 403),
        ("127.0.0.1", {"host": "localhost.example"}, 403),
        ("127.0.0.1", {"host": ""}, 403),
        ("127.0.0.1", {"origin": "https://elsewhere.example"}, 403),
        ("127.0.0.1", {"origin": "http://127.0.0.1:9999"}, 403),
        ("127.0.0.1", {"origin": "null"}, 403),
        ("127.0.0.1", {"sec-fetch-site": "cross-site"}, 403),
        ("127.0.0.1", {"sec-fetch-site": "same-site"}, 403),
        ("10.0.0.1", {"authorization": "Bearer "}, 403),
    ],
)
@pytest.mark.parametrize("token", [None, ""])
async def test_without_a_token_only_programs_of_this_machine_get_through(
    token: str | None, client_host: str, headers: dict[str, str], status: int
) -> None:
    async with Node(admin_token=token).client(client_host) as client:
        answer = await client.post(REFRESH, headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == DONE
    else:
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


async def test_a_real_server_tells_a_direct_client_from_a_proxied_one() -> None:
    async with served(Node().app) as port:
        assert (await wire(port, REFRESH, method="POST")).status == 200
        assert (await wire(port, REFRESH, method="POST", headers=[("X-Forwarded-For", "127.0.0.1")])).status == 403


def wish(**changes: Any) -> dict[str, Any]:
    return {
        "symbols": ["btcusdt", "BTCUSDT", "ETHUSDT"],
        "intervals": ["1m", "1M"],
        "start": "2024-01-01T00:00:00Z",
        "end": 1_704_153_600_000,
    } | changes


async def test_a_wish_is_handed_on_each_series_once() -> None:
    node = Node()
    async with node.client() as client:
        answer = await client.post("/v1/admin/backfill", json=wish())
    assert answer.status_code == 202
    assert answer.json() == {"ok": True, "series": 4, "start": 1_704_067_200_000, "end": 1_704_153_600_000}
    series = [Series(name, INTERVALS[code]) for name in ("BTCUSDT", "ETHUSDT") for code in ("1m", "1M")]
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
    async with node.client() as client:
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
    async with node.client() as client:
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
    async with Node().client() as client:
        assert (await client.post("/v1/admin/backfill", content=body)).status_code == 400


async def test_an_audit_is_asked_for_and_reported() -> None:
    node = Node()
    async with node.client() as client:
        answer = await client.post("/v1/admin/verify", json=wish(symbols=["btcusdt"], intervals=["1m"]))
        assert (answer.status_code, answer.json()["audit"], answer.json()["series"]) == (202, 1, 1)
        assert (await client.get("/v1/verification")).json() == {"audits": [{"audit": 1}]}
        assert (await client.post("/v1/admin/verify", json=wish(symbols=["NOPE"]))).status_code == 400


@pytest.mark.parametrize(("error", "status"), [(TooManyAudits("16 wait"), 429), (StoreUnavailable("a reader"), 503)])
async def test_an_audit_that_cannot_begin_is_refused(error: Exception, status: int) -> None:
    node = Node()
    node.verify.error = error
    async with node.client() as client:
        answer = await client.post("/v1/admin/verify", json=wish())
        assert (answer.status_code, set(answer.json())) == (status, {"error"})
        if status == 503:
            assert (await client.get("/v1/verification")).status_code == 503


async def test_a_large_body_is_refused_before_it_is_read_whole() -> None:
    async with Node().client() as client:
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
    assert series == [Series("BTCUSDT", INTERVALS["1m"])]


async def test_a_wish_is_withdrawn_by_the_same_body() -> None:
    node = Node()
    async with node.client() as client:
        await client.post("/v1/admin/backfill", json=wish(symbols=["btcusdt"], intervals=["1m"]))
        answer = await client.request("DELETE", "/v1/admin/backfill", json=wish(symbols=["btcusdt"], intervals=["1m"]))
        assert (answer.status_code, answer.json()["withdrawn"], answer.json()["remaining"]) == (200, 1, 0)
        assert node.backfill.withdrawn == node.backfill.requests
        wrong = await client.request("DELETE", "/v1/admin/backfill", json=wish(symbols=["NOPE"]))
    async with node.client("10.0.0.1") as stranger:
        refused = await stranger.request("DELETE", "/v1/admin/backfill", json=wish(symbols=["btcusdt"]))
    assert (wrong.status_code, refused.status_code, len(node.backfill.withdrawn)) == (400, 403, 1)
