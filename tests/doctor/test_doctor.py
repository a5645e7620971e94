"""Every trouble that is planted is found by the check of its name, and looking for it changes nothing."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from app.binance.rate_state import RateState
from app.doctor.finding import Finding, State
from app.doctor.network import clock
from app.operate_doctor import CHECK_S_MAX, WEIGHT, Surroundings, examine
from app.ports.probes import Families, Reached
from infra.local.rate_state import encode
from infra.net.reach import reach_families
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from infra.sqlite.lease import WriterLease
from infra.sqlite.library import sqlite3
from infra.sqlite.migrate import upgrade
from tests.net.loopback import Reply, http_host, listening
from tests.system.processes import DIES_WITH_US, KLINENODE, ShiftedClock, free_port

OPENSSL = shutil.which("openssl")
SETPRIV = shutil.which("setpriv")
NOBODY = 65_534
MINUTE_S = 60
LIMIT = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))"
EXEC = "os.execv(sys.argv[1], sys.argv[1:])"
FILES_FEW = 700  # more than the few that the program itself opens, fewer than 1,000 stream clients need


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    async with SandboxServer(SystemClock(), symbols=2) as server:
        yield server


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def settings_of(folder: Path, port: int) -> dict[str, object]:
    """Settings with which nothing is wrong, of a node that asks the exchange on `port` of loopback."""
    return {
        "binance_rest_url": f"http://127.0.0.1:{port}",
        "binance_ws_url": f"ws://127.0.0.1:{port}",
        "binance_archive_url": f"http://127.0.0.1:{port}",
        "db_url": f"sqlite:///{folder}/k.db",
        "disk_free_bytes_min": 0,
        "port": free_port(),
    }


async def troubles(given: dict[str, object], around: Surroundings | None = None) -> dict[str, Finding]:
    """By check: what is not as it should be."""
    return {each.check: each for each in await examine(given, around) if each.state is not State.OK}


async def test_a_healthy_node_has_no_trouble_and_is_not_disturbed(tmp_path: Path, sandbox: SandboxServer) -> None:
    given = settings_of(tmp_path, sandbox.port)
    upgrade(str(given["db_url"]))
    lease = WriterLease(str(given["db_url"]))
    assert await lease.try_acquire("http://127.0.0.1:1")
    with closing(sqlite3.connect(tmp_path / "k.db")) as writer:
        writer.execute("CREATE TABLE other (id INTEGER)")  # stays in the log, as long as the connection is open
        before = state_of(tmp_path)
        findings = await examine(given)
        assert state_of(tmp_path) == before, "nothing was made, removed or written"
    assert [each for each in findings if each.state is not State.OK] == []
    assert len({each.check for each in findings}) == len(findings) == 16
    assert lease.is_held()
    asked = [entry.path for entry in sandbox.journal.since(0) if entry.path.startswith("/fapi")]
    assert asked == ["/fapi/v1/time"] * WEIGHT
    await lease.release()


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mode, b"" if path.name.endswith("-shm") else path.read_bytes())
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


async def test_an_exchange_that_does_not_answer_is_found_by_rest(tmp_path: Path, sandbox: SandboxServer) -> None:
    given = settings_of(tmp_path, sandbox.port) | {"binance_rest_url": f"http://127.0.0.1:{free_port()}"}
    found = await troubles(given)
    assert found.keys() == {"binance-rest", "clock"}
    assert "refused" in found["binance-rest"].sentence
    assert "BINANCE_REST_URL" in found["binance-rest"].advice


async def test_sockets_that_are_blocked_are_found_though_rest_answers(tmp_path: Path, sandbox: SandboxServer) -> None:
    given = settings_of(tmp_path, sandbox.port) | {"binance_ws_url": f"ws://127.0.0.1:{free_port()}"}
    found = await troubles(given)
    assert found.keys() == {"binance-sockets"}
    assert "BINANCE_WS_URL" in found["binance-sockets"].advice


async def test_an_exchange_that_refuses_the_country_is_found(tmp_path: Path) -> None:
    async with http_host(lambda target: Reply(451)) as host:
        found = await troubles(settings_of(tmp_path, host.port))
    assert "refuses this network" in found["binance-rest"].sentence


async def test_a_proxy_that_refuses_is_found_and_its_password_is_not_said(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with listening(refuse) as port:
        urls = dict.fromkeys(("binance_rest_url", "binance_archive_url"), "https://exchange.test")
        given = settings_of(tmp_path, 1) | urls | {"binance_ws_url": "wss://exchange.test"}
        findings = await examine(given | {"https_proxy": f"http://me:geheim@127.0.0.1:{port}"})
    found = {each.check: each for each in findings}
    assert found["proxy"].state is State.FAIL
    assert "407" in found["proxy"].sentence
    assert found["binance-rest"].advice == "see the finding `proxy`"
    assert found["certificates"].state is State.OK
    assert "geheim" not in str(findings)


def make_certificates(folder: Path, *names: str) -> None:
    for name in names:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        out = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run([*command, *subject, *out], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not here")
async def test_a_certificate_of_another_ca_is_found(tmp_path: Path) -> None:
    make_certificates(tmp_path, "mine", "theirs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "theirs.pem", tmp_path / "theirs.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        urls = dict.fromkeys(("binance_rest_url", "binance_archive_url"), f"https://127.0.0.1:{port}")
        given = settings_of(tmp_path, 1) | urls | {"binance_ws_url": f"wss://127.0.0.1:{port}"}
        found = await troubles(given | {"ssl_cert_file": str(tmp_path / "mine.pem")})
    assert "mine.pem does not have its CA" in found["certificates"].sentence
    assert found["binance-rest"].advice == found["binance-sockets"].advice == "see the finding `certificates`"


async def test_a_ca_file_that_is_none_is_found(tmp_path: Path, sandbox: SandboxServer) -> None:
    (tmp_path / "no.pem").write_text("this is no certificate")
    given = settings_of(tmp_path, sandbox.port) | {"binance_rest_url": "https://exchange.test"}
    found = await troubles(given | {"ssl_cert_file": str(tmp_path / "no.pem")})
    assert found["certificates"].state is State.FAIL
    assert "no.pem cannot be used" in found["certificates"].sentence


async def test_an_ipv6_address_that_leads_nowhere_is_found_while_ipv4_works(
    tmp_path: Path, sandbox: SandboxServer
) -> None:
    async def resolving(host: str, port: int) -> dict[int, str]:
        return {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}

    families = await reach_families(f"http://127.0.0.1:{sandbox.port}", resolving)
    if families.is_v6_absent:
        pytest.skip("this machine has no IPv6, not even on loopback")
    found = await troubles(settings_of(tmp_path, sandbox.port), Surroundings(resolving=resolving))
    assert found.keys() == {"ipv6"}
    assert found["ipv6"].state is State.WARN
    assert "::1, which leads nowhere" in found["ipv6"].sentence
    assert families == Families("127.0.0.1", "127.0.0.1", "::1", None, families.v6_failed)


async def test_a_clock_that_is_wrong_is_found(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(-5 * MINUTE_S), symbols=2) as sandbox:
        found = await troubles(settings_of(tmp_path, sandbox.port))
    assert found.keys() == {"clock"}
    assert found["clock"].state is State.FAIL
    assert "ahead of the exchange's" in found["clock"].sentence


@pytest.mark.parametrize(
    ("off_ms", "elapsed_ms", "state"),
    [(-1_700, 100, State.WARN), (-1_700, 3_000, State.OK), (70_000, 3_000, State.FAIL), (61_000, 4_000, State.WARN)],
)
def test_a_slow_answer_makes_no_clock_wrong(off_ms: int, elapsed_ms: int, state: State) -> None:
    """Its time is of some moment of the request."""
    assert clock(Reached("http://exchange", elapsed_ms, status=200, clock_ahead_ms=off_ms)).state is state


async def test_a_full_disk_is_found(tmp_path: Path, sandbox: SandboxServer) -> None:
    found = await troubles(settings_of(tmp_path, sandbox.port) | {"disk_free_bytes_min": 2**50})
    assert found.keys() == {"disk"}
    assert found["disk"].state is State.FAIL


async def test_a_file_system_of_the_network_is_found(tmp_path: Path, sandbox: SandboxServer) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/vda1 rw\n2 1 0:5 / {tmp_path} rw - nfs4 nas:/export rw\n")
    found = await troubles(settings_of(tmp_path, sandbox.port), Surroundings(mounts=mounts))
    assert found.keys() == {"file-system"}
    assert "nfs4" in found["file-system"].sentence


async def test_a_file_that_is_no_database_is_found(tmp_path: Path, sandbox: SandboxServer) -> None:
    (tmp_path / "k.db").write_bytes(b"this is a text file, and a long one at that. " * 100)
    (tmp_path / "k.db").chmod(0o600)
    found = await troubles(settings_of(tmp_path, sandbox.port))
    assert found.keys() == {"database", "schema"}
    assert "is no SQLite database" in found["database"].sentence


async def test_a_server_that_does_not_answer_is_found(tmp_path: Path, sandbox: SandboxServer) -> None:
    url = f"postgresql://me:geheim@127.0.0.1:{free_port()}/k"
    found = await troubles(settings_of(tmp_path, sandbox.port) | {"db_url": url})
    assert found["database"].state is State.FAIL
    assert "geheim" not in str(found)


@pytest.mark.parametrize(("revision", "state"), [("0001", State.WARN), ("9999_from_the_future", State.FAIL)])
async def test_a_schema_of_another_version_is_found(
    tmp_path: Path, sandbox: SandboxServer, revision: str, state: State
) -> None:
    given = settings_of(tmp_path, sandbox.port)
    upgrade(str(given["db_url"]))
    with closing(sqlite3.connect(tmp_path / "k.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    found = await troubles(given)
    assert found.keys() == {"schema"}
    assert found["schema"].state is state
    assert revision in found["schema"].sentence


async def test_a_database_that_everybody_may_open_is_found(tmp_path: Path, sandbox: SandboxServer) -> None:
    given = settings_of(tmp_path, sandbox.port)
    upgrade(str(given["db_url"]))
    (tmp_path / "k.db").chmod(0o644)
    found = await troubles(given)
    assert found.keys() == {"permissions"}
    assert "chmod o-rwx" in found["permissions"].advice


async def test_a_port_that_is_taken_is_found_with_its_owner(tmp_path: Path, sandbox: SandboxServer) -> None:
    given = settings_of(tmp_path, sandbox.port)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given["port"] = taken.getsockname()[1]
        found = await troubles(given)
    assert found.keys() == {"port"}
    assert f"is taken by process {os.getpid()}" in found["port"].sentence


async def test_the_node_on_its_own_port_is_no_trouble(tmp_path: Path, sandbox: SandboxServer) -> None:
    async with http_host(lambda target: Reply(body=b'{"status":"ok","role":"writer"}')) as host:
        findings = await examine(settings_of(tmp_path, sandbox.port) | {"port": host.port})
    (port,) = [each for each in findings if each.check == "port"]
    assert port.state is State.OK
    assert "ok, writer" in port.sentence


async def test_settings_that_contradict_each_other_are_found(tmp_path: Path, sandbox: SandboxServer) -> None:
    found = await troubles(settings_of(tmp_path, sandbox.port) | {"symbols": ("BTCUSDT",)})
    assert found.keys() == {"settings"}
    assert "AUTO_SYNC_SYMBOLS=false" in found["settings"].sentence


async def test_settings_that_cannot_be_used_are_found_alone(tmp_path: Path) -> None:
    found = await troubles({"intervals": ("7m",)})
    assert found.keys() == {"settings"}
    assert found["settings"].state is State.FAIL


async def test_nothing_is_sent_during_a_stand_down(tmp_path: Path, sandbox: SandboxServer) -> None:
    until_ms = SystemClock().now_ms() + 60_000
    (tmp_path / "k.db.weight").write_bytes(encode(RateState(until_ms=until_ms, reason="banned")))
    (tmp_path / "k.db.weight").chmod(0o600)
    found = await troubles(settings_of(tmp_path, sandbox.port))
    assert found.keys() == {"binance-rest", "binance-sockets", "clock"}
    assert "stay away" in found["binance-rest"].sentence
    assert [entry.path for entry in sandbox.journal.since(0) if entry.path.startswith("/fapi")] == []


async def test_an_exchange_that_is_silent_does_not_hold_up_the_command(tmp_path: Path) -> None:
    released = asyncio.Event()
    async with http_host(lambda target: Reply(hold=released)) as host:
        found = await troubles(settings_of(tmp_path, host.port), Surroundings(check_s_max=0.5))
        released.set()
    assert found["exchange"].state is State.FAIL
    assert "was not done within" in found["exchange"].sentence
    assert CHECK_S_MAX <= 10


def run_doctor(folder: Path, given: dict[str, object], before: Sequence[str]) -> tuple[int, dict[str, str]]:
    """The real program in `folder`: its exit status, and by check the state that it prints with --json."""
    env = {name.upper(): str(value) for name, value in given.items()} | {"PATH": "/usr/bin:/bin"}
    command = [*DIES_WITH_US, *before, *KLINENODE, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, cwd=folder, env=env, check=False)
    assert done.stdout, done.stderr
    document = orjson.loads(done.stdout)
    assert document["ok"] is (done.returncode == 0)
    return done.returncode, {each["check"]: each["state"] for each in document["checks"]}


def may_read_the_program() -> bool:
    """Whether another user may read this checkout; only root can find out."""
    command = [str(SETPRIV), f"--reuid={NOBODY}", "--clear-groups", "test", "-r", KLINENODE[0]]
    return os.geteuid() == 0 and SETPRIV is not None and subprocess.run(command, check=False).returncode == 0


@pytest.fixture
def shown_folder() -> Iterator[Path]:
    """A folder that other users may enter, but not write in; they may not enter those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_the_real_program_finds_few_open_files_and_a_folder_of_another_user(
    shown_folder: Path, sandbox: SandboxServer
) -> None:
    """Permissions do not bind root: the program runs as another user, where this test may choose one."""
    before: tuple[str, ...] = (sys.executable, "-c", f"{LIMIT.format(FILES_FEW)}; {EXEC}")
    expected = {"open-files"}
    if may_read_the_program():
        before = (*before, str(SETPRIV), f"--reuid={NOBODY}", "--clear-groups")
        expected |= {"permissions"}
    status, found = await asyncio.to_thread(run_doctor, shown_folder, settings_of(shown_folder, sandbox.port), before)
    assert status == 1
    assert {check for check, state in found.items() if state != "ok"} == expected
