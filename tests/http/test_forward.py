"""Requests that only the writer can serve are forwarded to it by every process, for authorized clients only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.http.admin import BODY_BYTES_MAX
from app.http.forward import answer_by
from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from app.ports.errors import StoreUnavailable
from infra.local import writer_rpc as line_module
from infra.local.writer_rpc import WriterRpc
from tests.http.fakes import LOCAL, FakeLine, Node
from tests.patience import PATIENCE_S

WISH = {"symbols": ["BTCUSDT"], "intervals": ["1m"], "start": 0, "end": 60_000}
ELSEWHERE = StoreUnavailable("this process does not hold the writer lease; ask the one that does")


@asynccontextmanager
async def processes(folder: Path, token: str | None = None) -> AsyncIterator[tuple[Node, Node]]:
    """A reader with an RPC connection, and the writer at its other end."""
    writer, end = Node(admin_token=token), WriterRpc(folder / "klinenode.db")
    await end.open(lambda asked: answer_by(writer.app, asked))
    reader = Node(admin_token=token, line=FakeLine(WriterRpc(folder / "klinenode.db")))
    reader.verify.error = ELSEWHERE
    try:
        yield reader, writer
    finally:
        await end.close()


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
        told = await WriterRpc(tmp_path / "klinenode.db").ask(asked)
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


async def test_the_line_of_a_killed_writer_is_taken_over_and_its_name_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("a folder with quite a name " * 5)
    folder.mkdir()

    async def first(asked: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [], b"first")

    async def second(asked: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [], asked.body)

    killed, asked = WriterRpc(folder / "klinenode.db"), RpcRequest("GET", "/", "", "", [], b"x" * 100_000)
    await killed.open(first)
    assert (await WriterRpc(folder / "klinenode.db").ask(asked)).body == b"first"
    successor = WriterRpc(folder / "klinenode.db")
    await successor.open(second)
    assert (await WriterRpc(folder / "klinenode.db").ask(asked)).body == asked.body
    await successor.close()
    with pytest.raises(WriterUnreachable):
        await WriterRpc(folder / "klinenode.db").ask(asked)
    await killed.close()


async def test_only_the_owner_may_use_it_and_so_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "AT_ONCE_MAX", 1)
    gate, entered = asyncio.Event(), asyncio.Event()

    async def answer(asked: RpcRequest) -> RpcResponse:
        entered.set()
        await gate.wait()
        return RpcResponse(200, [], b"")

    end, asked = WriterRpc(tmp_path / "klinenode.db"), RpcRequest("GET", "/", "", "", [], b"")
    await end.open(answer)
    assert (tmp_path / "klinenode.db.line").stat().st_mode & 0o777 == 0o600
    async with asyncio.TaskGroup() as group:
        first = group.create_task(WriterRpc(tmp_path / "klinenode.db").ask(asked))
        await entered.wait()
        with pytest.raises(WriterUnreachable):
            await WriterRpc(tmp_path / "klinenode.db").ask(asked)
        gate.set()
    assert first.result().status == 200
    await end.close()


async def test_a_stranger_on_the_line_is_hung_up_on(tmp_path: Path) -> None:
    async def answer(asked: RpcRequest) -> RpcResponse:
        raise AssertionError("nothing was asked")

    end = WriterRpc(tmp_path / "klinenode.db")
    await end.open(answer)
    for said in (b"GET / HTTP/1.1\r\n\r\n", (2**31).to_bytes(4, "big"), b"\0\0\0\2{}", b"\0"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "klinenode.db.line"))
        writer.write(said)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    await end.close()


async def test_an_answer_that_is_not_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "ASK_S_MAX", 0.2)
    body = b"x" * 4_000_000

    async def answer(asked: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [], body)

    class Watched(WriterRpc):
        over = asyncio.Event()

        async def _serve(self, *arguments: Any) -> None:
            await super()._serve(*arguments)
            self.over.set()

    end = Watched(tmp_path / "klinenode.db")
    await end.open(answer)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "klinenode.db.line"), limit=1)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    asked = msgspec.msgpack.encode(RpcRequest("GET", "/", "", "", [], b""))
    writer.write(len(asked).to_bytes(4, "big") + asked)
    async with asyncio.timeout(PATIENCE_S):
        await end.over.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await reader.read()) < len(body), "the rest was dropped with the connection"
    writer.close()
    await end.close()


async def test_a_request_that_is_never_finished_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "ASK_S_MAX", 0.05)

    async def answer(asked: RpcRequest) -> RpcResponse:
        raise AssertionError("nothing was asked")

    end = WriterRpc(tmp_path / "klinenode.db")
    await end.open(answer)
    for said in (b"", b"\0\0", b"\0\0\1\0half"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "klinenode.db.line"))
        writer.write(said)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()
    await end.close()
