"""The route GET /v1/klines/batch: the klines of many symbols in one answer."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

import msgspec
import xxhash
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.binance.error_body import BinanceError
from app.domain.reason import Reason
from app.http.batch_docs import BATCH_DOC, BATCH_RESPONSES
from app.http.batch_params import ARROW_TYPE, BatchRequest, batch_request
from app.http.codings import PLAIN, Body, PlainBody, body_in, coding_of
from app.http.documentation import OWN_LIMITS
from app.http.errors import ApiError, unavailable
from app.http.headers import BINANCE, JSON, NO_STORE, Header, reason_header
from app.http.intake import BATCH_PATH
from app.http.page import NOT_MODIFIED, Asked, asked_by, cache_control, matches
from app.http.page_cache import PageCache
from app.ports.arrow import END, ArrowKlines, ArrowMissing
from app.ports.clock import Clock
from app.querying.batch import BatchKlines, Entry
from app.querying.refusal import RETRY_AFTER_S

HELD_BYTES_MAX: Final = 160 * 1024 * 1024
"""Of all batches under way, by their estimates: one of the largest without a coding, or ten of the usual coded ones."""
SENT_S_MAX: Final = 120.0  # 39 MB at 2.6 Mbit/s: a client that is slower would keep others from their batches
PLAIN_ROW_BYTES: Final = 170  # an estimate from above of a row in JSON or Arrow
CODED_ROW_BYTES: Final = 48
_ARROW: Final[Header] = (b"content-type", ARROW_TYPE)
_VARY: Final[Header] = (b"vary", b"Accept-Encoding, Accept")
_COUNTS: Final = b"x-klinenode-batch"
_EXPOSED: Final[Header] = (b"access-control-expose-headers", b"X-Klinenode-Batch")  # readable from any origin


class Counts:
    """How many of a batch's symbols are whole, and how many of those have holes that are the exchange's own."""

    def __init__(self) -> None:
        self.whole = self.holed = 0
        self.errors: dict[str, BinanceError] = {}
        self.max_age_s: int | None = None

    def header(self) -> Header:
        """The header X-Klinenode-Batch."""
        symbols = self.whole + len(self.errors)
        stated = f"symbols={symbols}; whole={self.whole}; errors={len(self.errors)}; holed={self.holed}"
        return _COUNTS, stated.encode()

    def status(self) -> int:
        """200 if any symbol is whole; else the status of the errors, 503 if any of them is one."""
        if self.whole:
            return 200
        return max(error.status for error in self.errors.values())

    def refusal(self) -> Iterator[Header]:
        """The headers of an answer in which nothing is whole."""
        yield NO_STORE
        waits = [error for error in self.errors.values() if error.status == 503]
        if waits and self.status() == 503:
            times_s = [error.retry_after_s for error in waits if error.retry_after_s is not None]
            if times_s:
                yield b"retry-after", b"%d" % max(times_s)
            yield reason_header(next((error.reason for error in waits if error.reason), Reason.NOT_HELD))


class Made(NamedTuple):
    """A batch that is ready to be sent."""

    counts: Counts
    body: Body
    digest: str
    coding: bytes
    is_arrow: bool

    @property
    def etag(self) -> bytes:
        """The ETag: weak for Arrow, whose bytes may differ between versions of its library."""
        tag = "-".join(
            [self.digest, *(["arrow"] if self.is_arrow else ()), *([self.coding.decode()] if self.coding else ())]
        )
        return b'%b"%b"' % (b"W/" if self.is_arrow else b"", tag.encode())


class Batches:
    """Makes and sends batches, in bounded memory."""

    def __init__(self, batch: BatchKlines, pages: PageCache, clock: Clock, arrow: ArrowKlines) -> None:
        self._batch = batch
        self._pages = pages
        self._clock = clock
        self._arrow = arrow
        self._held_bytes = 0

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Before anything is sent it may raise BinanceError or ApiError."""
        asked = asked_by(scope["headers"])
        request = batch_request(scope["query_string"], scope["headers"], self._batch.all_symbols)
        coding = coding_of(asked.accept)
        estimate = request.rows * (PLAIN_ROW_BYTES if request.is_arrow or not coding else CODED_ROW_BYTES)
        if self._held_bytes and self._held_bytes + estimate > HELD_BYTES_MAX:
            raise unavailable("As many batches are under way as may be; try again.", Reason.BUSY, RETRY_AFTER_S)
        self._held_bytes += estimate
        try:
            if request.is_arrow:
                made = await self._as_arrow(request, coding)
            else:
                made = await self._as_json(request, coding)
            await _send(made, asked, send)
        finally:
            self._held_bytes -= estimate

    async def _as_json(self, request: BatchRequest, coding: bytes) -> Made:
        counts, body, digest, sign = Counts(), body_in(coding), xxhash.xxh3_128(), b"{"
        async for entry in self._batch.entries(request.query):
            name, text = b"%b%b:" % (sign, msgspec.json.encode(entry.symbol)), self._counted(entry, counts)
            for part in (name, text):  # joining them would be a copy of all
                digest.update(part)
                body.add(part)
            sign = b","
        body.add(b"}")
        return Made(counts, body, digest.hexdigest(), coding, is_arrow=False)

    async def _as_arrow(self, request: BatchRequest, coding: bytes) -> Made:
        """The batch as an Arrow stream, whose schema names the symbols that are not whole; as JSON if none is."""
        counts, plain, digest = Counts(), PlainBody(), xxhash.xxh3_128()
        try:
            async for entry, part in self._parts(request):
                digest.update(b"%b:%b" % (entry.symbol.encode(), self._counted(entry, counts)))
                plain.add(part)
            stated = {symbol: {"code": error.code, "msg": error.msg} for symbol, error in counts.errors.items()}
            errors = msgspec.json.encode(stated)
            if not counts.whole:
                plain.add(errors)
                return Made(counts, plain, digest.hexdigest(), PLAIN, is_arrow=False)
            facts = {"interval": request.query.interval.code, "errors": errors.decode()}
            plain.put_before(await asyncio.to_thread(self._arrow.begin, facts))
        except ArrowMissing as error:
            raise ApiError(501, str(error)) from error
        plain.add(END)
        if not coding:
            return Made(counts, plain, digest.hexdigest(), coding, is_arrow=True)
        body = body_in(coding)
        for piece in plain.pieces():
            await asyncio.to_thread(body.add, piece)
        return Made(counts, body, digest.hexdigest(), coding, is_arrow=True)

    async def _parts(self, request: BatchRequest) -> AsyncIterator[tuple[Entry, bytes]]:
        """Each entry with its part of an Arrow stream, empty for an error. Raises ArrowMissing."""
        async for entry in self._batch.entries(request.query):
            if isinstance(entry.found, BinanceError):
                yield entry, b""
                continue
            try:
                part = await asyncio.to_thread(self._arrow.klines, entry.symbol, entry.found.body)
            except ValueError as error:
                yield Entry(entry.symbol, BinanceError(501, -1000, f"Arrow cannot hold this exactly: {error}")), b""
            else:
                yield entry, part

    def _counted(self, entry: Entry, counts: Counts) -> bytes:
        """The JSON value of an entry, which `counts` has counted."""
        found = entry.found
        if isinstance(found, BinanceError):
            counts.errors[entry.symbol] = found
            counts.max_age_s = 0  # it may be whole the next moment
            return found.body()
        counts.whole += 1
        counts.holed += bool(found.holes)
        age_s = self._pages.max_age_s(found, self._clock.now_ms())
        counts.max_age_s = age_s if counts.max_age_s is None else min(counts.max_age_s, age_s)
        return found.body


