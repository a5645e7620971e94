"""The connections of one process: how many there may be, and how long a peer may take over each phase of one.

One timer looks at all of them once a second, so that a request sets none. A phase may therefore last up to a second
longer than its deadline.
"""

import asyncio
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

CONNECTIONS_MAX: Final = 2048  # unless CONNECTIONS_MAX says otherwise; an idle one takes about 10 kB
SURPLUS_MAX: Final = 64  # beyond the bound, for as long as it takes to tell them so; more are closed without a word
SEND_BYTES_MIN: Final = 16 * 1024  # that have to leave in `send_s`; a modem's 0.5 kB/s is enough
SEND_KERNEL_BYTES: Final = 128 * 1024  # Linux doubles it; without a bound it keeps 2.5 MB for a peer that does not read
RECEIVE_KERNEL_BYTES: Final = 128 * 1024  # without a bound up to 6 MB while nothing is read
REPORT_EVERY_S: Final = 60.0  # refusals are reported together: a log line for each would let strangers fill the disk
STATE: Final = "connections"  # under which the application's lifespan may hand over the Connections of its process


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a peer has."""

    head_s: float = 10.0
    """From its connection, or from a request's first byte, to the end of the headers."""
    body_s: float = 30.0
    """From the end of the headers to the end of the body; no route takes more than 64 kB."""
    send_s: float = 30.0
    """To take SEND_BYTES_MIN of what waits to be sent, or all of it."""
    idle_s: float = 75.0
    """Between two requests: clients that ask once a minute keep their connection, and nginx (60 s) closes it first."""
    linger_s: float = 2.0
    """After it was refused, to read why: closing while it still sends would destroy the answer on its way."""
    goodbye_s: float = 10.0
    """To read what is under way to a socket's client and to answer the closing frame."""
    kernel_s: float = 90.0
    """To acknowledge what the kernel holds, also after we closed; longer than a stalled socket's end takes (70 s)."""
    sweep_s: float = 1.0
    """Between two looks at all connections."""


class Connection(Protocol):
    """What the process knows of a connection."""

    def look(self, now_s: float) -> None:
        """End it if it is overdue."""
        ...

    def idle_since_s(self) -> float | None:
        """Since when nothing has been asked; None for one that is in use."""
        ...

    def make_way(self) -> None:
        """Close an idle one."""
        ...


class Connections:
    """All connections of a process but those of socket clients, whose bound is another.

    The surplus takes the place of the one that has been idle longest, if one is idle.
    """

    def __init__(
        self,
        deadlines: Deadlines | None = None,
        connections_max: int = CONNECTIONS_MAX,
        report: Callable[[dict[int, int]], None] = lambda refused: None,
    ) -> None:
        self.deadlines = deadlines or Deadlines()
        self.connections_max = connections_max
        self.refused_total: Counter[int] = Counter()
        """Refusals by status, of requests that no route saw."""
        self.made_way = 0
        self.overdue = 0
        """Connections that were ended because their peer took too long."""
        self._report = report
        self._unreported: Counter[int] = Counter()
        self._report_due_s = 0.0
        self._open: dict[Connection, None] = {}
        self._leaving: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._idle_due_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def of(cls, app_state: dict[str, Any]) -> "Connections":
        """Those of the process whose application handed over `app_state`."""
        if STATE not in app_state:
            app_state[STATE] = cls()
        return cast("Connections", app_state[STATE])

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_over(self) -> bool:
        """Whether there are so many that the newest is not even told so."""
        return len(self._open) > self.connections_max + SURPLUS_MAX

    def enter(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Count a new connection; whether there is room for it, if need be for the price of an idle one."""
        if not self._open and self._loop is not loop:
            self._loop = loop
            loop.call_later(self.deadlines.sweep_s, self._sweep)
        self._open[connection] = None
        if len(self._open) - len(self._leaving) <= self.connections_max or self._has_made_way(loop.time()):
            return True
        self._leaving.add(connection)  # as soon as it has been told so: no idle one has to make way for it
        return False

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self._open.pop(connection, None)
        self._leaving.discard(connection)

    def refused(self, status: int) -> None:
        """A request was refused before any route saw it."""
        self.refused_total[status] += 1
        self._unreported[status] += 1

    def _has_made_way(self, now_s: float) -> bool:
        if not self._idle and now_s >= self._idle_due_s:  # a flood may not cost a look at all of them each time
            self._idle_due_s = now_s + self.deadlines.sweep_s
            since = {each: each.idle_since_s() for each in self._open if each not in self._leaving}
            idle = [(idle_s, each) for each, idle_s in since.items() if idle_s is not None]
            self._idle = deque(each for _, each in sorted(idle, key=lambda pair: pair[0]))
        while self._idle:
            oldest = self._idle.popleft()
            if oldest in self._open and oldest.idle_since_s() is not None:
                self.made_way += 1
                self._leaving.add(oldest)
                oldest.make_way()
                return True
        return False

    def _sweep(self) -> None:
        assert self._loop is not None, "there is a connection"
        now_s = self._loop.time()
        for connection in tuple(self._open):
            connection.look(now_s)
        self._tell(now_s)
        if self._open or self._unreported:
            self._loop.call_later(self.deadlines.sweep_s, self._sweep)
        else:
            self._loop = None
            self._idle.clear()

    def _tell(self, now_s: float) -> None:
        if self._unreported and now_s >= self._report_due_s:
            self._report_due_s = now_s + REPORT_EVERY_S
            refused, self._unreported = self._unreported, Counter()
            self._report(dict(refused))


class Sending:
    """Whether what waits for a peer leaves fast enough."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._waiting_bytes = 0
        self._left_bytes = 0

    def drained(self) -> None:
        """A buffer that was full has left."""
        self._left_bytes = SEND_BYTES_MIN

    def is_stuck(self, waiting_bytes: int, now_s: float, send_s: float) -> bool:
        """Whether too little has left in `send_s`, now that `waiting_bytes` wait."""
        self._left_bytes += max(0, self._waiting_bytes - waiting_bytes)
        self._waiting_bytes = waiting_bytes
        if not waiting_bytes:
            self._since_s, self._left_bytes = None, 0
        elif self._since_s is None or self._left_bytes >= SEND_BYTES_MIN:
            self._since_s, self._left_bytes = now_s, 0
        return self._since_s is not None and now_s - self._since_s >= send_s


def bound_kernel(transport: asyncio.BaseTransport, deadlines: Deadlines) -> None:
    """Bound what the kernel keeps for a connection, and for how long it keeps what nobody acknowledges."""
    held = transport.get_extra_info("socket")
    if held is None:
        return
    held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_KERNEL_BYTES)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_KERNEL_BYTES)
    if sys.platform == "linux" and held.family in (socket.AF_INET, socket.AF_INET6):
        held.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(deadlines.kernel_s * 1000))
