"""A process that measures how soon each worker serves a closed kline, seen from outside.

`python -m tests.programs.rehearsal.watch TASK` keeps connections to the writer and to a follower. After each close it
requests the newest kline of some symbols from both until they serve it; when SIGTERM ends the process, it prints when
each kline was first seen.
"""

import asyncio
import heapq
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
import orjson

from app.domain.interval import MINUTE_MS
from infra.sandbox.close_delay import close_delay_ms
from infra.sandbox.universe import Universe
from tests.programs.rehearsal.exchange import MovedClock
from tests.programs.rehearsal.wire import ROLES, Cut, Wire, meet, role_of

CONNECTIONS: Final = 2  # to the writer, and as many to a follower
KEEP_S: Final = 2.0  # between two keep-alive requests on a connection
READY_MS: Final = 500  # before the close
LOOK_S: Final = 0.005  # between two requests for the same kline
GIVE_UP_MS: Final = 30_000  # after the close


class Task(msgspec.Struct, frozen=True):
    """The node's port and the symbols to watch."""

    port: int
    shift_ms: int
    universe: int
    symbols: list[str]


class Seen(msgspec.Struct, frozen=True):
    """One closed kline on one worker."""

    symbol: str
    minute_ms: int
    """When the kline opened."""
    role: str
    seen_ms: int
    """When the answer with the kline had arrived, by the exchange's clock; 0 if it never did."""


@dataclass
class Watch:
    """The klines seen so far on each worker."""

    task: Task
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._clock = MovedClock(self.task.shift_ms)
        self._universe = Universe(1, self.task.universe)

    async def run(self) -> None:
        """Watch one close after another, for ever."""
        wires: dict[str, list[Wire]] = {role: [] for role in ROLES}
        while True:
            now_ms = self._clock.now_ms()
            minute_ms = now_ms // MINUTE_MS * MINUTE_MS
            await self._keep(wires, minute_ms + MINUTE_MS - READY_MS)
            due: list[tuple[int, str]] = []
            for symbol in self.task.symbols:
                item = self._universe.find(symbol, minute_ms)
                assert item is not None, f"{symbol} is not listed"
                due.append((minute_ms + MINUTE_MS + close_delay_ms(item, minute_ms), symbol))
            heapq.heapify(due)
            async with asyncio.TaskGroup() as tasks:
                for role in ROLES:
                    pending = list(due)
                    for wire in wires[role]:
                        tasks.create_task(self._look(role, wire, minute_ms, pending))
            now_ms = self._clock.now_ms()
            await self._clock.sleep(max(0, minute_ms + MINUTE_MS - now_ms) / 1000)  # both roles may be unreachable

    async def _keep(self, wires: dict[str, list[Wire]], until_ms: int) -> None:
        """Open connections to both roles and keep them alive; the server closes one that is idle for five seconds."""
        while (left_ms := until_ms - self._clock.now_ms()) > 0:
            for role in ROLES:
                wires[role] = [wire for wire in wires[role] if await role_of(wire) == role]
            await meet(self.task.port, wires, CONNECTIONS)
            await self._clock.sleep(min(KEEP_S, left_ms / 1000))

    async def _look(self, role: str, wire: Wire, minute_ms: int, pending: list[tuple[int, str]]) -> None:
        """Request the kline that is due next; put it back if the worker does not serve it yet."""
        closes_ms = minute_ms + MINUTE_MS
        while pending:
            due_ms, symbol = heapq.heappop(pending)
            if (early_ms := due_ms - self._clock.now_ms()) > 0:
                await self._clock.sleep(early_ms / 1000)
            path = f"/fapi/v1/klines?symbol={quote(symbol)}&interval=1m&limit=1"
            try:
                body = (await wire.ask(path)).body if wire.is_open else b""
            except (Cut, OSError, TimeoutError):
                body = b""
            if not wire.is_open:  # the worker has died; a new connection may lead to any worker
                heapq.heappush(pending, (due_ms, symbol))
                return
            now_ms = self._clock.now_ms()
            if body.startswith(b"[[") and int(body[2:15]) >= minute_ms:
                self.seen.append(Seen(symbol, minute_ms, role, now_ms))
            elif now_ms - closes_ms < GIVE_UP_MS:
                heapq.heappush(pending, (now_ms + int(LOOK_S * 1000), symbol))
            else:
                self.seen.append(Seen(symbol, minute_ms, role, 0))


async def _main(task: Task) -> list[Seen]:
    watch = Watch(task)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(watch.run())
        await stop.wait()
        work.cancel()
    return watch.seen


def main() -> None:
    """Run the task in the file that the command line names."""
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Task)
    print(orjson.dumps(msgspec.to_builtins(asyncio.run(_main(task)))).decode())


if __name__ == "__main__":
    main()
