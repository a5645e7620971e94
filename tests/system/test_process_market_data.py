"""Market data from several processes on one database: the writer alone sends the request for all of them."""

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx

from infra.net.tls import trusting_nobody
from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Programs, ShiftedClock, until

ASKED = 40  # requests on separate connections, spread over the workers by chance
STEADY = ("/fapi/v1/fundingInfo", "/fapi/v1/tradingSchedule", "/futures/data/delivery-price?pair=BTCUSDT")

BAD = (
    "/fapi/v1/depth?symbol=NOSUCHUSDT",
    "/fapi/v1/continuousKlines?pair=BTCUSDT&contractType=X&interval=1m",
)


async def ask_all(places: list[Place], target: str) -> set[tuple[int, bytes]]:
    """Send `target` to all processes many times at once; return the set of different answers."""
    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(place.get(target)) for place in places for _ in range(ASKED)]
    return {(answer.result().status_code, answer.result().content) for answer in answers}


def asked(sandbox: SandboxServer, target: str, since: int) -> int:
    return sum(entry.path == target.split("?")[0] for entry in sandbox.journal.since(since))


async def test_all_processes_together_ask_once_and_go_on_when_the_writer_dies(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"WORKERS": "2"})
        other = Place(programs, sandbox.port)
        place.serve()
        await until(place.is_whole, "the wish is held")
        other.serve()
        await until(other.is_whole, "the second instance knows it")
        async with httpx.AsyncClient(base_url=sandbox.base_url, verify=trusting_nobody()) as exchange:
            for target in STEADY:
                begun = sandbox.journal.written
                ((status, body),) = await ask_all([place, other], target)
                assert asked(sandbox, target, begun) == 1, target
                assert (status, body) == (200, (await exchange.get(target)).content)
        for bad in (
            "/fapi/v1/depth?symbol=NOSUCHUSDT",
            "/fapi/v1/continuousKlines?pair=BTCUSDT&contractType=X&interval=1m",
        ):
            begun = sandbox.journal.written
            ((status, body),) = await ask_all([place, other], bad)
            assert status == 400
            assert asked(sandbox, bad, begun) <= 1

        note = json.loads((programs.folder / f"{place.database}.lock").read_text())
        os.kill(note["pid"], signal.SIGKILL)

        async def all_answer() -> bool:
            answers = await ask_all([place, other], "/fapi/v1/ticker/price?symbol=BTCUSDT")
            return {status for status, _ in answers} == {200}

        await until(all_answer, "whoever writes now asks for all")
