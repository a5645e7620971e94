"""A rendered answer (page): its bytes, its gzip variant, their strong ETags, and the choice between 200 and 304."""

import gzip
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import xxhash
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.http.headers import BINANCE, JSON, VARY, Header

GZIP_BYTES_MIN: Final = 1024  # a smaller body fits into one packet either way
GZIP_LEVEL: Final = 1  # measured on 500 random rows: 0.4 ms and 0.42×; level 4 takes twice as long for 0.40×
UPDATING_S: Final = 2
UPDATED_FROM_S: Final = 5  # of a shorter time the last two seconds would be most of it
CONDITION_BYTES_MAX: Final = 4096  # a longer If-None-Match is answered in full
ACCEPT_BYTES_MAX: Final = 256  # a longer Accept-Encoding gets the identity encoding

_ETAG: Final = re.compile(rb'(?:W/)?("[^"]*")')
_ACCEPTED: Final = re.compile(rb"\s*([!#$%&'*+./^_`|~0-9A-Za-z-]+)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")
_OK: Final = 200
NOT_MODIFIED: Final = 304


def lines_of(headers: Iterable[Header]) -> bytes:
    """Headers as the lines of an HTTP/1.1 head."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


_JSON: Final = lines_of((JSON,))
_USUAL: Final = lines_of((VARY, *BINANCE))
_USUAL_KEPT: Final = 1 + len((VARY, *BINANCE))  # the ETag and these


class Asked(NamedTuple):
    """The values of a request's Accept-Encoding and If-None-Match headers; empty when not sent."""

    accept: bytes = b""
    condition: bytes = b""


class Variant(NamedTuple):
    """One encoding of a page, with its headers except Cache-Control, which depends on the time of sending."""

    etag: bytes
    body: bytes
    kept: tuple[Header, ...]
    """Headers of both a 200 and a 304."""
    more: tuple[Header, ...]

    def headers(self, status: int) -> tuple[Header, ...]:
        """The headers of a 200 or 304, without Cache-Control."""
        if status == NOT_MODIFIED:
            return self.kept
        return (JSON, (b"content-length", b"%d" % len(self.body)), *self.kept, *self.more)

    def lines(self, status: int) -> bytes:
        """The headers of a 200 or 304 as the lines of an HTTP/1.1 head, without Cache-Control."""
        if len(self.kept) > _USUAL_KEPT:
            return lines_of(self.headers(status))
        kept = b"etag: %b\r\n%b" % (self.etag, _USUAL)  # takes a third of the time of joining the headers one by one
        if status == NOT_MODIFIED:
            return kept
        more = lines_of(self.more) if self.more else b""
        return b"%bcontent-length: %d\r\n%b%b" % (_JSON, len(self.body), kept, more)


class Hit(NamedTuple):
    """The answer to one request for a page: 200 or 304, the encoding, and for how long others may cache it."""

    status: int
    variant: Variant
    max_age_s: int


class Reply(NamedTuple):
    """The two ASGI messages that answer a request."""

    start: Message
    body: Message


def reply_of(hit: Hit, *, is_head: bool) -> Reply:
    """The ASGI messages that send `hit`; without a body for a 304 or an answer to HEAD."""
    status, variant, max_age_s = hit
    body = b"" if status == NOT_MODIFIED or is_head else variant.body
    return Reply(
        {
            "type": "http.response.start",
            "status": status,
            "headers": (*variant.headers(status), cache_control(max_age_s)),
        },
        {"type": "http.response.body", "body": body},
    )


class Page:
    """The bytes of an answer with headers and encodings, ready to be sent any number of times."""

    __slots__ = ("_digest", "_gzip", "_identity", "_more", "size")

    def __init__(self, body: bytes, *more: Header) -> None:
        self._digest = xxhash.xxh3_128_hexdigest(body).encode()
        self._more = more
        self._identity = _variant(body, b'"%b"' % self._digest, more)
        self._gzip: Variant | None = None
        self.size = len(body)

    @property
    def body(self) -> bytes:
        """The body without compression."""
        return self._identity.body

    def chosen(self, asked: Asked) -> tuple[int, Variant]:
        """The status and the encoding for a request: 304 if its If-None-Match names this encoding's ETag, else 200."""
        variant = self._gzipped() if asked.accept and accepts_gzip(asked.accept) else self._identity
        return NOT_MODIFIED if asked.condition and matches(asked.condition, variant.etag) else _OK, variant

    def reply(self, method: str, headers: Iterable[Header], max_age_s: int) -> Reply:
        """The ASGI messages that answer a request with `method` and `headers`, cacheable for `max_age_s`."""
        return reply_of(Hit(*self.chosen(asked_by(headers)), max_age_s), is_head=method == "HEAD")

    def _gzipped(self) -> Variant:
        if self._gzip is None:
            body = self.body
            packed = gzip.compress(body, GZIP_LEVEL, mtime=0) if len(body) >= GZIP_BYTES_MIN else body
            if len(packed) < len(body):
                self._gzip = _variant(packed, b'"%b-gzip"' % self._digest, self._more, (b"content-encoding", b"gzip"))
                self.size += len(packed)
            else:
                self._gzip = self._identity
        return self._gzip


