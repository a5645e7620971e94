"""Two nodes behind nginx are restarted one after the other, under load, without a request that fails."""

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.system.nginx import NGINX, nginx_conf
from tests.system.processes import Place, Programs, free_port, seconds, until

CLIENTS = 6
PAUSE_S = 0.01  # between two requests of a client
MINUTE_MS = 60_000


@dataclass
class Load:
    """What the clients have received: by path and status, and the slowest answer."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest_s: float = 0.0
    is_over: bool = False

    async def run(self, port: int, number: int) -> None:
        clock = SystemClock()
        end_ms = clock.now_ms() - 20 * MINUTE_MS
        paths = [
            "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=10",
            "/fapi/v1/klines?symbol=ETHUSDT&interval=5m&limit=500",
            "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit={limit}&endTime={end}",
            "/fapi/v1/time",
            "/fapi/v1/exchangeInfo",
            "/v1/coverage?limit=1",
        ]
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=25, verify=trusting_nobody()
        ) as client:
            while not self.is_over:
                number += 1
                path = paths[number % len(paths)]
                began_s = seconds()
                full = path.format(limit=5 + number % 90, end=end_ms - number % 600 * MINUTE_MS)
                answer = await client.get(full)
                self.slowest_s = max(self.slowest_s, seconds() - began_s)
                self.answers[path, answer.status_code] += 1
                if answer.status_code != 200:
                    print(f"{full}: {answer.status_code} {dict(answer.headers)} {answer.text[:300]}")
                await clock.sleep(PAUSE_S)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
async def test_a_rolling_restart_fails_no_request(tmp_path: Path) -> None:
    assert NGINX is not None
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        places = [Place(programs, sandbox.port), Place(programs, sandbox.port)]  # of one database
        nodes = [places[0].serve()]
        await until(places[0].is_whole, "the wish is held")
        nodes.append(places[1].serve())
        for place in places:
            await until(lambda place=place: is_ready(place), "the node is ready")  # type: ignore[misc]
        port = free_port()
        conf = nginx_conf(tmp_path, port, places[0].port, second_port=places[1].port, rate="100000r/s")
        programs.start("-p", str(tmp_path), "-c", str(conf), "-e", str(tmp_path / "error.log"), command=(NGINX,))

        async def forwards() -> bool:
            async with httpx.AsyncClient(trust_env=False, verify=trusting_nobody()) as client:
                return (await client.get(f"http://127.0.0.1:{port}/v1/health")).status_code == 200

        await until(forwards, "nginx answers")
        load = Load()
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(load.run(port, number * 1_000))
            try:
                for number, place in enumerate(places):
                    counted = load.answers.total()
                    nodes[number].signal(signal.SIGTERM)
                    assert await nodes[number].ended() == 0
                    nodes[number] = place.serve()
                    await until(lambda place=place: is_ready(place), "the node is ready again")  # type: ignore[misc]
                    assert load.answers.total() - counted > 20, "nothing was asked meanwhile"
            finally:
                load.is_over = True
        total = load.answers.total()
        failed = {key: count for key, count in load.answers.items() if key[1] != 200}
        print(
            f"MEASURED {total} requests over two restarts, {sum(failed.values())} failed, "
            f"slowest {load.slowest_s:.2f} s"
        )
        if failed:
            print((tmp_path / "error.log").read_text()[-20_000:])
        assert failed == {}


async def is_ready(place: Place) -> bool:
    return (await place.get("/v1/ready")).status_code == 200
