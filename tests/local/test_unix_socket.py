"""The sockets of a database are made and found whatever its path is like, and only its user's own are trusted."""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from infra.local.unix_socket import UnixSocket, _bound
from infra.sqlite.url import sqlite_path
from tests.coordination.local_lines import LocalWriterRpc

ASKED = RpcRequest("GET", "/", "", "", [], b"question")
NO_SOCKETS = Path("/proc/self")  # a folder in which nobody can make a file, root included


async def echo(asked: RpcRequest) -> RpcResponse:
    return RpcResponse(200, [], asked.body)


def content(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def modes(*paths: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in paths]


def make(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)


@asynccontextmanager
async def open_line(database: Path) -> AsyncIterator[None]:
    line = LocalWriterRpc(database)
    await line.open(echo)
    try:
        yield
    finally:
        await line.close()


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for sockets that cannot lie beside the database; the session's is there for people only."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("infra.local.unix_socket._SESSIONS", tmp_path / "no sessions")
    return tmp_path / f"klinenode-{os.geteuid()}"


@pytest.mark.parametrize(
    "names",
    [
        ("k.db",),
        ("f" * 200, "k.db"),
        ("f" * 200, "g" * 200, "h" * 200, "k.db"),
        ("n" * 90 + ".db",),
        ("f" * 200, "n" * 244 + ".db"),
        ("行情数据", "Lager für Kerzen é.db"),
        ("行" * 80, "情" * 80),
        (os.fsdecode(b"\xff\xfe"), os.fsdecode(b"\xe9.db")),
        ("with ? and # and %20", "a b\n.db"),
    ],
)
async def test_any_path_of_a_database_has_its_line(tmp_path: Path, names: tuple[str, ...]) -> None:
    database = tmp_path.joinpath(*names)
    database.parent.mkdir(parents=True, exist_ok=True)
    async with open_line(database):
        assert (await LocalWriterRpc(database).ask(ASKED)).body == b"question"
    assert content(database.parent) == [], "nothing of it stays"
    with pytest.raises(WriterUnreachable):
        await LocalWriterRpc(database).ask(ASKED)


async def test_two_databases_with_long_names_have_two_lines(tmp_path: Path) -> None:
    one, two = tmp_path / ("n" * 200 + "1"), tmp_path / ("n" * 200 + "2")
    async with open_line(one):
        with pytest.raises(WriterUnreachable):
            await LocalWriterRpc(two).ask(ASKED)
        async with open_line(two):
            assert (await LocalWriterRpc(two).ask(ASKED)).body == b"question"
        assert (await LocalWriterRpc(one).ask(ASKED)).body == b"question"


async def test_where_the_folder_has_no_sockets_it_lies_in_a_folder_of_the_users_own(own_folder: Path) -> None:
    database = NO_SOCKETS / "k.db"
    async with open_line(database):
        assert (await LocalWriterRpc(database).ask(ASKED)).body == b"question"
        assert modes(own_folder, *content(own_folder)) == [0o700, 0o600]
    assert content(own_folder) == []


async def test_a_folder_that_others_may_write_to_is_not_trusted(own_folder: Path) -> None:
    database = NO_SOCKETS / "k.db"
    make(own_folder, 0o777)
    with pytest.raises(OSError, match=f"no socket can be made at {database}"):
        await LocalWriterRpc(database).open(echo)
    async with open_line(own_folder / "k.db"):  # somebody's socket, by the name that ours would have
        (stranger,) = content(own_folder)
        stranger.rename(UnixSocket(database, "line")._elsewhere[-1])
        with pytest.raises(WriterUnreachable):
            await LocalWriterRpc(database).ask(ASKED)


async def test_what_a_killed_writer_left_elsewhere_is_not_met_any_more(tmp_path: Path, own_folder: Path) -> None:
    database = tmp_path / "k.db"
    make(own_folder, 0o700)
    left = UnixSocket(database, "line")._elsewhere[-1]
    _bound(left).close()
    async with open_line(database):
        assert (await LocalWriterRpc(database).ask(ASKED)).body == b"question"
        assert not left.exists()


async def test_a_database_named_relative_to_the_working_directory_has_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_line(sqlite_path("sqlite:///./data/../k.db")):
        assert (await LocalWriterRpc(tmp_path / "k.db").ask(ASKED)).body == b"question"