class HitResponse(Response):
    """A Hit as a Starlette response."""

    def __init__(self, hit: Hit, *, is_head: bool) -> None:
        super().__init__()
        self._reply = reply_of(hit, is_head=is_head)
        self.status_code = hit.status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the page."""
        await send(self._reply.start)
        await send(self._reply.body)


class PageResponse(HitResponse):
    """A page as a Starlette response. The encoding is chosen in the constructor, so `page.size` is final after it."""

    def __init__(self, page: Page, scope: Scope, max_age_s: int) -> None:
        super().__init__(Hit(*page.chosen(asked_by(scope["headers"])), max_age_s), is_head=scope["method"] == "HEAD")


def asked_by(headers: Iterable[Header]) -> Asked:
    """The Asked of a request's headers; the values of a header that was sent several times are joined with commas."""
    accept = condition = b""
    for name, value in headers:
        if name == b"accept-encoding":
            accept = accept + b"," + value if accept else value
        elif name == b"if-none-match":
            condition = condition + b"," + value if condition else value
    return Asked(accept, condition)


def matches(condition: bytes, etag: bytes) -> bool:
    """Whether an If-None-Match names `etag`, by weak comparison: a proxy may have weakened the ETag."""
    if condition == etag:
        return True
    if len(condition) > CONDITION_BYTES_MAX:
        return False
    return condition.strip() == b"*" or etag in _ETAG.findall(condition)


def accepts_gzip(accept: bytes) -> bool:
    """Whether an Accept-Encoding prefers gzip to the identity encoding."""
    return len(accept) <= ACCEPT_BYTES_MAX and _prefers_gzip(accept)


@lru_cache(maxsize=256)  # clients send a handful of values; 256 × 256 bytes at most
def _prefers_gzip(accept: bytes) -> bool:
    quality = qualities(accept)
    wanted = quality.get(b"gzip", quality.get(b"*", 0))
    return wanted > 0 and wanted >= quality.get(b"identity", 0)


def accepts_zstd(accept: bytes) -> bool:
    """Whether an Accept-Encoding names zstd and prefers it, or likes it as well as gzip and the identity encoding."""
    if len(accept) > ACCEPT_BYTES_MAX:
        return False
    quality = qualities(accept)
    wanted = quality.get(b"zstd", 0)
    return wanted > 0 and wanted >= max(quality.get(b"gzip", 0), quality.get(b"identity", 0))


def qualities(accept: bytes) -> dict[bytes, int]:
    """The codings or media types that an Accept-Encoding or Accept names, with their qualities in thousandths."""
    quality: dict[bytes, int] = {}
    for part in accept.split(b","):
        if coding := _ACCEPTED.fullmatch(part):
            name = coding[1].lower().removeprefix(b"x-")
            quality[name] = _thousandths(coding[2] or b"1")
    return quality


def _thousandths(quality: bytes) -> int:
    whole, _, fraction = quality.partition(b".")
    return min(1000, int(whole) * 1000 + int(fraction.ljust(3, b"0")))


@lru_cache(maxsize=1024)
def cache_control(max_age_s: int) -> Header:
    """The Cache-Control header that lets others hold a page for `max_age_s`.

    The last UPDATING_S of a longer time are for caches that fetch the next page meanwhile (RFC 5861).
    """
    if max_age_s <= 0:
        return (b"cache-control", b"public, max-age=0, must-revalidate")
    if max_age_s >= UPDATED_FROM_S:
        stated = (max_age_s - UPDATING_S, UPDATING_S)
        return (b"cache-control", b"public, max-age=%d, stale-while-revalidate=%d" % stated)
    return (b"cache-control", b"public, max-age=%d" % max_age_s)


def _variant(body: bytes, etag: bytes, stated: tuple[Header, ...], *more: Header) -> Variant:
    return Variant(etag, body, ((b"etag", etag), VARY, *BINANCE, *stated), more)
