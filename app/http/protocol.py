"""uvicorn's HTTP protocol with a bound on what a client may send before its request is understood, and a way past ASGI.

httptools gathers request line and headers without any limit of size or time; everything behind it (app/http/intake.py)
sees a request only once its headers have ended.

The usual klines request is answered here when memory has the answer (app/http/at_once.py): scope, cycle and task of an
ASGI request cost more than that. A connection's next request may come as the very bytes of an earlier one, which were
parsed then; what they mean is remembered.
"""

import asyncio
import re
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.http.at_once import AtOnce, Heard
from app.http.errors import refusal
from app.http.intake import HEADER_BYTES_MAX, QUERY_BYTES_MAX
from app.http.klines import PATH
from app.http.page import asked_by
from app.http.stream_protocol import StreamProtocol

HEAD_BYTES_MAX: Final = 65_536  # four times what the intake lets through: its answer is the better one
HEAD_S_MAX: Final = 10.0  # from the first byte of a connection or request to the end of its headers
HEARD_BYTES_MAX: Final = 1024  # a longer request is parsed each time
USUAL_BYTES_MAX: Final = HEADER_BYTES_MAX // 2  # a piece that holds no request the intake could find too large
_TARGET: Final = f"{PATH}?".encode()
_QUERY: Final = re.compile(rb"[!\"$-~]*")  # ASCII that is neither space nor control nor the sign of a fragment
_METHODS: Final = frozenset({b"GET", b"HEAD"})
_NOT_USUAL: Final = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade"})  # there is more to come


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request begins without end, and answers what can be answered at once."""

    _head_bytes = 0
    _is_in_head = True
    _is_between = True  # whether all of the last request has been read
    _overdue: asyncio.TimerHandle | None = None
    _piece = b""
    _begun = 0  # requests that began in this piece
    _heard: Heard | None = None  # the request that was just answered at once
    _answered_s = 0.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        is_plain = not self.access_log and self.limit_concurrency is None and not self.root_path
        self._at_once = self.app if is_plain and isinstance(self.app, AtOnce) else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock: a connection that never asks is closed too."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, and count those of a request whose headers have not ended."""
        was_between, at_once = self._is_between, self._at_once
        if was_between and at_once is not None and (heard := at_once.heard(data)) is not None and self._answers(heard):
            self._is_in_head = False
            self._stop_waiting()
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_task = self._alarm(self.timeout_keep_alive)
            return
        self._begin(data)
        alarm, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        super().data_received(data)
        self._piece = b""
        if (heard := self._heard) is not None and self._is_between and heard.stays:
            self.timeout_keep_alive_task = alarm or self._alarm(self.timeout_keep_alive)
            if was_between and self._begun == 1 and len(data) <= HEARD_BYTES_MAX and at_once is not None:
                at_once.remember(data, heard)  # from its first byte to its last it was one request
        elif alarm is not None:
            alarm.cancel()
        if not self._is_in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, f"The request line and headers are larger than {HEAD_BYTES_MAX} bytes.")
        elif self._overdue is None:
            self._await_head()

    def _begin(self, data: bytes) -> None:
        self._piece, self._begun, self._heard = data, 0, None

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head, self._head_bytes, self._is_between = True, 0, False
        self._begun += 1
        self.url, self.headers, self.expect_100_continue = b"", [], False  # the scope is made when it is needed

    def on_headers_complete(self) -> None:
        """The request is understood; from here on others see to it, unless it can be answered at once."""
        self._is_in_head = False
        self._stop_waiting()
        self._heard = None
        heard = self._usual()
        if heard is not None and self._answers(heard):
            self._heard = heard
        else:
            self._enter_asgi()

    def on_message_complete(self) -> None:
        """All of the request has been read."""
        self._is_between = True
        if self._heard is None:
            super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was not used for long; answers that were given at once do not set the alarm anew."""
        self.timeout_keep_alive_task = None
        left_s = self._answered_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self._alarm(left_s)
        else:
            super().timeout_keep_alive_handler()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, its head as it was read: another parser would take less of it."""
        self.connections.discard(self)
        protocol = StreamProtocol(self.config, self.server_state, self.app_state)
        self.transport.set_protocol(protocol)
        protocol.open(self.transport, self.url.decode("latin-1"), self.scope["headers"])

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the shape that the reader of its path expects."""
        self._refuse(400, f"{msg} In a URL, percent-encode what is not ASCII.")

    # --- answers without ASGI -----------------------------------------------------------------------------------

    def _usual(self) -> Heard | None:
        """The request whose headers have ended, if it is one of those that may be answered at once."""
        url, parser = self.url, self.parser
        if self._at_once is None or not url.startswith(_TARGET) or len(url) > QUERY_BYTES_MAX:
            return None
        if self._head_bytes + len(self._piece) > USUAL_BYTES_MAX or parser.should_upgrade():
            return None
        method, query_string = parser.get_method(), url[len(_TARGET) :]
        if method not in _METHODS or parser.get_http_version() != "1.1" or not _QUERY.fullmatch(query_string):
            return None
        for name, _ in self.headers:
            if name in _NOT_USUAL:
                return None
        return Heard((PATH, query_string), method == b"HEAD", asked_by(self.headers), parser.should_keep_alive())

    def _answers(self, heard: Heard) -> bool:
        """Answer at once if nothing stands before it and memory has the answer; returns whether it was."""
        assert self._at_once is not None, "nobody to ask"
        is_free = self.cycle is None or self.cycle.response_complete
        if not is_free or self.flow.write_paused or self.transport.is_closing():
            return False
        pieces = self._at_once.answer(heard, self.server_state.default_headers)
        if pieces is None:
            return False
        self.transport.writelines(pieces)  # one system call, and no copy of the body to put a head before it
        self.server_state.total_requests += 1
        if heard.stays:
            self._answered_s = self.loop.time()
        else:
            self.transport.close()
        return True

    def _alarm(self, delay_s: float) -> asyncio.TimerHandle:
        return self.loop.call_later(delay_s, self.timeout_keep_alive_handler)

    def _enter_asgi(self) -> None:
        """Go on as uvicorn does, which makes the scope when the first byte of a request comes."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # the scope has the list itself
        super().on_headers_complete()

    # --- requests without end -----------------------------------------------------------------------------------

    def _await_head(self) -> None:
        self._overdue = self.loop.call_later(HEAD_S_MAX, self._give_up)

    def _stop_waiting(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _give_up(self) -> None:
        self._overdue = None
        self._refuse(408, f"The request was not complete after {HEAD_S_MAX:.0f} s.")

    def _target(self) -> bytes:
        """What the request that is not understood asks for, as far as can be told."""
        words = self._piece.split(b" ", 2)
        return words[1] if len(words) > 1 else getattr(self, "url", b"")

    def _refuse(self, status: int, text: str) -> None:
        """Answer without a request, and hang up. Behind an answer that is still under way nothing is written."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            response = refusal(self._target().decode("latin-1"), status, text)
            head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
            self.transport.write(STATUS_LINE[status] + head + b"connection: close\r\n\r\n" + bytes(response.body))
        self.transport.close()