async def _send(made: Made, asked: Asked, send: Send) -> None:
    """Send a batch, or that the client's is still true."""
    size, status, etag = made.body.end(), made.counts.status(), made.etag
    headers: list[Header] = [_VARY, *BINANCE, _EXPOSED, made.counts.header()]
    if status == 200:
        headers += [(b"etag", etag), cache_control(made.counts.max_age_s or 0)]
        if asked.condition and matches(asked.condition, etag.removeprefix(b"W/")):
            status = NOT_MODIFIED
    else:
        headers += made.counts.refusal()
    if status != NOT_MODIFIED:
        headers += [_ARROW if made.is_arrow else JSON, (b"content-length", b"%d" % size)]
        headers += [(b"content-encoding", made.coding)] if made.coding else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if status != NOT_MODIFIED:
        try:
            async with asyncio.timeout(SENT_S_MAX):
                for piece in made.body.pieces():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            return  # the server closes the connection, so the client knows that its answer is not whole
    await send({"type": "http.response.body", "body": b""})


class _BatchResponse(Response):
    """The answer to one request, which is made while it is sent."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._batches.respond(scope, receive, send)


def batch_router(batches: Batches) -> APIRouter:
    """The router with the batch route."""
    router = APIRouter(tags=["market data"], responses=OWN_LIMITS)

    @router.get(
        BATCH_PATH,
        summary="Held klines of many symbols in one answer, as JSON or Arrow",
        openapi_extra=BATCH_DOC,
        responses=BATCH_RESPONSES,
    )
    async def batch(_request: Request) -> Response:
        return _BatchResponse(batches)

    return router
