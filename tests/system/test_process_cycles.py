"""A node that is started and stopped repeatedly in one process leaves nothing behind."""

import asyncio
import gc
import threading
from pathlib import Path

import httpx

from app.node.node import Node
from app.node.parts import Parts
from app.settings import load
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.system.processes import until

CYCLES = 3
GROWTH_MIB_MAX = 15.0  # a cycle; measured 6: FastAPI keeps the routes of the last applications


def memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def threads() -> list[str]:
    """The names of the living threads, without the event loop's pool, which grows to its limit and stays."""
    return [thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]


def open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


async def one_life(sandbox: SandboxServer, folder: Path) -> None:
    settings = load(
        {
            "binance_rest_url": sandbox.base_url,
            "binance_ws_url": sandbox.ws_url,
            "binance_archive_url": sandbox.base_url,
            "db_url": f"sqlite:///{folder}/klinenode.db",
            "backfill_days": 2,
            "disk_free_bytes_min": 0,
            "log_level": "ERROR",
        },
        env_file=None,
    )
    node = Node(Parts(settings))
    async with node.running():

        async def is_whole() -> bool:
            return node.parts.symbols.synced_ms is not None and not any(
                gap.missing for gap in node.parts.coverage.gaps()
            )

        await until(is_whole, "the wish is held")
        transport = httpx.ASGITransport(app=node.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            for interval in ("1m", "5m", "1h"):
                answer = await client.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval={interval}&limit=500")
                assert answer.status_code == 200


async def test_no_task_thread_file_or_memory_outlives_a_node(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=6) as sandbox:
        memory = []
        await one_life(sandbox, tmp_path / "first")  # fills caches of libraries, which stay
        tasks, threads_before = asyncio.all_tasks(), threads()
        for number in range(CYCLES):
            before = open_files()
            await one_life(sandbox, tmp_path / f"cycle-{number}")
            gc.collect()

            async def connections_are_closed(before: set[str] = before) -> bool:
                return len(open_files()) <= len(before)  # includes the exchange's side, which is closed a moment later

            await until(connections_are_closed, f"files are closed: {open_files() - before}")
            leftover = {task for task in asyncio.all_tasks() - tasks if "sandbox" not in repr(task.get_coro())}
            assert not leftover
            assert len(threads()) <= len(threads_before), threads()
            memory.append(memory_mib())
        print(f"MEASURED memory after each cycle: {[round(each, 1) for each in memory]} MiB")
        assert (memory[-1] - memory[0]) / (CYCLES - 1) < GROWTH_MIB_MAX
