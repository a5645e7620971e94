"""Who is admitted to a node's lines, and what a node that is not admitted is told."""

import asyncio
from pathlib import Path

import pytest

from app.ports.coordination import Admission, NotAdmitted, RpcRequest, RpcResponse, WriterUnreachable
from infra.lines import writer_rpc
from infra.lines.writer_rpc import LineWriterRpc
from infra.local.unix_socket import UnixSocket
from infra.remote import dial as dialling
from infra.remote import lines as remote
from infra.remote.dial import dial
from infra.remote.lines import Holder, RemoteLine, RemoteLines
from tests.coordination.served_lines import TOKEN, ServedLine
from tests.patience import PATIENCE_S

ASKED = RpcRequest("GET", "/", "", "", [], b"question")
BEARER = f"Bearer {TOKEN}"


async def echo(asked: RpcRequest) -> RpcResponse:
    return RpcResponse(200, [], asked.body)


def lines_of(folder: Path, token: str | None = TOKEN) -> RemoteLines:
    async def nobody() -> str | None:
        return None

    line = RemoteLine("line", UnixSocket(folder / "klinenode.db", "line"), Holder(nobody, "", token))
    return RemoteLines({"line": line}, token)


@pytest.mark.parametrize(
    ("service", "shown", "status", "text"),
    [
        ("line", "", 401, "CLUSTER_TOKEN"),
        ("line", "Bearer", 401, "CLUSTER_TOKEN"),
        ("line", f"Basic {TOKEN}", 401, "CLUSTER_TOKEN"),
        ("line", BEARER + "x", 401, "CLUSTER_TOKEN"),
        ("line", "Bearer tök€n", 401, "CLUSTER_TOKEN"),
        ("lines", BEARER, 404, "another version"),
    ],
)
def test_only_a_node_with_the_token_is_admitted(
    tmp_path: Path, service: str, shown: str, status: int, text: str
) -> None:
    lines = lines_of(tmp_path)
    refused = lines.admit(service, shown)
    assert isinstance(refused, NotAdmitted)
    assert refused.status == status
    assert text in refused.text
    assert TOKEN not in refused.text
    assert isinstance(lines_of(tmp_path).admit("line", BEARER), Admission)


def test_without_a_token_nobody_is(tmp_path: Path) -> None:
    for shown in ("", "Bearer ", "Bearer None", BEARER):
        refused = lines_of(tmp_path, None).admit("line", shown)
        assert isinstance(refused, NotAdmitted)
        assert refused.status == 404


def test_visitors_are_limited_and_one_that_leaves_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "VISITORS_MAX", 2)
    lines = lines_of(tmp_path)
    first = lines.admit("line", BEARER)
    assert isinstance(first, Admission)
    assert isinstance(lines.admit("line", BEARER), Admission)
    refused = lines.admit("line", BEARER)
    assert isinstance(refused, NotAdmitted)
    assert refused.status == 503
    first.left()
    assert isinstance(lines.admit("line", BEARER), Admission)


async def test_a_refusal_says_why_and_who_refused(tmp_path: Path) -> None:
    line = ServedLine("line", tmp_path)
    await LineWriterRpc(line).open(echo)
    url = (tmp_path / "line.url").read_text()
    with pytest.raises(OSError, match=f"{url}.*401 Unauthorized"):
        await dial(url, "line", "another token", asyncio.Protocol)
    line.close()
    with pytest.raises(OSError, match=url):
        await dial(url, "line", TOKEN, asyncio.Protocol)


async def test_a_holder_that_accepts_and_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "CONNECT_S_MAX", 0.05)
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    (tmp_path / "line.url").write_text(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(WriterUnreachable, match="no answer in time"):
        await LineWriterRpc(ServedLine(writer_rpc.ENDING, tmp_path)).ask(ASKED)
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()
    server.close()


@pytest.mark.parametrize("said", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 20_000, b""])
async def test_something_else_at_the_url_is_no_writer(tmp_path: Path, said: bytes) -> None:
    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    (tmp_path / "line.url").write_text(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(WriterUnreachable, match="ask again"):
        await LineWriterRpc(ServedLine(writer_rpc.ENDING, tmp_path)).ask(ASKED)
    server.close()
