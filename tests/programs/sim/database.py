"""A real Postgres server in the simulated network: a session of the server for each simulated connection.

Nodes connect to it as to the exchange, so that latency and every fault of the network are on virtual time. A request
that has arrived is executed at once, while virtual time stands still; its reply then takes its way through the network.
Only a statement that waits for another session's lock lets time go on. Whenever a request was executed or a session has
ended, those that wait are looked at again.

So statements, replies, lock waits and notifications come in the same order in every run of a seed. Rows that a
statement leaves unordered come as they lie in the tables, which the same statements fill in the same way. Not the same
are process ids, object ids and the server's clock, on which nothing of the node depends.

The server's own time-outs are on virtual time too: locks, idle sessions, and transactions that are idle. It has no
statement_timeout, because no statement takes any time: a client's own time-out, which is longer, ends those that a slow
server answers late. Deadlocks between sessions would be found after a second of real time, at any virtual time.
"""

import asyncio
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

import asyncpg

from tests.programs.sim import wire
from tests.programs.sim.loop import SimLoop
from tests.programs.sim.outside import Outside

ANSWER_S_MAX: Final = 120.0
"""Real time after which a server that says nothing has failed, and with it the seed."""
LOOK_S: Final = 0.005
"""Real time without an answer after which the server is asked whether the statement waits for a lock."""
_READ_BYTES: Final = 1 << 20

_IS_BLOCKED: Final = "SELECT pg_blocking_pids($1) <> '{}'"
_CANCELLED, _LOCK_TIMEOUT = b"C57014\0", b"C55P03\0"
_TERMINATED, _IDLE, _IDLE_IN_TRANSACTION = b"C57P01\0", b"C57P05\0", b"C25P03\0"
"""How an error message says which error it is."""
_UNCHANGED: Final = (_CANCELLED, _CANCELLED)


class Database:
    """The server's side of all connections to one database."""

    def __init__(self, loop: SimLoop, path: str, observer: asyncpg.Connection, outside: Outside) -> None:
        """`path` is that of the server's Unix socket; `observer` a real connection, which runs `outside`."""
        self.loop = loop
        self.path = path
        self.delay_s: Callable[[], float] = lambda: 0.0
        self.sessions: dict[Session, None] = {}
        self.waiting: dict[Session, None] = {}
        """Those whose statements wait for locks."""
        self._observer, self._outside = observer, outside

    def session(self) -> "Session":
        """Make the session of a new connection."""
        return Session(self)

    def happened(self, by: "Session | None", *, has_committed: bool = False) -> None:
        """Look again at the sessions that `by` may have woken: by releasing locks, or by a notification."""
        for session in list(self.waiting):
            session.look_again()
        for session in list(self.sessions) if has_committed else ():
            if session is not by:
                session.fetch_notifications()

    def is_blocked(self, pid: int) -> bool:
        """Whether the statement of a session waits for a lock that another one holds."""
        return bool(self._outside.run(self._observer.fetchval(_IS_BLOCKED, pid)))

    def signal(self, pid: int, function: str) -> None:
        """Call `pg_cancel_backend` or `pg_terminate_backend` for a session."""
        self._outside.run(self._observer.fetchval(f"SELECT {function}($1)", pid))

    def session_of(self, pid: int) -> "Session | None":
        """The session with a process id of the server."""
        return next((session for session in self.sessions if session.pid == pid), None)

    def close(self) -> None:
        """End all sessions without a word to their clients, after the end of the simulation."""
        for session in list(self.waiting):
            self.signal(session.pid, "pg_terminate_backend")
        for session in list(self.sessions):
            session.end()


