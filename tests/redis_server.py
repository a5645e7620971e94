"""A real Redis server for tests: the program redis-server, if it is on PATH."""

import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest
import redis

from tests.patience import PATIENCE_S
from tests.system.processes import DIES_WITH_US, free_port

SERVER: Final = shutil.which("redis-server")
READY: Final = b"Ready to accept connections"


class RedisServer:
    """A server of its own on loopback that keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options`: as on its command line, such as `--maxmemory 2mb`. Skips the test if there is no such program."""
        if SERVER is None:
            pytest.skip("no redis-server on PATH (Debian, Ubuntu: apt-get install redis-server)")
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        assert SERVER is not None
        words = [SERVER, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        command = [*DIES_WITH_US, *words, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._process.stdout is not None
        said = b""
        for line in self._process.stdout:
            said += line
            if READY in line:
                break
        else:
            raise AssertionError(f"Redis does not start: {said.decode()[-2000:]}")
        self._admin = redis.Redis(port=self.port, socket_timeout=PATIENCE_S)
        self._admin.response_callbacks.clear()  # answers are as the server gives them

    def kill(self) -> None:
        """Kill the server with SIGKILL. Does nothing if it is not running."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        assert process.stdout is not None
        assert self._admin is not None
        process.stdout.close()
        self._admin.close()

    def suspend(self) -> None:
        """Let it answer nothing until `resume`; it receives commands all the same, and answers them then."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str | bytes | int) -> Any:
        """The answer to one command, asked on a connection of the test's own."""
        assert self._admin is not None
        return self._admin.execute_command(*words)  # type: ignore[no-untyped-call]
