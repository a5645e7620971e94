"""Tests that run each page of docs/clients with its real, unpatched client against a real node.

The clients run concurrently, because each waits for a kline to close. `make clients` installs them (.clients/); a
client that is not installed is skipped by name.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest

from app.domain.interval import DAY_MS, HOUR_MS
from infra.sandbox.journal import Entry
from infra.sandbox.server import SandboxServer
from tests.programs.clients.pages import blocks
from tests.system.processes import ROOT, Place, Programs, ShiftedClock, until

CLIENTS: Final = ROOT / ".clients"
PAGES: Final = ROOT / "docs/clients"
CHECKS: Final = Path(__file__).parent / "checks"
PYTHON: Final = ("ccxt", "ccxt-async", "ccxt-pro", "python-binance", "binance-sdk")
NODE_JS: Final = ("node-ccxt", "node-binance")
DEADLINE_S: Final = 240.0  # for all clients together: the rest of a minute, and imports on a busy machine
WHOLE_S: Final = 60.0
ADDRESS: Final = "127.0.0.1:8000"  # the address on the pages
AGE_S: Final = 30.0  # the second of a minute at which the exchange starts: the node is whole before the minute ends
KLINES_MIN: Final = 700  # the checks page through so many
HISTORY_DAYS: Final = 90  # of statistics and funding rates; the exchange itself has statistics of 30 days
HISTORY: Final = ("BTCUSDT@openInterestHist", "BTCUSDT@globalLongShortAccountRatio", "BTCUSDT@fundingRate")
HISTORY_S: Final = 240.0

Command = tuple[tuple[str, ...], dict[str, str]]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Place]:
    settings = {"ONLY_FINAL_DEFAULT": "false", "BACKFILL_DAYS": "2", "INTERVALS": "1m,5m,1h"}
    async with SandboxServer(ShiftedClock(AGE_S), symbols=6) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings=settings)
        place.serve()
        await until(place.is_whole, "the node is whole", WHOLE_S)
        await hold_history(place)
        begun = sandbox.journal.written
        yield place
        assert not [each.path for each in sandbox.journal.since(begun) if is_of_history(each)], "the node holds it"


def is_of_history(entry: Entry) -> bool:
    """Whether an answered request is for a page of statistics that ends more than a day ago."""
    end_ms = int(entry.query.get("endTime", entry.time_ms))
    is_page = entry.path.startswith("/futures/data/") and entry.query.get("period") == "5m"
    return is_page and entry.status == HTTPStatus.OK and end_ms < entry.time_ms - DAY_MS


async def hold_history(place: Place) -> None:
    """Have the node hold HISTORY, and wait until it does."""
    now_ms = (await place.get("/fapi/v1/time")).json()["serverTime"]
    span = {"start": now_ms - HISTORY_DAYS * DAY_MS, "end": now_ms - HOUR_MS}
    async with place.operator() as client:
        for name in HISTORY:
            wish = {"symbols": [name], "intervals": ["1h" if name.endswith("fundingRate") else "5m"], **span}
            (await client.post("/v1/admin/backfill", json=wish)).raise_for_status()

    async def is_held() -> bool:
        reports = [(await place.get(f"/v1/coverage?symbol={name}")).json() for name in HISTORY]
        return all(report["wished"] and report["missing"] == 0 for report in reports)

    await until(is_held, "the history is held", HISTORY_S)


def test_every_page_has_a_check_and_every_check_a_page() -> None:
    pages = {page.stem for page in PAGES.glob("*.md")}
    assert pages == {*PYTHON, *NODE_JS, "freqtrade"}
    checks = {each.stem.replace("_", "-") for each in CHECKS.iterdir() if each.suffix in {".py", ".cjs"}}
    assert checks == pages


async def test_every_client_agrees_with_the_node(node: Place, tmp_path: Path) -> None:
    wanted = dict(commands(node, tmp_path))
    missing = {*PYTHON, *NODE_JS, "freqtrade"} - wanted.keys()
    if not wanted:
        pytest.skip("no client is installed; install them with: make clients")
    failed: dict[str, str] = {}

    async def run(name: str) -> None:
        command, env = wanted[name]
        status, said = await carry_out(command, env, tmp_path)
        if status != 0:
            failed[name] = said[-4_000:]

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        for name in wanted:
            group.create_task(run(name))
    assert not failed, "\n\n".join(f"--- {name}\n{said}" for name, said in failed.items())
    if missing:
        pytest.skip(f"not installed, so not checked: {', '.join(sorted(missing))}; install them with: make clients")


def commands(node: Place, folder: Path) -> Iterator[tuple[str, Command]]:
    """The command that runs each page whose client is installed."""
    address = f"127.0.0.1:{node.port}"
    python = CLIENTS / "python/bin/python"
    if python.exists():
        for page in PYTHON:
            yield page, ((str(python), "-m", "tests.programs.clients.runner", page, address), {})
    if (CLIENTS / "node/node_modules").exists() and shutil.which("node"):
        helpers = str(Path(__file__).parent / "helpers.cjs")
        env = {"NODE_PATH": str(CLIENTS / "node/node_modules"), "HELPERS": helpers, "NODE_ADDRESS": address}
        for page in NODE_JS:
            yield page, (("node", str(written(page, address, folder))), env)
    if (CLIENTS / "freqtrade/bin/freqtrade").exists():
        yield "freqtrade", freqtrade(address, folder / "freqtrade")


def written(page: str, address: str, folder: Path) -> Path:
    """The page's JavaScript and the check of its client as one program."""
    code = [block.replace(ADDRESS, address) for block in blocks(PAGES / f"{page}.md", "js")]
    code.append((CHECKS / f"{page.replace('-', '_')}.cjs").read_text())
    code.append("check().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });\n")
    program = folder / f"{page}.cjs"
    program.write_text("\n".join(code))
    return program


def freqtrade(address: str, folder: Path) -> Command:
    """A command that runs the page's configuration and commands in a new folder, then compares the downloaded files."""
    folder.mkdir()
    (config,) = blocks(PAGES / "freqtrade.md", "json")
    (folder / "config.json").write_text(config.replace(ADDRESS, address))
    (shell,) = blocks(PAGES / "freqtrade.md", "sh")
    data = folder / "user_data/data/binance/futures"
    check = f"python -m tests.programs.clients.checks.freqtrade '{data}' {address}"
    script = f"set -e\ncd '{folder}'\n{shell}\ncd '{ROOT}'\n{check}\n"
    return ("sh", "-c", script), {"PATH": f"{CLIENTS / 'freqtrade/bin'}:/usr/bin:/bin"}


async def carry_out(command: tuple[str, ...], env: dict[str, str], home: Path) -> tuple[int, str]:
    """Run a command with only the given environment; return its exit status and output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    assert process.returncode is not None, "it has ended"
    return process.returncode, said.decode(errors="replace")
