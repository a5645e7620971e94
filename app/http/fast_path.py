"""Klines requests that are answered in the moment they are read: from a page that is kept, or out of the tail.

The server's protocol (app/http/protocol.py) asks here before it makes an ASGI request of what it has read. Whatever
cannot be answered at once, and everything that is not the usual request, goes the long way; its answers are the same.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.direct import Timings
from app.http.headers import Header
from app.http.intake import is_oversize
from app.http.klines import PATH, Klines
from app.http.page import NOT_MODIFIED, Asked, Hit, cache_control, lines_of
from app.http.page_cache import Key, PageCache
from app.http.recent import Recent
from app.ports.clock import Clock

REMEMBERED_BYTES_MAX: Final = 4 * 1024 * 1024  # for requests whose parsed form is remembered: 5,000 usual ones
CACHED_PATHS: Final = frozenset({PATH})
_STATUS_LINES: Final = {200: b"HTTP/1.1 200 OK\r\n", NOT_MODIFIED: b"HTTP/1.1 304 Not Modified\r\n"}
_STAY: Final = b"\r\n"
_LEAVE: Final = b"connection: close\r\n\r\n"


class ParsedRequest(NamedTuple):
    """A GET or HEAD of klines, as far as its answer depends on it."""

    key: Key
    is_head: bool
    asked: Asked
    stays: bool
    """Whether the connection is kept."""


class FastPath:
    """Answers from memory where it can; everything else goes on to `app`. The outermost layer."""

    def __init__(self, app: ASGIApp, pages: PageCache, klines: Klines, timings: Timings, clock: Clock) -> None:
        self._app = app
        self._pages = pages
        self._klines = klines
        self._timings = timings
        self._clock = clock
        self._stated: Sequence[Header] = ()
        self._stated_lines = b""
        self._heard = Recent[bytes, ParsedRequest](REMEMBERED_BYTES_MAX)
        self.heard = self._heard.get
        """What these very bytes meant when they were parsed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection the ASGI way."""
        is_cached = scope["type"] == "http" and scope["path"] in CACHED_PATHS and scope["method"] in ("GET", "HEAD")
        if is_cached and not is_oversize(scope):  # the same status whether the page is kept or not
            reply = self._pages.reply(scope)
            if reply is not None:
                await send(reply.start)
                await send(reply.body)
                return
        await self._app(scope, receive, send)

    def remember(self, request: bytes, heard: ParsedRequest) -> None:
        """Keep what the bytes of a request mean that came whole and alone."""
        self._heard.add(request, heard, request, heard.key[1], *heard.asked)

    def answer(self, heard: ParsedRequest, stated: Sequence[Header]) -> tuple[bytes, ...] | None:
        """Head and body for the wire, or None when the request has to go the long way.

        `stated` are the headers that the server adds to every answer.
        """
        now_ms = self._clock.now_ms()
        hit = self._pages.hit(heard.key, heard.asked, now_ms)
        if hit is None and (hit := self._rendered(heard, now_ms)) is None:
            return None
        if stated is not self._stated:  # the server makes another list once a second
            self._stated, self._stated_lines = stated, lines_of(stated)
        name, value = cache_control(hit.max_age_s)
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
        except Exception:  # noqa: BLE001  met again on the long way, which makes an answer and, if need be, a log line of it
            return None
        if hit is not None:
            self._pages.misses += 1
            self._timings.note(perf_counter() - began_s)
        return hit
