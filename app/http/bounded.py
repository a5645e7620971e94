"""uvicorn's HTTP protocol with bounds on the bytes, requests and time that a peer may take.

httptools reads request line and headers without a limit of size or time, and uvicorn waits for bodies and slow readers
for ever; the intake behind it (app/http/intake.py) sees a request only after its headers have ended. The deadlines of
a connection's phases are in app/sockets/connections.py.
"""

import asyncio
import math
from typing import Any, Final

import httptools

from app.http.client_gone import peer_ended
from app.http.refusing import HEAD_BYTES_MAX, Gentle, RefusingConnection, Whole, advice
from app.sockets.connections import Sending, bound_kernel

FEED_BYTES: Final = 4096  # parsed at a time, so that bounds are checked however the request's bytes are split
PIPELINE_MAX: Final = 64  # pipelined requests that wait for an answer; bytes after them are kept and parsed later
KEPT_BYTES_MAX: Final = 1024 * 1024  # of unparsed bytes; asyncio delivers 256 kB at a time
BUSY_TARGET: Final = "/fapi/"  # surplus connections are refused before their path is read: in Binance's shape


class BoundedConnection(RefusingConnection):
    """One connection with its bounds: the request being read, and the deadline of the current phase."""

    _head_bytes = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._sending = Sending()

    # --- what the transport says ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection; above the bound refuse it with 503, or close it if even the surplus is full."""
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
        """Free the connection's state, and tell the application that is answering that its client has disconnected."""
        self._all.leave(self)
        self._current = None
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # uvicorn tells only the newest of pipelined requests
            self._running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, at most FEED_BYTES at a time, or keep them while too many requests wait."""
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
        """The peer closed its sending side but may still read. Return whether to stay open for pending answers."""
        self._has_ended = True
        if self._kept:
            return True
        if not self._is_between and not self._is_over:
            self._refuse(400, "The connection ended before the request did.")
        if not self._is_pending():
            return False
        if self._running is not None:
            peer_ended(self._running.scope)  # type: ignore[arg-type]  # uvicorn's own type of the dictionary
        if not self._is_over:
            self.cycle.keep_alive = False
        return True

    def resume_writing(self) -> None:
        """The write buffer has drained: count the progress and let uvicorn continue."""
        self._sending.drained()
        super().resume_writing()

    def shutdown(self) -> None:
        """The server shuts down: close the connection now, or after its pending answers."""
        self._kept = b""
        if self._is_over and not self._is_pending():
            self.transport.close()
        else:
            super().shutdown()

    # --- what the parser says -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request's first byte was parsed: start the deadline of its head."""
        self._is_in_head, self._head_bytes, self._is_between = True, 0, False
        self._current = None
        self._due_s = self.loop.time() + self._deadlines.head_s
        self.url, self.headers, self.expect_100_continue = b"", [], False  # the scope is made when it is needed

    def on_headers_complete(self) -> None:
        """The head was parsed: answer the request from memory, refuse it or pass it to the application."""
        self._is_in_head = False
        if not self._is_over and not self._is_answered() and self._is_acceptable():
            self._due_s = self.loop.time() + self._deadlines.body_s
            self._enter_asgi()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body to the application, unless the request was refused or answered."""
        if self._current is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request was parsed: start the idle deadline, unless an answer is pending."""
        self._is_between = True
        self._due_s = math.inf if self._is_pending() else self.loop.time() + self._deadlines.idle_s
        if self._current is not None:
            super().on_message_complete()
            self._current = None

    def on_response_complete(self) -> None:
        """An answer was written: start the next pipelined request, parse kept bytes, or wait for a request."""
        self.server_state.total_requests += 1
        self._flush(self._running)
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
        """Whether the request whose headers have ended has been answered without the application; never, here."""
        return False

    def _enter_asgi(self) -> None:
        """Continue as uvicorn does; it would have made the scope already at the request's first byte."""
        url, headers, expects, before = self.url, self.headers, self.expect_100_continue, self.cycle
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # the scope has the list itself
        super().on_headers_complete()
        if self.cycle is not before:  # not so for a handshake
            self._current = self.cycle
            self.cycle.transport = Gentle(self) if self._has_body() else Whole(self)

    # --- deadlines --------------------------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Close the connection if its current phase is past its deadline, or its peer does not read."""
        waiting_bytes = self.transport.get_write_buffer_size()
        if self._sending.is_stuck(waiting_bytes, now_s, self._deadlines.send_s):
            self._all.overdue += 1
            self.transport.abort()
        elif now_s < self._due_s or self.transport.is_closing() or (self._is_over and waiting_bytes):
            return
        elif self._is_over:
            self.transport.abort()
        elif self.flow.read_paused:  # we have stopped reading: the peer is not at fault
            self._due_s = now_s + self._deadlines.head_s
        else:
            self._give_up()

    def idle_since_s(self) -> float | None:
        """When the last request was answered; None while a request is in progress."""
        if self._is_in_head or not self._is_between or self._is_over or self._is_pending():
            return None
        return None if self.transport.is_closing() else self._due_s - self._deadlines.idle_s

    def make_way(self) -> None:
        """Close the connection, which is idle, to make room for a new one."""
        self.transport.close()

    def _give_up(self) -> None:
        """End a phase that is overdue: close an idle connection, refuse an incomplete request with 408."""
        if self._is_between and not self._is_in_head:
            self.transport.close()  # idle: not counted as overdue
            return
        self._all.overdue += 1
        deadlines = self._deadlines
        what, limit_s = ("request", deadlines.head_s) if self._is_in_head else ("body", deadlines.body_s)
        self._refuse(408, f"The {what} was not complete after {limit_s:.0f} s.")

    # --- bytes into the parser --------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        """Parse a piece of at most FEED_BYTES.

        The bytes after an Upgrade request go to the websocket, or are parsed as the next request if it is no socket's.
        """
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
                self._refuse(400, advice(self._piece))
                return
        if self._is_in_head and not self._is_between:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse_size()

    def _feed_in_parts(self, data: bytes) -> None:
        """Parse a large piece in parts of FEED_BYTES; keep the rest once PIPELINE_MAX requests wait."""
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
        """Parse the kept bytes, and resume reading when all are parsed."""
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
        """Whether the connection is closing or belongs to another protocol now."""
        return self.transport.is_closing() or self.transport.get_protocol() is not self
