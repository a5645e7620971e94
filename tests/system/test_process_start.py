"""Starting and stopping the real program: from the sample file, with mistakes, and by SIGTERM."""

import os
import shutil
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.listening import listen
from app.node.prepare import CannotStart
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from infra.sqlite.library import sqlite3
from tests.system.processes import KLINENODE, Place, Programs, ShiftedClock, free_port, pause, seconds, until

MIB = 1 << 20
MINUTE_MS = 60_000


async def sample_text(programs: Programs) -> str:
    status, said = await programs.run("config", "--sample")
    assert status == 0
    return said


def trading(sandbox: SandboxServer) -> int:
    """The number of USDT perpetuals that the sandbox trades right now."""
    now_ms = SystemClock().now_ms()
    listed = sandbox.exchange.universe.at(now_ms)
    perpetual = [item for item in listed if "PERPETUAL" in item.contract_type and item.quote_asset == "USDT"]
    return sum(item.status(now_ms) == "TRADING" for item in perpetual)


async def test_the_node_starts_from_the_sample_file_verbatim_and_answers(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        (tmp_path / ".env").write_text(await sample_text(programs))
        place = Place(programs, sandbox.port)
        wanted = {name: place.env[name] for name in place.env if name.startswith("BINANCE_") or name in {"PORT"}}
        node = programs.start("serve", env={**wanted, "DB_URL": place.db_url})

        async def answered() -> bool:
            answer = await place.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=3")
            return answer.status_code == 200 and len(answer.json()) == 3

        await until(answered, "three klines are served")
        assert not node.events("TaskEnded")


async def test_the_log_says_what_the_wish_amounts_to(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"BACKFILL_DAYS": "30", "INTERVALS": "1m,1h"})
        node = place.serve()

        async def estimated() -> list[dict[str, int]]:
            return node.events("WishEstimated")

        before = trading(sandbox)
        (estimate,) = await until(estimated, "the estimate is logged")
        # 1m and 1h of four symbols, a TradFi one, and the two or three that live for a day, which depends on the hour
        assert estimate["series"] in {2 * before, 2 * trading(sandbox)}
        assert before in {7, 8}
        minutes, hours = 5 * 30 * 1440, 5 * 30 * 24
        assert minutes + hours < estimate["klines"] < (minutes + hours) * 1.3
        assert estimate["missing_klines"] == estimate["klines"]
        assert 30 * estimate["klines"] < estimate["disk_bytes"] < 100 * estimate["klines"]
        assert 20 * minutes < estimate["download_bytes"] < 60 * minutes
        assert 0 < estimate["requests"] < 500
        assert 0 < estimate["expected_s"] < 600
        free = shutil.disk_usage(tmp_path).free
        assert abs(estimate["disk_free_bytes"] - free) < 1024 * MIB
        assert "30 days back" in str(estimate["summary"])
        assert not node.events("SymbolsReplaced"), "SYMBOLS were not set"


