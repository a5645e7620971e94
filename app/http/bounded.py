"""uvicorn's HTTP protocol with a bound on all that a peer may cost, and an answer to whatever is refused.

httptools gathers request line and headers without any limit of size or time, and uvicorn waits for bodies and readers
without end; what lies behind it (app/http/intake.py) sees a request only once its headers have ended. Which phases a
connection has, and how long each may last, is in app/http/connections.py.
"""

import asyncio
import math
import re
from typing import Any, Final

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.http.connections import Connections, Sending, bound_kernel
from app.http.errors import refusal
from app.http.intake import PATH_BYTES_MAX, QUERY_BYTES_MAX, size_of
from app.http.page import lines_of

HEAD_BYTES_MAX: Final = 65_536  # four times what the intake lets through: its answer is the better one
FEED_BYTES: Final = 4096  # parsed at a time, so that a bound is noticed wherever the pieces of a request end
PIPELINE_MAX: Final = 64  # requests that wait for the answer to another; what comes behind them is parsed later
KEPT_BYTES_MAX: Final = 1024 * 1024  # of what is parsed later; the kernel gives 256 kB at a time
BUSY_RETRY_AFTER_S: Final = 1  # connections end all the time
BUSY_TARGET: Final = "/fapi/"  # nobody has read what the surplus asks for; most of it is Binance's clients
_ORIGIN: Final = re.compile(rb"[A-Za-z]{1,8}://[^/]*")
_BODIED: Final = frozenset({b"content-length", b"transfer-encoding"})
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_TLS: Final = b"\x16\x03"  # how a client begins that takes the port for one of HTTPS


