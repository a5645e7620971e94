"""Klines requests that are answered without ASGI, from a cached page or from the tail, after the check of API keys.

The server's protocol (app/http/protocol.py) asks the FastPath before it starts an ASGI request. A request that memory
cannot answer, or that is not a usual klines request, goes through ASGI and gets the same answer.
"""

import re
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.api_keys import NO_KEY, caller_of
from app.http.direct import Timings
from app.http.headers import Header
from app.http.intake import is_oversize, without_body
from app.http.key_answers import Access, as_private, privately
from app.http.klines import PATH, Klines
from app.http.page import NOT_MODIFIED, Asked, Hit, cache_control, lines_of
from app.http.page_cache import Key, PageCache
from app.http.recent import Recent
from app.ports.clock import Clock

REMEMBERED_BYTES_MAX: Final = 1024 * 1024  # for parsed headers by their bytes: of 1,500 clients
REPEATED_BYTES_MAX: Final = 3 * 1024 * 1024  # for whole requests by their bytes: 3,500 usual ones
HEARD_BYTES_MAX: Final = 1024  # a longer request is parsed each time
CACHED_PATHS: Final = frozenset({PATH})
_STATUS_LINES: Final = {200: b"HTTP/1.1 200 OK\r\n", NOT_MODIFIED: b"HTTP/1.1 304 Not Modified\r\n"}
_STAY: Final = b"\r\n"
_LEAVE: Final = b"connection: close\r\n\r\n"
QUERY: Final = rb"[!\"$-~]*"
"""A pattern for usual query strings: printable ASCII without space and "#"."""
_USUAL: Final = re.compile(rb"(GET|HEAD) %b\?(%b) HTTP/1\.1" % (PATH.encode(), QUERY))
"""A usual request line."""


class ParsedRequest(NamedTuple):
    """What the answer to a klines request (GET or HEAD) depends on."""

    key: Key
    is_head: bool
    asked: Asked
    stays: bool
    """Whether the connection stays open after the answer."""
    caller: bytes = NO_KEY
    """The SHA-256 of the API key that was sent, if the node has API keys."""
    parent: Sequence[Header] = ()
    """The headers that name the client's span, if the node sends traces."""


class FastPath:
    """The outermost layer: answers klines requests from memory where it can and passes all others to `app`.

    With API keys it first refuses requests without a valid one.
    """

    def __init__(
        self,
        app: ASGIApp,
        pages: PageCache,
        klines: Klines,
        timings: Timings,
        clock: Clock,
        access: Access | None = None,
    ) -> None:
        self._app = app
        self._access = access
        self._gate = None if access is None else access.gate
        self._pages = pages
        self._klines = klines
        self._timings = timings
        self._clock = clock
        self._stated: Sequence[Header] = ()
        self._stated_lines = b""
        self._heard = Recent[bytes, ParsedRequest](REMEMBERED_BYTES_MAX)
        self._repeated = Recent[bytes, ParsedRequest](REPEATED_BYTES_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request: refuse it, answer it from a cached page, or pass it on."""
        if self._access is not None and scope["type"] == "http":
            if (refusal := self._access.refusal(scope)) is not None:
                await refusal(scope, receive, without_body(send) if scope["method"] == "HEAD" else send)
                return
            send = privately(send)
        is_cached = scope["type"] == "http" and scope["path"] in CACHED_PATHS and scope["method"] in ("GET", "HEAD")
        if is_cached and not is_oversize(scope):  # an oversize request gets 414 or 431 even if its page is cached
            reply = self._pages.reply(scope)
            if reply is not None:
                await send(reply.start)
                await send(reply.body)
                return
        await self._app(scope, receive, send)

    def heard(self, request: bytes) -> ParsedRequest | None:
        """The parsed form of `request`, if it has a usual request line and headers that were parsed before."""
        if (known := self._repeated.get(request)) is not None:
            return known
        if len(request) > HEARD_BYTES_MAX:
            return None
        line, _, fields = request.partition(b"\r\n")
        before = self._heard.get(fields)
        if before is None or (usual := _USUAL.fullmatch(line)) is None:
            return None
        method, query_string = usual.groups()
        parsed = ParsedRequest((PATH, query_string), method == b"HEAD", before.asked, before.stays, before.caller)
        self._repeated.add(request, parsed, request, query_string)
        return parsed

    def caller_of(self, headers: Iterable[Header]) -> bytes:
        """The caller that a request's headers name; NO_KEY without API keys, which then costs nothing."""
        return NO_KEY if self._gate is None else caller_of(headers)

    def parent_of(self, _headers: Iterable[Header]) -> Sequence[Header]:
        """The headers that name the client's span; none without traces, which then costs nothing."""
        return ()

    def remember(self, request: bytes, heard: ParsedRequest) -> None:
        """Remember the parsed headers of `request`, the bytes of exactly one whole request."""
        line, _, fields = request.partition(b"\r\n")
        if len(request) <= HEARD_BYTES_MAX and _USUAL.fullmatch(line):
            self._heard.add(fields, heard, fields, heard.key[1], heard.caller, *heard.asked)

    def answer(self, heard: ParsedRequest, stated: Sequence[Header]) -> tuple[bytes, ...] | None:
        """The bytes of head and body, or None when the request has to go through ASGI.

        `stated` are the headers that the server adds to every answer, such as Date.
        """
        now_ms = self._clock.now_ms()
        gate, key = self._gate, None
        if gate is not None and (key := gate.find(heard.caller, now_ms)) is None:
            return None
        hit = self._pages.hit(heard.key, heard.asked, now_ms)
        if hit is None and (hit := self._rendered(heard, now_ms)) is None:
            return None
        if stated is not self._stated:  # the server makes a new list once a second
            self._stated, self._stated_lines = stated, lines_of(stated)
        name, value = cache_control(hit.max_age_s)
        if gate is not None and key is not None:
            gate.count(key, now_ms)
            name, value = as_private((name, value))
        head = b"%b%b%b%b: %b\r\n%b" % (
            _STATUS_LINES[hit.status],
            self._stated_lines,
            hit.variant.lines(hit.status),
            name,
            value,
            _STAY if heard.stays else _LEAVE,
        )
        return (head,) if heard.is_head or hit.status == NOT_MODIFIED else (head, hit.variant.body)

    def _rendered(self, heard: ParsedRequest, now_ms: int) -> Hit | None:
        began_s = perf_counter()
        try:
            hit = self._klines.at_once(heard.key, heard.asked, now_ms)
        except Exception:  # noqa: BLE001  the ASGI way raises it again, answers it and logs it if need be
            return None
        if hit is not None:
            self._pages.misses += 1
            self._timings.note(perf_counter() - began_s)
        return hit