async def test_sigterm_keeps_what_was_served_and_the_next_start_works_at_once(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        served = (await place.get("/fapi/v1/klines?symbol=ETHUSDT&interval=1m&limit=500")).json()
        began_s = seconds()
        node.signal(signal.SIGTERM)
        assert await node.ended() == 0
        print(f"MEASURED idle shutdown: {seconds() - began_s:.2f} s")
        held = {series: ledger.held for series, ledger in (await place.ledgers()).items()}
        minutes = next(spans for series, spans in held.items() if f"{series.symbol}{series.interval}" == "ETHUSDT1m")
        assert all(minutes.span_at(row[0]) for row in served), "served but not stored"
        mark = sandbox.journal.written
        place.serve()
        await until(place.is_up, "the second start answers")
        assert (await place.health())["role"] == "writer", "the lease was not given back"
        again = (await place.get("/fapi/v1/klines?symbol=ETHUSDT&interval=1m&limit=500")).json()
        assert again[: len(again) - 2] == [row for row in served if row[0] >= again[0][0]][: len(again) - 2]
        assert sum(entry.path == "/fapi/v1/klines" for entry in sandbox.journal.since(mark)) <= 30


async def test_sigterm_writes_what_a_locked_database_kept_waiting(tmp_path: Path) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    async with SandboxServer(ShiftedClock(elapsed_s=48), symbols=3) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        open_ms = sandbox.exchange.clock.now_ms() // MINUTE_MS * MINUTE_MS
        with closing(sqlite3.connect(tmp_path / place.database, isolation_level=None)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")

            async def closed_rows_are_served() -> bool:
                path = "/fapi/v1/klines?symbol={}&interval=1m&limit=1"
                newest = [(await place.get(path.format(symbol))).json()[0][0] for symbol in symbols]
                return newest == [open_ms] * len(symbols)

            await until(closed_rows_are_served, "the minute is served while it cannot be written")
            began_s = seconds()
            node.signal(signal.SIGTERM)
            await pause(1)
            stranger.execute("ROLLBACK")
        assert await node.ended() == 0
        print(f"MEASURED shutdown with the database locked for its first second: {seconds() - began_s:.2f} s")
        held = {f"{series.symbol}{series.interval}": ledger.held for series, ledger in (await place.ledgers()).items()}
        assert [symbol for symbol in symbols if not held[f"{symbol}1m"].span_at(open_ms)] == []


async def test_a_request_under_way_ends_before_the_node_does(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        sandbox.inject(kind="slow", delay_s=1.5, interval="1d")  # outside the wish, so that it is read through, slowly
        host, port = "127.0.0.1", place.port
        with socket.create_connection((host, port), timeout=10) as client:
            client.sendall(
                b"GET /fapi/v1/klines?symbol=BTCUSDT&interval=1d&limit=2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            client.setblocking(False)

            async def has_asked() -> bool:
                return any(entry.query.get("interval") == "1d" for entry in sandbox.journal.since(0)) or bool(
                    sandbox.faults.describe(0)[0]["hits"]
                )

            await until(has_asked, "the node asks the exchange")
            began_s = seconds()
            node.signal(signal.SIGTERM)
            assert await node.ended() == 0
            print(f"MEASURED shutdown with a slow request under way: {seconds() - began_s:.2f} s")
            client.setblocking(True)
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")


async def test_all_mistakes_in_the_settings_are_named_at_once(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        wrong = {
            "PORT": "99999",
            "INTERVALS": "1m,7m",
            "BACKFILL_DAYS": "soon",
            "DB_URL": "mysql://x/y",
            "WORKERS": "0",
        }
        for command in ("serve", "config", "gaps", "backfill"):
            status, said = await programs.run(command, env=wrong)
            assert status == 2
            assert [name for name in wrong if name not in said] == []
            assert "Traceback" not in said


async def test_a_misspelt_name_and_a_foreign_host_are_named(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        place = Place(programs, free_port())
        status, said = await programs.run("serve", env={**place.env, "HOST": "x86_64-conda-linux-gnu"})
        assert (status, "Traceback" in said) == (2, False)
        assert "HOST=x86_64-conda-linux-gnu is not an address of this machine" in said
        (tmp_path / ".env").write_text("BACKFILL_DAY=30\nTZ=UTC\n")
        for command in ("serve", "gaps"):
            status, said = await programs.run(command, env=place.env)
            assert (status, "Traceback" in said) == (2, False)
            assert "BACKFILL_DAY: no setting has this name, BACKFILL_DAYS is the closest" in said
            assert "TZ, which is no setting" in said


async def test_proxies_of_any_kind_do_not_keep_loopback_from_being_asked(tmp_path: Path) -> None:
    """A SOCKS proxy in the shell's environment applies to every command."""
    nonsense = dict.fromkeys(("http_proxy", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE"), "socks4://u:geheim@nowhere:1")
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={**nonsense, "ADMIN_TOKEN": "ein gehe\u00efmes Wort \u5e01"})
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        elsewhere = {**nonsense, **{name: place.env[name] for name in ("DB_URL", "ADMIN_TOKEN", "PORT")}}
        status, said = await programs.run("gaps", env=elsewhere)
        assert status in (0, 1)
        status, said = await programs.run("backfill", "--symbol", "BTCUSDT", "--interval", "1h", env=elsewhere)
        assert status == 0, said
        assert "geheim" not in node.said()
        node.signal(signal.SIGTERM)
        assert await node.ended() == 0
        status, said = await programs.run("backfill", "--symbol", "BTCUSDT", "--interval", "1h", env=elsewhere)
        assert status == 2
        assert "HTTPS_PROXY: a proxy of socks4:// cannot be used" in said
        assert "geheim" not in said


@pytest.mark.parametrize("text", ["9" * 5_000, "9" * 20, "-1", "0001-01-01", "9999-12-31", "1e3", "\uff11", "", "now"])
def test_a_time_of_any_length_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    for option in ("--start", "--end"):
        done = CliRunner().invoke(app, ["gaps", f"{option}={text}"])
        assert (done.exit_code, type(done.exception)) == (2, SystemExit), done.output
        assert option in done.output
        assert len(done.output) < 1_000


async def test_a_taken_port_is_said_in_a_sentence_before_anything_is_touched(tmp_path: Path) -> None:
    with socket.socket() as taken:
        async with Programs(tmp_path) as programs:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            place = Place(programs, free_port(), port=port)
            for workers in ("1", "2"):
                status, said = await programs.run("serve", env={**place.env, "WORKERS": workers})
                assert status == 2
                assert f"PORT {port}: another program uses" in said
                assert "Traceback" not in said
            assert not (tmp_path / place.database).exists()
            status, said = await programs.run("demo", "--port", str(free_port()), "--sandbox-port", str(port))
            assert status == 2
            assert "--sandbox-port" in said


def test_of_two_servers_that_start_together_one_has_the_port() -> None:
    with listen("127.0.0.1", 0) as first:  # as while the database is prepared
        port = first.getsockname()[1]
        with pytest.raises(CannotStart, match=f"PORT {port}"):
            listen("127.0.0.1", port)
        with listen("127.0.0.2", port) as second:
            assert second.getsockname()[1] == port


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, workers: str) -> None:
    async with Programs(tmp_path) as programs:
        place = Place(programs, free_port())
        database = sqlite3.connect(tmp_path / place.database)
        with database:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")
            database.execute("INSERT INTO alembic_version VALUES ('9999_from_the_future')")
        database.close()
        for command in ("serve", "backfill"):
            status, said = await programs.run(command, env={**place.env, "WORKERS": workers})
            assert status == 2
            assert "newer version" in said
            assert "Traceback" not in said


async def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        place = Place(programs, free_port())
        (tmp_path / "file").write_text("not a folder")
        for command in ("serve", "backfill"):
            status, said = await programs.run(command, env={**place.env, "DB_URL": f"sqlite:///{tmp_path}/file/k.db"})
            assert status == 2
            assert "DB_URL" in said
            assert "Traceback" not in said


async def test_a_file_that_is_no_database_leaves_the_node_up_and_degraded(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        (tmp_path / place.database).write_bytes(b"this is a text file, and a long one at that. " * 100)
        place.serve()

        async def says_why() -> bool:
            report = await place.health()
            return report["status"] == "degraded" and "no SQLite database" in str(report["reasons"])

        await until(says_why, "health names the file")
        answer = await place.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m")
        assert answer.status_code == 503
        assert answer.json().keys() == {"code", "msg"}
        assert int(answer.headers["retry-after"]) > 0
        (tmp_path / place.database).unlink()
        await until(place.is_whole, "the node starts over by itself")


async def test_config_masks_what_is_secret(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        env = {"ADMIN_TOKEN": "tok-12345", "HTTPS_PROXY": "http://me:pass-678@proxy:1", "INTERVALS": '["1h", "1m"]'}
        status, said = await programs.run("config", env=env)
        assert status == 0
        assert "tok-12345" not in said
        assert "pass-678" not in said
        assert "INTERVALS=1m,1h\n" in said
        assert "********@proxy:1" in said


async def test_a_folder_named_app_where_it_is_called_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('the wrong app')")
    port, sandbox_port = free_port(), free_port()
    async with Programs(tmp_path) as programs:
        demo = programs.start("demo", "--port", str(port), "--sandbox-port", str(sandbox_port), "--symbols", "2")
        await until(Place(programs, sandbox_port, port=port).is_up, "the demo answers")
        demo.signal(signal.SIGTERM)
        assert await demo.ended() == 0


async def test_the_application_runs_under_plain_uvicorn_too(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        uvicorn = (sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app", "--port", str(place.port))
        programs.start(command=uvicorn, env=place.env)
        await until(place.is_whole, "the wish is held")


def test_the_command_under_test_is_the_installed_one() -> None:
    assert os.access(KLINENODE[0], os.X_OK)
