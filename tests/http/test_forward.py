"""Requests that only the writer can serve are forwarded to it by every process, for authorized clients only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.http.admin import BODY_BYTES_MAX
from app.ports.coordination import RpcRequest
from app.ports.errors import StoreUnavailable
from tests.coordination.local_lines import LocalWriterRpc
from tests.http.fakes import LOCAL, Node
from tests.http.processes import processes as two_processes

WISH = {"symbols": ["BTCUSDT"], "intervals": ["1m"], "start": 0, "end": 60_000}
ELSEWHERE = StoreUnavailable("this process does not hold the writer lease; ask the one that does")


@asynccontextmanager
async def processes(folder: Path, token: str | None = None) -> AsyncIterator[tuple[Node, Node]]:
    """A reader that cannot verify, and the writer."""
    async with two_processes(folder, token) as (reader, writer):
        reader.verify.error = ELSEWHERE
        yield reader, writer


async def test_every_admin_request_reaches_the_writer(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, writer), reader.operator() as client:
        answer = await client.post("/v1/admin/backfill", json=WISH)
        assert (answer.status_code, answer.json()["series"]) == (202, 1)
        assert (len(writer.backfill.requests), reader.backfill.requests) == (1, [])
        answer = await client.post("/v1/admin/verify", json=WISH)
        assert (answer.status_code, answer.json()["audit"]) == (202, 1)
        answer = await client.get("/v1/verification")
        assert (answer.status_code, answer.json()) == (200, {"audits": [{"audit": 1}]})
        assert answer.headers["cache-control"] == "no-store"
        answer = await client.post("/v1/admin/symbols/refresh")
        assert answer.json() == {"ok": True, "added": ["NEWUSDT"], "removed": []}


async def test_the_writers_refusals_come_back_as_they_are(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, writer), reader.operator() as client:
        answer = await client.post("/v1/admin/backfill", json={**WISH, "intervals": ["7m"]})
        assert (answer.status_code, "No such interval" in answer.json()["error"]) == (400, True)
        writer.verify.error = StoreUnavailable("the disk is full")
        answer = await client.get("/v1/verification")
        assert (answer.status_code, "the disk is full" in answer.text) == (503, True)
        answer = await client.post("/v1/admin/backfill", content=b" " * (BODY_BYTES_MAX + 1))
        assert answer.status_code == 413


@pytest.mark.parametrize(
    ("token", "host", "headers", "status"),
    [
        (None, "127.0.0.1", LOCAL, 202),
        (None, "127.0.0.1", {}, 401),
        (None, "10.0.0.1", LOCAL, 403),
        (None, "127.0.0.1", {**LOCAL, "x-forwarded-for": "127.0.0.1"}, 403),
        ("secret", "10.0.0.1", {"authorization": "Bearer secret"}, 202),
        ("secret", "127.0.0.1", {"authorization": "Bearer wrong"}, 401),
        ("secret", "127.0.0.1", {}, 401),
    ],
)
async def test_who_may_not_ask_gets_nothing_through(
    tmp_path: Path, token: str | None, host: str, headers: dict[str, str], status: int
) -> None:
    async with processes(tmp_path, token) as (reader, writer), reader.client(host) as client:
        answer = await client.post("/v1/admin/backfill", json=WISH, headers=headers)
        assert answer.status_code == status
        assert len(writer.backfill.requests) == (status == 202)


@pytest.mark.parametrize(("token", "client"), [(None, "127.0.0.1"), (None, "10.0.0.1"), ("secret", "127.0.0.1")])
async def test_the_writer_checks_again_who_asked(tmp_path: Path, token: str | None, client: str) -> None:
    """A process with other settings on the same database, or a foreign one, cannot pass on its own authorization."""
    async with processes(tmp_path, token) as (_, writer):
        headers = [("host", "127.0.0.1:8000"), ("content-type", "application/json")]
        asked = RpcRequest("POST", "/v1/admin/symbols/refresh", "", client, headers, b"")
        told = await LocalWriterRpc(tmp_path / "klinenode.db").ask(asked)
        assert told.status == 401
        assert writer.symbols.error is None


async def test_a_writer_that_is_gone_is_said_so_with_when_to_ask_again(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, _):
        pass
    async with reader.operator() as client:
        answer = await client.post("/v1/admin/backfill", json=WISH)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["x-klinenode-reason"] == "writer"
        assert "does not answer" in answer.json()["error"]
