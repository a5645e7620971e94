"""The sandbox as a process of its own, which ends with the command."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.commands.output import fail

SANDBOX_START_S_MAX: Final = 20.0
SANDBOX_STOP_S_MAX: Final = 4.0


@contextmanager
def sandbox_process(port: int, symbols: int) -> Iterator[None]:
    """A sandbox that answers on `port`, and ends with the block."""
    from app import listening
    from app.node.cannot_start import CannotStart

    try:
        listening.listen("127.0.0.1", port).close()
    except CannotStart:  # another program on the port would be taken for our sandbox
        fail(
            f"port {port} is taken, perhaps by a demo that already runs: end it (ss -ltnp shows which program it is), "
            "or call klinenode demo or demo-collector with other ports: --sandbox-port and --port"
        )
    signal.signal(signal.SIGTERM, listening.leave)  # so that `finally` below ends the sandbox, even while it starts
    # -P: the current folder may have a package named "app"
    command = [sys.executable, "-P", "-m", "app.cli", "sandbox", "--port", str(port), "--symbols", str(symbols)]
    pressed = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C stops the node first, then the sandbox
    process = subprocess.Popen(command)  # noqa: S603  our own module
    signal.signal(signal.SIGINT, pressed)
    try:
        _await_sandbox(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(SANDBOX_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_sandbox(process: subprocess.Popen[bytes], port: int) -> None:
    import httpx

    deadline_s = time.monotonic() + SANDBOX_START_S_MAX
    with httpx.Client(trust_env=False, timeout=1.0) as client:
        while time.monotonic() < deadline_s and process.poll() is None:
            try:
                client.get(f"http://127.0.0.1:{port}/fapi/v1/ping")
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
    fail(f"the sandbox did not start on port {port}; what it said stands above")
