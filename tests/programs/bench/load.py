"""A load generator on keep-alive connections: wrk where it is installed, otherwise our own.

Our own is a process (`python -m tests.programs.bench.load`, its task as JSON on stdin) with one epoll loop over plain
sockets, without asyncio, because it must cost less than the servers it measures.
"""

import asyncio
import re
import select
import shutil
import socket
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from time import perf_counter_ns
from typing import Final

import orjson

WRK: Final = shutil.which("wrk")
QUANTILES: Final = (*(n / 100 for n in range(1, 100)), 0.995, 0.999, 0.9999)
WRK_S_MIN: Final = 1.0  # wrk counts in whole seconds
PATIENCE_S: Final = 60.0  # after a measurement's time, until it is given up
_BUFFER_BYTES: Final = 1 << 19
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_DONE_LUA: Final = """
function done(summary, latency, requests)
  local parts = {}
  for i, q in ipairs({%s}) do parts[i] = string.format("%%.3f", latency:percentile(q * 100) / 1000) end
  local e = summary.errors
  io.write(string.format("\\nRESULT {\\"requests\\": %%d, \\"seconds\\": %%f, \\"failed\\": %%d, \\"ms\\": [%%s]}\\n",
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.timeout + e.status,
    table.concat(parts, ",")))
end
"""
_PATHS_LUA: Final = """
local requests, at = {}, 0
function init(args)
  for path in io.lines("%s") do requests[#requests + 1] = wrk.format("GET", path) end
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
"""


@dataclass(frozen=True)
class Load:
    """The requests to send: `paths` in turn on `connections`, for `seconds`, or each path once if that is None."""

    port: int
    paths: Sequence[str]
    connections: int
    seconds: float | None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The result of a load; `ms` are the latencies at QUANTILES."""

    requests: int
    seconds: float
    failed: int
    ms: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds

    def quantile_ms(self, quantile: float) -> float:
        """The latency that `quantile` of the answers stayed below."""
        return self.ms[QUANTILES.index(quantile)]


async def apply(load: Load, folder: Path) -> Outcome:
    """Apply `load`, with wrk or with our own generator as a process."""
    paths = folder / "paths.txt"
    paths.write_text("".join(f"{path}\n" for path in load.paths))
    if WRK is None or load.seconds is None or load.seconds < WRK_S_MIN:
        return await asyncio.to_thread(_by_ours, load, paths)
    return await asyncio.to_thread(_by_wrk, load, paths, folder / "load.lua")


def _by_wrk(load: Load, paths: Path, script: Path) -> Outcome:
    assert WRK is not None
    assert load.seconds is not None
    many = _PATHS_LUA % paths if len(load.paths) > 1 else ""
    script.write_text(many + _DONE_LUA % ",".join(map(str, QUANTILES)))
    command = [WRK, "-t1", f"-c{load.connections}", f"-d{max(1, round(load.seconds))}s", f"-s{script}"]
    for name, value in load.headers.items():
        command += ["-H", f"{name}: {value}"]
    said = _said([*command, f"http://127.0.0.1:{load.port}{load.paths[0]}"], b"", load.seconds)
    found = orjson.loads(said.rpartition("\nRESULT ")[2])
    return Outcome(found["requests"], found["seconds"], found["failed"], tuple(found["ms"]))


def _by_ours(load: Load, paths: Path) -> Outcome:
    task = {
        "port": load.port,
        "paths": str(paths),
        "connections": load.connections,
        "seconds": load.seconds,
        "headers": dict(load.headers),
    }
    found = orjson.loads(
        _said([sys.executable, "-m", "tests.programs.bench.load"], orjson.dumps(task), load.seconds or 0)
    )
    return Outcome(found["requests"], found["seconds"], found["failed"], tuple(found["ms"]))


def _said(command: Sequence[str], text: bytes, seconds: float) -> str:
    done = subprocess.run(command, input=text, capture_output=True, timeout=seconds + PATIENCE_S, check=False)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr.decode()[-2000:]}"
    return done.stdout.decode()


# --- our own generator ------------------------------------------------------------------------------------------------


class _Connection:
    """One socket with the answer that it is receiving."""

    __slots__ = ("asked_ns", "head", "left", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.left = -1  # missing bytes of the body; -1 until its size is known
        self.head = b""
        self.asked_ns = 0

    def ask(self, request: bytes) -> None:
        self.left, self.head = -1, b""
        self.asked_ns = perf_counter_ns()
        self.sock.sendall(request)

    def take(self, piece: memoryview) -> bytes | None:
        """Parse received bytes; return the status when the answer is complete, else None."""
        if self.left < 0:
            self.head += bytes(piece[:65_536]) if self.head else bytes(piece[:4_096])
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return None
            length = _LENGTH.search(self.head, 0, end)
            self.left = (int(length[1]) if length else 0) + end + 4
        self.left -= len(piece)
        return self.head[9:12] if self.left <= 0 else None


def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float | None) -> dict[str, object]:
    """Send requests until the time is over or every request is answered; return counts and latencies."""
    asked = iter(requests) if seconds is None else chain.from_iterable(repeat(requests))
    poller, by_number = select.epoll(), {}
    for _ in range(min(connections, len(requests)) if seconds is None else connections):
        connection = _Connection(port)
        poller.register(connection.sock.fileno(), select.EPOLLIN)
        by_number[connection.sock.fileno()] = connection
    latencies, statuses = array("q"), Counter[bytes]()
    buffer = bytearray(_BUFFER_BYTES)
    view = memoryview(buffer)
    began_ns = now_ns = perf_counter_ns()
    end_ns = began_ns + int(seconds * 1e9) if seconds is not None else None
    for connection in by_number.values():
        connection.ask(next(asked))
    waiting = len(by_number)
    while waiting and (end_ns is None or now_ns < end_ns):
        for number, _ in poller.poll(PATIENCE_S):
            connection = by_number[number]
            size = connection.sock.recv_into(buffer)
            assert size, "the server hung up"
            status = connection.take(view[:size])
            if status is None:
                continue
            now_ns = perf_counter_ns()
            latencies.append(now_ns - connection.asked_ns)
            statuses[status] += 1
            if (request := next(asked, None)) is None:
                waiting -= 1
            else:
                connection.ask(request)
    for connection in by_number.values():
        connection.sock.close()
    poller.close()
    elapsed_s = (now_ns - began_ns) / 1e9
    ordered = sorted(latencies)
    failed = sum(count for status, count in statuses.items() if status not in (b"200", b"304"))
    ms = [ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] / 1e6 for quantile in QUANTILES]
    return {"requests": len(ordered), "seconds": elapsed_s, "failed": failed, "ms": ms}


def main() -> None:
    """Run the task on stdin and print the result as JSON."""
    task = orjson.loads(sys.stdin.buffer.read())
    headers = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **task["headers"]}.items())
    paths = Path(task["paths"]).read_text().splitlines()
    requests = [f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode() for path in paths]
    print(orjson.dumps(drive(task["port"], requests, task["connections"], task["seconds"])).decode())


if __name__ == "__main__":
    main()