class Session(asyncio.Protocol):
    """One connection: simulated towards the client, real towards the server."""

    transport: asyncio.Transport

    def __init__(self, database: Database) -> None:
        self.pid = 0
        self._database, self._loop = database, database.loop
        self._requests, self._replies = wire.Requests(), wire.Replies()
        self._queue: deque[wire.Request] = deque()
        self._reply = bytearray()
        self._status = wire.IDLE
        self._errors = _UNCHANGED
        self._timeouts_ms: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._listens = self._is_over = self._has_left = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S_MAX)
        self._process: int | None = None

    # --- the client ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a connection is a stream"
        self.transport = transport
        self._database.sessions[self] = None
        self._socket.connect(self._database.path)

    def data_received(self, data: bytes) -> None:
        for request in self._requests.feed(data):
            self._queue.append(request)
            if len(self._queue) == 1:
                self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_left = True
        if not self._queue:  # otherwise the server notices it after the requests that have arrived
            self.end()

    # --- requests -----------------------------------------------------------------------------------------------

    def _next(self) -> None:
        self._set_timer(0)
        self._loop.call_later(self._database.delay_s(), self._execute)

    def _execute(self) -> None:
        if self._is_over:
            return
        request = self._queue[0]
        self._timeouts_ms |= request.timeouts_ms
        self._listens |= request.kind in (wire.QUERY, wire.FLUSH) and b"LISTEN " in request.data
        if request.kind == wire.TERMINATE:
            self._send_rest()
        elif request.kind == wire.CANCEL:
            self._cancel(request.data)
        else:
            self._socket.sendall(request.data)
            self._read_reply()

    def _read_reply(self, *, may_wait: bool = True) -> None:
        """Read the reply to the first request, and send it; or let the request wait, if it waits for a lock."""
        ends = wire.ENDS[self._queue[0].kind]
        while True:
            if may_wait and self.pid and not select.select([self._socket], [], [], LOOK_S)[0]:
                if self._database.is_blocked(self.pid):
                    self._wait()
                    return
                continue
            if not (data := self._socket.recv(_READ_BYTES)):
                self._send_rest()
                return
            for message in self._replies.feed(data):
                self._reply += message.replace(*self._errors)
                if message[:1] == wire.KEY:
                    self.pid = wire.pid_of(message)
                    self._process = os.pidfd_open(self.pid)
                if message[:1] in ends:
                    self._finish(message)
                    return

    def _wait(self) -> None:
        """Let time go on until the lock is free, or until the session's lock_timeout."""
        if self not in self._database.waiting:
            self._database.waiting[self] = None
            self._set_timer(self._timeouts_ms.get("lock", 0), self._give_up_lock)

    def _finish(self, last: bytes) -> None:
        self._database.waiting.pop(self, None)
        before, self._status = self._status, last[5:6] if last[:1] == wire.READY else self._status
        self._send()
        self._errors = _UNCHANGED
        self._queue.popleft()
        if self._queue:
            self._next()
        elif self._has_left:
            self.end()
        else:
            self._await_request()
        self._database.happened(self, has_committed=before != wire.IDLE == self._status)

    def _send(self) -> None:
        reply, self._reply = bytes(self._reply), bytearray()
        if reply and not self.transport.is_closing():
            self.transport.write(reply)

    def _cancel(self, data: bytes) -> None:
        """Have the server cancel the statement of another session, which then no longer waits."""
        self._socket.sendall(data)
        while self._socket.recv(_READ_BYTES):
            pass
        other = self._database.session_of(int.from_bytes(data[8:12], "big"))
        self.transport.close()
        if other in self._database.waiting:
            other._read_reply(may_wait=False)

    def look_again(self) -> None:
        """Read the reply of a statement that has waited for a lock, unless it still waits."""
        if self in self._database.waiting:
            self._read_reply()

    def fetch_notifications(self) -> None:
        """Send the client what the server has to notify it of, now that another session has committed."""
        if not self._listens or self._is_over or self._status != wire.IDLE or self in self._database.waiting:
            return
        self._socket.sendall(wire.PING)
        while True:
            for message in self._replies.feed(self._socket.recv(_READ_BYTES)):
                if message[:1] == wire.NOTIFICATION:
                    self._reply += message
                if message[:1] == wire.READY:
                    self._send()
                    return

    # --- time-outs and ends -------------------------------------------------------------------------------------

    def _await_request(self) -> None:
        is_idle = self._status == wire.IDLE
        timeout_ms = self._timeouts_ms.get("idle_session" if is_idle else "idle_in_transaction_session", 0)
        code = _IDLE if is_idle else _IDLE_IN_TRANSACTION
        self._set_timer(timeout_ms, lambda: self.terminate(code))

    def _set_timer(self, delay_ms: int, then: Callable[[], None] = lambda: None) -> None:
        """Call `then` after a time, and nothing that was to be called later; 0: never."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_ms / 1_000, then) if delay_ms else None

    def _give_up_lock(self) -> None:
        if self in self._database.waiting:
            self._database.signal(self.pid, "pg_cancel_backend")
            self._errors = (_CANCELLED, _LOCK_TIMEOUT)
            self._read_reply(may_wait=False)

    def terminate(self, code: bytes = _TERMINATED) -> None:
        """Have the server end the session, with an error for the client whose code is `code`."""
        if self._is_over or not self.pid:
            return
        self._database.signal(self.pid, "pg_terminate_backend")
        while data := self._socket.recv(_READ_BYTES):
            for message in self._replies.feed(data):
                self._reply += message.replace(_TERMINATED, code)
        self._send_rest()

    def _send_rest(self) -> None:
        """The server has ended the session: send what it said last, and disconnect."""
        self._send()
        self.transport.close()
        self.end()

    def end(self) -> None:
        """End the session in the server, as for a client that has gone, and wait for the end of its process."""
        if self._is_over:
            return
        self._is_over = True
        self._set_timer(0)
        self._database.sessions.pop(self, None)
        self._database.waiting.pop(self, None)
        self._socket.close()
        if self._process is not None:
            has_ended, _, _ = select.select([self._process], [], [], ANSWER_S_MAX)
            assert has_ended, f"session {self.pid} of the server does not end"
            os.close(self._process)
        self._database.happened(self)
