"""The HTTP server's protocol, which answers the usual klines request before ASGI and passes all others on to it.

The scope, cycle and task of an ASGI request cost more than such an answer (app/http/fast_path.py). A client repeats its
headers byte for byte, so their parsed form is remembered by their bytes, as is that of whole requests that come again;
another request line is matched by one pattern.
"""

import re
from typing import Any, Final

from app.http.bounded import BoundedConnection
from app.http.fast_path import QUERY, FastPath, ParsedRequest
from app.http.intake import HEADER_BYTES_MAX, QUERY_BYTES_MAX
from app.http.klines import PATH
from app.http.page import asked_by
from app.http.visits import PATH as LINES_PATH
from app.http.visits import PREFIX, Visit
from app.http.visits import STATE as LINES
from app.ports.coordination import Lines, NotAdmitted
from app.sockets.stream_protocol import StreamProtocol

USUAL_BYTES_MAX: Final = HEADER_BYTES_MAX // 2  # larger requests go through the intake, which checks their size
_TARGET: Final = f"{PATH}?".encode()
_QUERY: Final = re.compile(QUERY)
_METHODS: Final = frozenset({b"GET", b"HEAD"})
_NOT_USUAL: Final = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade"})  # more bytes follow


class BoundedProtocol(BoundedConnection):
    """One connection that answers usual klines requests without ASGI."""

    _begun = 0  # requests that began in the current piece of bytes
    _heard: ParsedRequest | None = None  # the last request of the piece, if the fast path answered it
    _was_tried = False  # whether the fast path has just failed to answer the request that is being parsed

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        is_plain = not self.access_log and self.limit_concurrency is None and not self.root_path
        self._at_once = self.app if is_plain and isinstance(self.app, FastPath) else None

    def data_received(self, data: bytes) -> None:
        """Parse bytes; a usual request line before remembered headers is answered without parsing."""
        was_between, at_once = self._is_between, self._at_once
        heard = at_once.heard(data) if was_between and at_once is not None else None
        if heard is not None and self._answers(heard):
            self._is_in_head = False
            return
        self._was_tried = heard is not None
        self._begin()
        super().data_received(data)
        if (heard := self._heard) is None or at_once is None:
            return
        if was_between and self._is_between and self._begun == 1 and heard.stays:
            at_once.remember(data, heard)  # the piece was exactly one request

    def _begin(self) -> None:
        self._begun, self._heard = 0, None

    def on_message_begin(self) -> None:
        """Count the request, and start its head's deadline."""
        self._begun += 1
        super().on_message_begin()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to a StreamProtocol, with the head already parsed: its own parser allows less.

        One of another node goes to what serves it.
        """
        if self._is_visit():
            self._receive_visit()
            return
        protocol = StreamProtocol(self.config, self.server_state, self.app_state)
        response = protocol.shake_hands(self.url.decode("latin-1"), self.headers)
        if response.status_code != 101:
            self._end_with(response.status_code, response.serialize())
            return
        self.connections.discard(self)
        self._all.leave(self)
        self.transport.set_protocol(protocol)
        protocol.open(self.transport, response)

    def _should_upgrade(self) -> bool:
        return self._is_visit() or super()._should_upgrade()

    def _is_visit(self) -> bool:
        """Whether another node wants a line to the writer."""
        upgrade = self._get_upgrade()
        return upgrade is not None and upgrade.startswith(PREFIX) and self.url == LINES_PATH

    def _receive_visit(self) -> None:
        upgrade = self._get_upgrade() or b""
        lines: Lines | None = self.app_state.get(LINES)
        shown = next((value for name, value in self.headers if name == b"authorization"), b"").decode("latin-1")
        found = (
            NotAdmitted(404, "This server has no lines.")
            if lines is None
            else lines.admit(upgrade.removeprefix(PREFIX).decode("latin-1"), shown)
        )
        if isinstance(found, NotAdmitted):
            self._refuse(found.status, found.text)
            return
        self.connections.discard(self)
        self._all.leave(self)
        visit = Visit(found, self.connections)
        self.transport.set_protocol(visit)
        visit.open(self.transport, upgrade)

    def _is_answered(self) -> bool:
        if self._was_tried or (usual := self._usual()) is None or not self._answers(usual):
            self._heard, self._was_tried = None, False
        else:
            self._heard = usual
        return self._heard is not None

    def _usual(self) -> ParsedRequest | None:
        """The request whose headers have ended, if it is a klines request that may be answered without ASGI."""
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
        return ParsedRequest(
            (PATH, query_string),
            method == b"HEAD",
            asked_by(self.headers),
            parser.should_keep_alive(),
            self._at_once.caller_of(self.headers),
            self._at_once.parent_of(self.headers),
        )

    def _answers(self, heard: ParsedRequest) -> bool:
        """Answer `heard` if no earlier answer is pending and memory has the answer. Return whether it was answered."""
        assert self._at_once is not None, "nobody to ask"
        is_free = (self.cycle is None or self.cycle.response_complete) and not self._is_over
        if not is_free or self.flow.write_paused or self.transport.is_closing():
            return False
        pieces = self._at_once.answer(heard, self.server_state.default_headers)
        if pieces is None:
            return False
        self.transport.writelines(pieces)  # one system call, without copying the body behind the head
        self.server_state.total_requests += 1
        if heard.stays:
            self._due_s = self.loop.time() + self._deadlines.idle_s
        else:
            self.transport.close()
        return True
