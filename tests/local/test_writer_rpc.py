"""The socket of LocalWriterRpc, beyond its contract (tests/coordination/test_writer_rpc.py): strangers and modes."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.ports.coordination import RpcRequest, RpcResponse
from infra.lines import writer_rpc
from tests.coordination.local_lines import LocalWriterRpc
from tests.patience import PATIENCE_S


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def test_only_its_own_user_may_use_it(tmp_path: Path) -> None:
    async def answer(asked: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [], b"")

    end = LocalWriterRpc(tmp_path / "klinenode.db")
    await end.open(answer)
    assert modes(tmp_path) == {"klinenode.db.line": 0o600}
    await end.close()
    assert modes(tmp_path) == {}


async def test_a_stranger_on_the_line_is_hung_up_on(tmp_path: Path) -> None:
    async def answer(asked: RpcRequest) -> RpcResponse:
        raise AssertionError("nothing was asked")

    end = LocalWriterRpc(tmp_path / "klinenode.db")
    await end.open(answer)
    for said in (b"GET / HTTP/1.1\r\n\r\n", (2**31).to_bytes(4, "big"), b"\0\0\0\2{}", b"\0"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "klinenode.db.line"))
        writer.write(said)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    await end.close()


async def test_an_answer_that_is_not_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_rpc, "REQUEST_S_MAX", 0.2)
    body = b"x" * 4_000_000

    async def answer(asked: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [], body)

    class Watched(LocalWriterRpc):
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
    monkeypatch.setattr(writer_rpc, "REQUEST_S_MAX", 0.05)

    async def answer(asked: RpcRequest) -> RpcResponse:
        raise AssertionError("nothing was asked")

    end = LocalWriterRpc(tmp_path / "klinenode.db")
    await end.open(answer)
    for said in (b"", b"\0\0", b"\0\0\1\0half"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "klinenode.db.line"))
        writer.write(said)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()
    await end.close()
