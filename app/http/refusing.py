"""uvicorn's HTTP protocol with refusals that the peer can read, sent after the answers to earlier requests."""

import asyncio
import math
import re
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.domain.reason import Reason
from app.http.errors import refusal
from app.http.headers import REASON
from app.http.intake import PATH_BYTES_MAX, QUERY_BYTES_MAX, size_of
from app.http.page import lines_of
from app.sockets.connections import Connections

HEAD_BYTES_MAX: Final = 65_536  # four times the intake's bound, so that the intake answers most oversize requests
BUSY_RETRY_AFTER_S: Final = 1  # room is made all the time: connections are short
_ORIGIN: Final = re.compile(rb"[A-Za-z]{1,8}://[^/]*")
_BODIED: Final = frozenset({b"content-length", b"transfer-encoding"})
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_TLS: Final = b"\x16\x03"  # the first bytes of a TLS handshake


class RefusingConnection(HttpToolsProtocol):
    """One connection: its pending answers, and the refusal that ends it."""

    _is_in_head = True
    _is_between = True  # whether all of the last request has been read
    _is_over = False  # whether further bytes from the peer are discarded
    _has_ended = False  # whether the peer has closed its sending side
    _piece = b""  # the bytes that are being parsed
    _kept = b""  # bytes not parsed yet, because too many requests wait
    _current: RequestResponseCycle | None = None  # the cycle of the request that is being read
    _running: RequestResponseCycle | None = None  # the cycle that is being answered; others wait in the pipeline
    _last_words = b""  # a refusal that waits for earlier answers
    _due_s = math.inf  # the deadline of the current phase, on the event loop's clock

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._all = Connections.of(self.app_state)
        self._deadlines = self._all.deadlines

    # --- answers under way --------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _flush(self, cycle: RequestResponseCycle | None) -> None:
        """Send the head that an answer's transport holds back, before anything else is sent."""
        if cycle is not None and isinstance(cycle.transport, Whole):
            cycle.transport.flush()

    def _is_pending(self) -> bool:
        """Whether an answer is in progress or waits in the pipeline."""
        running = self._running
        return bool(self.pipeline) or (running is not None and not (running.response_complete or running.disconnected))

    # --- refusals ---------------------------------------------------------------------------------------------------

    def _is_acceptable(self) -> bool:
        """Whether the request whose headers have ended is acceptable; if not, it has been refused."""
        if self.parser.get_http_version() not in _VERSIONS:
            self._refuse(505, "This node speaks HTTP/1.1.")
        elif len(self.url) + size_of(self.headers) > HEAD_BYTES_MAX:
            self._refuse_size()
        elif self.parser.should_upgrade() and self._has_body():  # the parser would take the body for the next request
            self._refuse(400, "A request with a body cannot ask for another protocol; leave Upgrade out.")
        return not self._is_over

    def _may_upgrade(self) -> bool:
        """Whether a websocket handshake is acceptable; if not, it has been refused."""
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
        """Refuse the request that is being read, after the answers to earlier requests, and read no further.

        `target` is its path, by default the one that was read.
        """
        if self.transport.is_closing() or self._is_over:
            return
        response = refusal(self._target() if target is None else target, status, text)
        if status == 503:
            response.headers["retry-after"] = str(BUSY_RETRY_AFTER_S)
            response.headers[REASON.decode()] = Reason.BUSY
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
        """Abandon the request of `cycle`: the refusal becomes its answer, unless an answer has been started."""
        self._current = None
        if cycle.response_started:
            self._flush(cycle)
            self._last_words = b""
        if not cycle.response_complete:
            cycle.disconnected, cycle.waiting_for_100_continue = True, False
            cycle.message_event.set()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()

    def _say_last_words(self) -> None:
        """Send the refusal once all earlier requests are answered, then linger."""
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self._last_words:
            self.transport.write(self._last_words)
            self._last_words = b""
        self._linger()

    def close_gently(self) -> None:
        """Close after the answer; linger first if the peer may still be sending the request."""
        if self._is_between:
            self.transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Close our sending side and discard further bytes until the peer closes or `linger_s` is over.

        Closing at once would reset the connection, and the peer might lose the answer.
        """
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
        """The target of the refused request, as far as it was read."""
        target: bytes = getattr(self, "url", b"")
        if not target:
            words = self._piece.split(b" ", 2)
            target = words[1] if len(words) > 1 else b""
        if origin := _ORIGIN.match(target):
            target = target[origin.end() :]
        return target.decode("latin-1")


class Whole(asyncio.Transport):
    """The transport of one answer, which sends the head together with the first part of the body.

    uvicorn writes them one after the other. Two system calls make two TCP segments, and a fast client would see a head
    without its body for a moment.
    """

    def __init__(self, connection: RefusingConnection) -> None:
        super().__init__()
        self._connection = connection
        self._head: bytes | None = None  # None before the head, b"" after it was sent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; the first piece waits for the second until the end of the event loop's turn."""
        if self._head is None:
            self._head = bytes(data)
            self._connection.loop.call_soon(self.flush)
        elif self._head:
            head, self._head = self._head, b""
            self._connection.transport.writelines((head, data))
        else:
            self._connection.transport.write(data)

    def flush(self) -> None:
        """Send the head that was held back, if any."""
        if self._head:
            head, self._head = self._head, b""
            self._connection.transport.write(head)

    def is_closing(self) -> bool:
        """Whether the connection is closing."""
        return self._connection.transport.is_closing()

    def close(self) -> None:
        """Close the connection after the answer."""
        self.flush()
        self._connection.transport.close()


class Gentle(Whole):
    """The transport of an answer to a request with a body, which is not closed while the peer is still sending."""

    def close(self) -> None:
        """Close the connection after the answer, and after the peer had time to read it."""
        self.flush()
        self._connection.close_gently()


def advice(piece: bytes) -> str:
    """The error text for bytes that are no HTTP request."""
    if piece.startswith(_TLS):
        return "This port speaks HTTP, not HTTPS: use http://, or put a proxy that speaks TLS in front of it."
    return "Invalid HTTP request received. In a URL, percent-encode what is not ASCII."
