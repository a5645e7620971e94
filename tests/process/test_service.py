"""What systemd receives at a real Unix datagram socket, of a path or abstract, and of workers while all of them run."""

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from infra.process.clock import SystemClock
from infra.process.service import READY, STOPPING, WATCHDOG, Beats, ServiceManager, Watch
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S
from tests.system.processes import Place, Programs, until

SILENCE_S = 3.0  # the parent reports every half second


@contextmanager
def systemd(address: str | Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        name = str(address)
        receiving.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        receiving.setblocking(False)
        yield receiving


def told(receiving: socket.socket) -> list[str]:
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(receiving.recv(4096).decode())
    return found


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"@klinenode-{secrets.token_hex(8)}" if request.param == "abstract" else str(tmp_path / "notify")


def test_a_process_says_ready_once_and_then_that_it_lives(address: str) -> None:
    with systemd(address) as receiving:
        watch = Watch(ServiceManager(address))
        assert told(receiving) == []
        watch()
        watch()
        assert told(receiving) == [READY, WATCHDOG, WATCHDOG]


def test_nobody_listens_and_nothing_fails(tmp_path: Path) -> None:
    Watch(ServiceManager(str(tmp_path / "nobody")))()


def test_a_receiver_that_does_not_read_holds_nobody_up(address: str) -> None:
    with systemd(address) as receiving:
        watch = Watch(ServiceManager(address))
        for _ in range(10_000):
            watch()
        assert told(receiving)[0] == READY


def test_workers_are_ready_together_and_alive_only_together(address: str) -> None:
    with systemd(address) as receiving:
        beats = Beats(ServiceManager(address), late_s=10)
        me = os.getpid()
        beats.look([me], 0.0)
        assert told(receiving) == [], "no worker has reported"
        beats.beat()
        other = os.fork()
        if not other:
            beats.beat()
            os._exit(0)
        os.waitpid(other, 0)
        beats.look([me, other + 1], 1.0)
        assert told(receiving) == [], "a worker that has not reported yet"
        beats.look([me], 2.0)
        assert told(receiving) == [READY, WATCHDOG]
        beats.look([me], 10.9)
        assert told(receiving) == [WATCHDOG]
        beats.look([me], 11.0)
        assert told(receiving) == [], "it has said nothing for ten seconds"
        beats.beat()
        beats.look([me], 50.0)
        assert told(receiving) == [WATCHDOG], "ready is said once"
        beats.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_node_tells_systemd_of_its_life(tmp_path: Path, workers: int) -> None:
    address = f"@klinenode-{secrets.token_hex(8)}"
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"WORKERS": str(workers), "NOTIFY_SOCKET": address})
        with systemd(address) as receiving:
            node = place.serve()
            messages: list[str] = []

            async def says(message: str) -> bool:
                messages.extend(told(receiving))
                return message in messages

            await until(lambda: says(READY), "the node is ready", PATIENCE_S)
            assert messages[0] == READY
            assert (await place.get("/v1/health")).status_code == 200
            messages.clear()
            await until(lambda: says(WATCHDOG), "it lives")
            if workers > 1:
                children = [pid for pid in node.members() if pid != node.pid and is_worker(pid)]
                os.kill(children[0], signal.SIGSTOP)

                async def is_silent() -> bool:
                    messages.clear()
                    told(receiving)
                    await SystemClock().sleep(SILENCE_S)
                    return not await says(WATCHDOG)

                await until(is_silent, "no word while a worker stands still", PATIENCE_S)
                os.kill(children[0], signal.SIGCONT)
                await until(lambda: says(WATCHDOG), "all run again")
            node.signal(signal.SIGTERM)
            await until(lambda: says(STOPPING), "it says that it stops")
            await node.ended()


def is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
