"""The HTTP client for REST and archives of exchanges: GET requests with bounded time and size."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from random import Random
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx
from socksio.exceptions import SOCKSError

from app.domain.backoff import full_jitter_s
from app.events import Observe, RequestDone
from app.outbound import DIRECT, Egress, url_of
from app.ports.clock import Clock
from app.ports.errors import UpstreamGarbage, UpstreamUnavailable
from infra.net.body import BadBody, unpacker
from infra.net.tls import trusting, trusting_nobody

CONNECT_S_MAX: Final = 5.0
READ_S_MAX: Final = 10.0  # between two pieces of an answer
TOTAL_S_MAX: Final = 60.0  # of a whole answer
CONNECTIONS_MAX: Final = 16  # to a host; as many requests as Binance's budget allows at once
KEEPALIVE_S: Final = 30.0  # below the idle timeout of exchanges' front servers
BODY_BYTES_MAX: Final = 32 * 1024 * 1024  # Binance's exchangeInfo, the largest answer, has 1.2 MB
ERROR_BYTES_MAX: Final = 64 * 1024  # error bodies have 200 bytes; a longer one is the page of some proxy
USER_AGENT: Final = "klinenode"

TRIES_MAX: Final = 5
PAUSE_S_FIRST: Final = 0.5
PAUSE_S_MAX: Final = 15.0

if find_spec("sniffio") is None:
    # httpcore imports it for each of the four locks of a request; a failed import searches the disk each time (0.3 ms)
    sys.modules["sniffio"] = None  # type: ignore[assignment]

Leaving = Callable[[], Awaitable[None]]
"""Awaited just before the first byte of a request is sent; an exception prevents the request."""

Sink = Callable[[bytes], object]
"""Called with each piece of the body of a 200 answer as it arrives."""

WeightOf = Callable[[Mapping[str, str]], int | None]
"""Reads, out of an answer's headers, the weight that the host says this IP has used; None if they do not say."""

Transport = httpx.AsyncBaseTransport
"""Replaces the network, in tests."""

_T = TypeVar("_T")


def no_weight(_headers: Mapping[str, str]) -> None:
    """The WeightOf of a host that counts no weight."""


class NoAnswer(UpstreamUnavailable):
    """The connection failed, broke or took too long; the request can be retried."""


class Answer(NamedTuple):
    """A complete HTTP answer; `body` is empty if it was passed to a sink."""

    status: int
    headers: Mapping[str, str]  # whose names have no case
    body: bytes

    @property
    def date_ms(self) -> int | None:
        """The Date header (ms, whole seconds); None if it is missing, invalid, or of a cached answer (Age)."""
        if "age" in self.headers:
            return None
        try:
            moment = parsedate_to_datetime(self.headers.get("date", ""))
        except (ValueError, OverflowError):
            return None
        return int(moment.timestamp()) * 1_000 if moment.tzinfo else None

    @property
    def is_transient(self) -> bool:
        """Whether the status may go away with a retry: 408 or 5xx."""
        return self.status == 408 or self.status >= 500


