"""How soon a closed kline can be had of each worker, seen from outside, as a process of its own.

`python -m tests.programs.rehearsal.watch TASK` keeps connections to the worker that writes and to one that follows.
After each close it asks both for the newest kline of some symbols, from the moment on that the exchange sends it, until
it is there; when SIGTERM ends it, it prints when each was seen.
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

CONNECTIONS: Final = 2  # to each role
KEEP_S: Final = 2.0  # between two signs of life on a connection
READY_MS: Final = 500  # before the close
LOOK_S: Final = 0.005  # between two looks for the same kline
GIVE_UP_MS: Final = 30_000  # after the close


class Task(msgspec.Struct, frozen=True):
    """What to watch."""

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
    """By the exchange's clock, when the answer with the kline had come; 0: never."""


@dataclass
class Watch:
    """What was seen so far."""

    task: Task
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._clock = MovedClock(self.task.shift_ms)
        self._universe = Universe(1, self.task.universe)

    async def run(self) -> None:
        """Minute after minute."""
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
            await self._clock.sleep(max(0, minute_ms + MINUTE_MS - now_ms) / 1000)  # nobody may have been there to ask

    async def _keep(self, wires: dict[str, list[Wire]], until_ms: int) -> None:
        """Have connections to both roles, and keep them: a server closes what is idle for five seconds."""
        while (left_ms := until_ms - self._clock.now_ms()) > 0:
            for role in ROLES:
                wires[role] = [wire for wire in wires[role] if await role_of(wire) == role]
            await meet(self.task.port, wires, CONNECTIONS)
            await self._clock.sleep(min(KEEP_S, left_ms / 1000))

    async def _look(self, role: str, wire: Wire, minute_ms: int, pending: list[tuple[int, str]]) -> None:
        """Take the kline that is due next, look for it, and put it back if it is not there yet."""
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
            if not wire.is_open:  # the worker has died; another connection leads to who knows which
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
    """Carry out the task."""
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Task)
    print(orjson.dumps(msgspec.to_builtins(asyncio.run(_main(task)))).decode())


if __name__ == "__main__":
    main()
