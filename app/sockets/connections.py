"""Bounds on the connections of one process: their number, and the time a peer has for each phase of a connection.

One timer checks all connections once a second, so that a request needs no timer of its own. A phase may therefore last
up to a second longer than its deadline.
"""

import asyncio
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

CONNECTIONS_MAX: Final = 2048  # unless CONNECTIONS_MAX says otherwise; an idle one takes about 10 kB
FILES_BESIDE: Final = 512  # a process's files other than clients: database, sockets to the exchange, pipes, libraries
CONNECTIONS_MIN: Final = 16  # even if the system allows too few open files
SURPLUS_MAX: Final = 64  # connections above the bound that are open to send them a 503; more are closed unanswered
SEND_BYTES_MIN: Final = 16 * 1024  # a peer must take so much within `send_s`; a modem's 0.5 kB/s is enough
SEND_KERNEL_BYTES: Final = 128 * 1024  # Linux doubles it; by default it buffers 2.5 MB for a peer that does not read
RECEIVE_KERNEL_BYTES: Final = 128 * 1024  # by default up to 6 MB while the process does not read
REPORT_EVERY_S: Final = 60.0  # refusals are logged together: a log line for each would let strangers fill the disk
STATE: Final = "connections"  # key of the Connections in the application's lifespan state


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a peer has for each phase of a connection."""

    head_s: float = 10.0
    """From the connection, or from a request's first byte, to the end of the headers."""
    body_s: float = 30.0
    """From the end of the headers to the end of the body; no route takes more than 64 kB."""
    send_s: float = 30.0
    """To receive SEND_BYTES_MIN of the bytes that wait to be sent, or all if there are fewer."""
    idle_s: float = 75.0
    """Between two requests: a client that polls once a minute keeps its connection, and nginx (60 s) closes first."""
    linger_s: float = 2.0
    """After a refusal, to read the answer: closing while the peer still sends would reset it before it is read."""
    goodbye_s: float = 10.0
    """For a socket's client to read what has been sent and to answer the close frame."""
    kernel_s: float = 90.0
    """To acknowledge what the kernel buffers, also after the close; ending a stalled socket takes less (70 s)."""
    sweep_s: float = 1.0
    """Between two checks of all connections."""


class Connection(Protocol):
    """One connection as `Connections` uses it; times are the event loop's."""

    def look(self, now_s: float) -> None:
        """Close the connection if its current phase is past its deadline."""
        ...

    def idle_since_s(self) -> float | None:
        """When the last request was answered; None while a request is in progress."""
        ...

    def make_way(self) -> None:
        """Close the connection, which is idle, to make room for a new one."""
        ...


class Connections:
    """All connections of a process, except those of socket clients, which have a bound of their own.

    A new connection above the bound replaces the one that has been idle longest; if none is idle, it is refused.
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
        """By HTTP status: requests refused before a route saw them."""
        self.made_way = 0
        """Idle connections that were closed to make room."""
        self.overdue = 0
        """Connections that were closed because the peer missed a deadline."""
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
        """The Connections in the application's lifespan state, created on first use."""
        if STATE not in app_state:
            app_state[STATE] = cls()
        return cast("Connections", app_state[STATE])

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_over(self) -> bool:
        """Whether even the surplus is full, so that a new connection is closed without an answer."""
        return len(self._open) > self.connections_max + SURPLUS_MAX

    def enter(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Count a new connection. Return whether it is admitted; at the bound that takes closing an idle one."""
        if not self._open and self._loop is not loop:
            self._loop = loop
            loop.call_later(self.deadlines.sweep_s, self._sweep)
        self._open[connection] = None
        if len(self._open) - len(self._leaving) <= self.connections_max or self._has_made_way(loop.time()):
            return True
        self._leaving.add(connection)  # it closes after its refusal, so that no idle connection has to make room
        return False

    def leave(self, connection: Connection) -> None:
        """Count a connection no longer: it has closed."""
        self._open.pop(connection, None)
        self._leaving.discard(connection)

    def refused(self, status: int) -> None:
        """Count a request that was refused with `status` before a route saw it."""
        self.refused_total[status] += 1
        self._unreported[status] += 1

    def _has_made_way(self, now_s: float) -> bool:
        if not self._idle and now_s >= self._idle_due_s:  # scan all at most once a sweep, however many connect
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
    """Tracks whether a peer receives the bytes that wait for it fast enough."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._waiting_bytes = 0
        self._left_bytes = 0

    def drained(self) -> None:
        """The full write buffer was sent: count this as progress."""
        self._left_bytes = SEND_BYTES_MIN

    def is_stuck(self, waiting_bytes: int, now_s: float, send_s: float) -> bool:
        """Whether the peer took fewer than SEND_BYTES_MIN in `send_s`; `waiting_bytes` are in the buffer now."""
        self._left_bytes += max(0, self._waiting_bytes - waiting_bytes)
        self._waiting_bytes = waiting_bytes
        if not waiting_bytes:
            self._since_s, self._left_bytes = None, 0
        elif self._since_s is None or self._left_bytes >= SEND_BYTES_MIN:
            self._since_s, self._left_bytes = now_s, 0
        return self._since_s is not None and now_s - self._since_s >= send_s


def bound_kernel(transport: asyncio.BaseTransport, deadlines: Deadlines) -> None:
    """Bound the kernel's buffers of a connection, and how long it keeps bytes that the peer does not acknowledge."""
    held = transport.get_extra_info("socket")
    if held is None:
        return
    held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_KERNEL_BYTES)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_KERNEL_BYTES)
    if sys.platform == "linux" and held.family in (socket.AF_INET, socket.AF_INET6):
        held.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(deadlines.kernel_s * 1000))