class Retries:
    """Retries attempts without an answer, with exponential back-off and full jitter."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._chance = Random(seed)  # noqa: S311  spreads retries, guards nothing

    async def run(self, attempt: Callable[[], Awaitable[_T]], tries: int = TRIES_MAX) -> _T:
        """Return the result of `attempt`, called up to `tries` times. Only NoAnswer is retried; the last is raised."""
        for failures in range(1, tries):
            try:
                return await attempt()
            except NoAnswer:
                await self._clock.sleep(full_jitter_s(self._chance, failures, PAUSE_S_FIRST, PAUSE_S_MAX))
        return await attempt()


class HttpClient:
    """GET requests to one host. Proxy and certificates are those of `egress`, never of the environment.

    `used_weight` reads what RequestDone reports of an answer.
    """

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        observe: Observe,
        *,
        egress: Egress = DIRECT,
        transport: Transport | None = None,
        used_weight: WeightOf = no_weight,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._host = urlsplit(base_url).hostname or ""
        self._used_weight = used_weight
        self._client = httpx.AsyncClient(
            base_url=base_url,
            proxy=_proxy(egress),
            verify=trusting(egress) if base_url.lower().startswith("https:") else trusting_nobody(),
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(READ_S_MAX, connect=CONNECT_S_MAX, pool=TOTAL_S_MAX),
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=CONNECTIONS_MAX,
                keepalive_expiry=KEEPALIVE_S,
            ),
            headers={"user-agent": USER_AGENT, "accept-encoding": "gzip"},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def get(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        weight: int = 0,
        bytes_max: int = BODY_BYTES_MAX,
        sink: Sink | None = None,
        leaving: Leaving | None = None,
    ) -> Answer:
        """Send a GET request and return the answer of any status. The body of a 200 is passed to `sink` if given.

        `weight` is only reported. Raises NoAnswer, whatever `leaving` raises, and UpstreamGarbage if the body has more
        than `bytes_max` bytes.
        """
        began_ms = self._clock.now_ms()
        answer: Answer | None = None
        try:
            async with asyncio.timeout(TOTAL_S_MAX):
                answer = await self._get(path, params, bytes_max, sink, leaving)
                return answer
        except TimeoutError as error:
            raise NoAnswer(f"{path}: no whole answer within {TOTAL_S_MAX:.0f} s") from error
        except (httpx.HTTPError, httpx.StreamError, SOCKSError, BadBody, OSError) as error:
            raise NoAnswer(f"{path}: {type(error).__name__} {error}".rstrip()) from error
        finally:
            status, used = (answer.status, self._used_weight(answer.headers)) if answer else (0, None)
            elapsed_s = (self._clock.now_ms() - began_ms) / 1_000
            self._observe(RequestDone(path, status, weight, used, elapsed_s, self._host))

    async def _get(
        self,
        path: str,
        params: Mapping[str, str | int] | None,
        bytes_max: int,
        sink: Sink | None,
        leaving: Leaving | None,
    ) -> Answer:
        encoding = {"accept-encoding": "identity"} if sink else None  # a ZIP is compressed already
        traced = {"trace": _tracer(leaving)} if leaving else None
        async with self._client.stream("GET", path, params=params, headers=encoding, extensions=traced) as response:
            is_good = response.status_code == 200
            room = bytes_max if is_good else ERROR_BYTES_MAX
            pieces: list[bytes] = []
            take: Sink = sink if sink and is_good else pieces.append
            try:
                await _unpack(response, room, take)
            except _TooLarge as error:
                if is_good:
                    raise UpstreamGarbage(f"{path}: more than {bytes_max} bytes") from error
            return Answer(response.status_code, response.headers, b"".join(pieces))


def _proxy(egress: Egress) -> httpx.Proxy | None:
    if egress.proxy is None:
        return None
    # the certificate of an https:// proxy is verified by the same rule
    return httpx.Proxy(url_of(egress.proxy), ssl_context=trusting(egress) if egress.proxy.scheme == "https" else None)


class _TooLarge(Exception):
    """A body is larger than allowed."""


async def _unpack(response: httpx.Response, bytes_max: int, take: Sink) -> None:
    """Decode the body and pass its pieces to `take`. Raises _TooLarge, BadBody.

    `bytes_max` also limits the encoded bytes, because an endless body may decode to nothing.
    """
    body = unpacker(response.headers.get("content-encoding", ""))
    raw_room = room = bytes_max
    async for raw in response.aiter_raw():
        raw_room -= len(raw)
        for piece in body.pieces(raw):
            room -= len(piece)
            if room < 0:
                raise _TooLarge
            take(piece)
        if raw_room < 0:
            raise _TooLarge
    body.finish()


def _tracer(leaving: Leaving) -> Callable[[str, object], Awaitable[None]]:
    async def trace(event: str, _info: object) -> None:
        if event.endswith("send_request_headers.started"):
            await leaving()

    return trace
