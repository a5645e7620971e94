"""The socket of the local stream fan-out, beyond its contract (tests/coordination/test_stream_fanout.py): strangers."""

import asyncio
from pathlib import Path

import pytest

from infra.lines import stream_fanout
from infra.lines.stream_fanout import ENDING, MESSAGE_BYTES_MAX
from infra.local.unix_socket import UnixSocket
from tests.coordination.stream_fanouts import LocalStreamFanouts
from tests.coordination.stream_processes import A, following, joined, writing
from tests.patience import PATIENCE_S

SOCKET = "klinenode.db.streams"


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


@pytest.mark.parametrize(
    "nonsense", [(MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"), b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x02\x91\x01"]
)
async def test_nonsense_ends_its_own_connection_only(tmp_path: Path, nonsense: bytes) -> None:
    fanouts = LocalStreamFanouts(tmp_path)
    async with writing(fanouts) as writer, following(fanouts, A) as one:
        await joined(writer, one)
        reader, stranger = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        stranger.write(nonsense)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        stranger.close()
        writer.hub.deliver(A, b"{}")
        await one.until_received(1)
        assert one.gaps == []


async def test_only_its_own_user_may_use_it(tmp_path: Path) -> None:
    async with writing(LocalStreamFanouts(tmp_path)):
        assert modes(tmp_path) == {SOCKET: 0o600}
    assert modes(tmp_path) == {}


async def test_a_message_that_is_never_finished_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_fanout, "STALL_S_MAX", 0.05)
    async with writing(LocalStreamFanouts(tmp_path)):
        reader, stranger = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        stranger.write((1_000).to_bytes(4, "big") + b"x" * 500)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        stranger.close()


async def test_what_waits_for_a_writer_that_does_not_read_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_fanout, "UNSENT_BYTES_MAX", 100_000)
    came, gone = asyncio.Event(), asyncio.Event()

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            self.transport = transport
            came.set()

        def eof_received(self) -> None:
            gone.set()

        def connection_lost(self, exc: Exception | None) -> None:
            gone.set()

    deaf: list[Deaf] = []

    def protocol() -> Deaf:
        deaf.append(Deaf())
        return deaf[-1]

    place = UnixSocket(tmp_path / "klinenode.db", ENDING)
    await place.serve(protocol)
    async with following(LocalStreamFanouts(tmp_path)) as one, asyncio.timeout(PATIENCE_S):
        await came.wait()
        assert one.gaps == []
        while not one.gaps:
            one.client.add([A])
            one.client.remove([A])
            await asyncio.sleep(0)  # noqa: TID251  lets the socket work
        deaf[0].transport.resume_reading()
        await gone.wait()
    place.close()