class BoundedConnection(HttpToolsProtocol):
    """One connection: what it has sent of a request, its deadline, and the refusal that ends it."""

    _head_bytes = 0
    _is_in_head = True
    _is_between = True  # whether all of the last request has been read
    _is_over = False  # whether what still comes is thrown away
    _has_ended = False  # whether the peer sends nothing more
    _piece = b""
    _kept = b""  # not parsed yet: too many requests wait
    _current: RequestResponseCycle | None = None  # of the request that is being read
    _running: RequestResponseCycle | None = None  # whose answer is being made; the others wait in the pipeline
    _last_words = b""  # a refusal that waits for the answers before it
    _due_s = math.inf  # when the peer has taken too long over what is expected of it

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._all = Connections.of(self.app_state)
        self._deadlines = self._all.deadlines
        self._sending = Sending()

    # --- what the transport says ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many connections."""
        super().connection_made(transport)  # type: ignore[arg-type]
        bound_kernel(transport, self._deadlines)
        self._due_s = self.loop.time() + self._deadlines.head_s
        if self._all.enter(self, self.loop):
            return
        if self._all.is_over:
            self._all.refused(503)
            self.transport.abort()
        else:
            text = f"This node has as many connections as it may have ({self._all.connections_max}); try again."
            self._refuse(503, text, BUSY_TARGET)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free everything, and tell the application whose answer nobody will read."""
        self._all.leave(self)
        self._current = None
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # uvicorn tells the newest only
            self._running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        if self._is_over:
            return
        if self._kept:
            self._keep(data)
        elif len(data) <= FEED_BYTES:
            self._feed(data)
        else:
            self._feed_in_parts(data)
        self._piece = b""

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's never stays open
        """The peer sends nothing more but may read on: what it has asked for is answered. Whether to stay open."""
        self._has_ended = True
        if self._kept:
            return True
        if not self._is_between and not self._is_over:
            self._refuse(400, "The connection ended before the request did.")
        if not self._is_pending():
            return False
        if not self._is_over:
            self.cycle.keep_alive = False
        return True

    def resume_writing(self) -> None:
        """The peer has taken what filled the buffer."""
        self._sending.drained()
        super().resume_writing()

    def shutdown(self) -> None:
        """The server ends: close now, or after the answers that are under way."""
        self._kept = b""
        if self._is_over and not self._is_pending():
            self.transport.close()
        else:
            super().shutdown()

    # --- what the parser says -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head, self._head_bytes, self._is_between = True, 0, False
        self._current = None
        self._due_s = self.loop.time() + self._deadlines.head_s
        self.url, self.headers, self.expect_100_continue = b"", [], False  # the scope is made when it is needed

    def on_headers_complete(self) -> None:
        """The head has been read: answer it, refuse it or hand it to the application."""
        self._is_in_head = False
        if not self._is_over and not self._is_answered() and self._is_acceptable():
            self._due_s = self.loop.time() + self._deadlines.body_s
            self._enter_asgi()

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        if self._current is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request has been read."""
        self._is_between = True
        self._due_s = math.inf if self._is_pending() else self.loop.time() + self._deadlines.idle_s
        if self._current is not None:
            super().on_message_complete()
            self._current = None

    def on_response_complete(self) -> None:
        """An answer was handed to the transport: make the next one, or parse what was kept, or wait for a request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._is_over:
            self._say_last_words()
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._is_between:
            self._due_s = self.loop.time() + self._deadlines.idle_s
        if self._kept:
            self._feed_kept()
        elif len(self.pipeline) < PIPELINE_MAX:
            self.flow.resume_reading()

    def _is_answered(self) -> bool:
        """Whether the request whose headers have ended needs no application, and has been answered."""
        return False

    def _enter_asgi(self) -> None:
        """Go on as uvicorn does, which makes the scope when the first byte of a request comes."""
        url, headers, expects, before = self.url, self.headers, self.expect_100_continue, self.cycle
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # the scope has the list itself
        super().on_headers_complete()
        if self.cycle is not before:  # not so for a handshake
            self._current = self.cycle
            if self._has_body():
                self.cycle.transport = _Gentle(self)  # type: ignore[assignment]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    # --- deadlines --------------------------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """See Connection."""
        waiting_bytes = self.transport.get_write_buffer_size()
        if self._sending.is_stuck(waiting_bytes, now_s, self._deadlines.send_s):
            self._all.overdue += 1
            self.transport.abort()
        elif now_s < self._due_s or self.transport.is_closing() or (self._is_over and waiting_bytes):
            return
        elif self._is_over:
            self.transport.abort()
        elif self.flow.read_paused:  # it is not the peer who keeps us waiting
            self._due_s = now_s + self._deadlines.head_s
        else:
            self._give_up()

    def idle_since_s(self) -> float | None:
        """See Connection."""
        if self._is_in_head or not self._is_between or self._is_over or self._is_pending():
            return None
        return None if self.transport.is_closing() else self._due_s - self._deadlines.idle_s

    def make_way(self) -> None:
        """See Connection."""
        self.transport.close()

    def _give_up(self) -> None:
        """The peer did not do in time what was expected of it."""
        if self._is_between and not self._is_in_head:
            self.transport.close()  # idle, which is no fault
            return
        self._all.overdue += 1
        deadlines = self._deadlines
        what, limit_s = ("request", deadlines.head_s) if self._is_in_head else ("body", deadlines.body_s)
        self._refuse(408, f"The {what} was not complete after {limit_s:.0f} s.")

    def _is_pending(self) -> bool:
        """Whether an answer is under way or waits for its turn."""
        running = self._running
        return bool(self.pipeline) or (running is not None and not (running.response_complete or running.disconnected))

    # --- bytes into the parser --------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        """Parse a piece; what is behind a request for another protocol is read as what follows it."""
        self._piece = data
        while not self._is_over and not self.transport.is_closing():
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._should_upgrade() and self._may_upgrade():
                    self.handle_websocket_upgrade()
                    if data and not self._is_over:
                        self.transport.get_protocol().data_received(data)  # type: ignore[attr-defined]
                    return
            except httptools.HttpParserError:
                self._refuse(400, _advice(self._piece))
                return
        if self._is_in_head and not self._is_between:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse_size()

    def _feed_in_parts(self, data: bytes) -> None:
        """Parse a large piece part by part, and keep what is behind as many requests as may wait."""
        for at in range(0, len(data), FEED_BYTES):
            if self._is_over or self._has_left():
                return
            if len(self.pipeline) >= PIPELINE_MAX:
                self._keep(data[at:])
                return
            self._feed(data[at : at + FEED_BYTES])

    def _keep(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > KEPT_BYTES_MAX:
            self.transport.abort()
        else:
            self.flow.pause_reading()

    def _feed_kept(self) -> None:
        """Parse what was kept, and when that was all go on reading."""
        kept, self._kept = self._kept, b""
        self._feed_in_parts(kept)
        self._piece = b""
        if self._kept or self._has_left():
            return
        if self._has_ended:
            if not self.eof_received():
                self.transport.close()
        elif len(self.pipeline) < PIPELINE_MAX:
            self.flow.resume_reading()

    def _has_left(self) -> bool:
        """Whether what comes is no longer for us."""
        return self.transport.is_closing() or self.transport.get_protocol() is not self

    # --- refusals ---------------------------------------------------------------------------------------------------

    def _is_acceptable(self) -> bool:
        """Whether the request whose headers have ended may go on; one that may not has been refused."""
        if self.parser.get_http_version() not in _VERSIONS:
            self._refuse(505, "This node speaks HTTP/1.1.")
        elif len(self.url) + size_of(self.headers) > HEAD_BYTES_MAX:
            self._refuse_size()
        elif self.parser.should_upgrade() and self._has_body():  # whose bytes the parser takes for the next request
            self._refuse(400, "A request with a body cannot ask for another protocol; leave Upgrade out.")
        return not self._is_over

    def _may_upgrade(self) -> bool:
        """Whether a socket's handshake may be answered; one that may not has been refused."""
        if self._is_pending():
            self._refuse(400, "A socket's handshake has to wait for the answers to the requests before it.")
        elif self.parser.get_method() != b"GET":
            self._refuse(405, "A socket's handshake is a GET.")
        elif self.parser.get_http_version() != "1.1":
            self._refuse(505, "A socket's handshake is of HTTP/1.1.")
        return not self._is_over

    def _has_body(self) -> bool:
        return any(name in _BODIED and value != b"0" for name, value in self.headers)

    def _refuse_size(self) -> None:
        path, _, query = self.url.partition(b"?")
        if len(path) > PATH_BYTES_MAX or len(query) > QUERY_BYTES_MAX:
            self._refuse(414, f"The path may have {PATH_BYTES_MAX} bytes, the query string {QUERY_BYTES_MAX}.")
        else:
            self._refuse(431, f"The request line and headers are larger than {HEAD_BYTES_MAX} bytes.")

    def _refuse(self, status: int, text: str, target: str | None = None) -> None:
        """Answer the request that is being read, behind the answers to those before it, and read no further."""
        if self.transport.is_closing() or self._is_over:
            return
        response = refusal(self._target() if target is None else target, status, text)
        if status == 503:
            response.headers["retry-after"] = str(BUSY_RETRY_AFTER_S)
        is_head = not self._is_in_head and self.parser.get_method() == b"HEAD"
        head = lines_of((*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")))
        self._end_with(status, b"%b%b\r\n%b" % (STATUS_LINE[status], head, b"" if is_head else bytes(response.body)))

    def _end_with(self, status: int, answer: bytes) -> None:
        self._all.refused(status)
        self._is_over, self._kept, self._due_s, self._last_words = True, b"", math.inf, answer
        if self._current is not None:
            self._abandon(self._current)
        if not self._is_pending():
            self._say_last_words()

    def _abandon(self, cycle: RequestResponseCycle) -> None:
        """The request of `cycle` came to a bad end: the refusal is its answer, unless it has one already."""
        self._current = None
        if cycle.response_started:
            self._last_words = b""
        if not cycle.response_complete:
            cycle.disconnected, cycle.waiting_for_100_continue = True, False
            cycle.message_event.set()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()

    def _say_last_words(self) -> None:
        """Refuse, once everything before it was answered."""
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self._last_words:
            self.transport.write(self._last_words)
            self._last_words = b""
        self._linger()

    def close_gently(self) -> None:
        """Close behind an answer whose request may still be coming."""
        if self._is_between:
            self.transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Send nothing more, and throw away what comes until the peer has noticed: a reset would destroy the answer."""
        self._is_over = True
        if self.transport.is_closing():
            return
        if self._has_ended or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._due_s = self.loop.time() + self._deadlines.linger_s

    def _target(self) -> str:
        """What the request that is refused asks for, as far as can be told."""
        target: bytes = getattr(self, "url", b"")
        if not target:
            words = self._piece.split(b" ", 2)
            target = words[1] if len(words) > 1 else b""
        if origin := _ORIGIN.match(target):
            target = target[origin.end() :]
        return target.decode("latin-1")


class _Gentle:
    """The transport of a request with a body: it is not closed under a peer that still sends."""

    def __init__(self, connection: BoundedConnection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.close_gently()


def _advice(piece: bytes) -> str:
    if piece.startswith(_TLS):
        return "This port speaks HTTP, not HTTPS: use http://, or put a proxy that speaks TLS in front of it."
    return "Invalid HTTP request received. In a URL, percent-encode what is not ASCII."
