"""Binance's REST API, with each request admitted by the weight budget."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from app.binance import error_body, server_time
from app.binance.unreadable import UNREADABLE
from app.domain.interval import Grid
from app.domain.kind import Bucket, Row
from app.domain.kline import BadKline
from app.domain.series import Series
from app.domain.span import Span
from app.events import GarbageDropped
from app.outbound import Destination
from app.ports.errors import UpstreamError, UpstreamGarbage, UpstreamRejected, UpstreamUnavailable
from app.ports.exchange import Priority, RawAnswer
from app.runtime import Runtime
from infra.binance import headers
from infra.binance.budget import Ticket, WeightBudget
from infra.binance.stand_down import STAND_DOWN_STATUSES
from infra.net.http import BODY_BYTES_MAX, TRIES_MAX, Answer, HttpClient, NoAnswer, Retries, Transport

TRIES_MAX_USER: Final = 2  # a client waits for the answer; an early error serves it better than more retries
TRIES_MAX_BUCKET: Final = 1  # few requests are granted, and others wait for their turn; the next turn tries again
_LIGHT_WEIGHT: Final = 1  # exchangeInfo and time (binance-facts section 2.1)
_TOO_MANY_REQUESTS: Final = -1003
RAW_BYTES_MAX: Final = 4 * 1024 * 1024  # of an answer for a client; the 24 h tickers of all symbols have 0.4 MB


Asking = Callable[[], Callable[[int], None]]
"""Called when a request is sent; returns the function to call with the Date of its answer (ms, whole seconds)."""


class BinanceRest:
    """Binance's REST API at `base_url` (scheme, host and port). Every method may raise UpstreamError."""

    def __init__(
        self,
        at: Destination,
        runtime: Runtime,
        budget: WeightBudget,
        *,
        transport: Transport | None = None,
        asking: Asking = lambda: lambda _: None,
    ) -> None:
        self._asking = asking
        self._budget = budget
        self._observe = runtime.observe
        self._retries = Retries(runtime.clock, runtime.seed)
        self._http = HttpClient(
            at.url,
            runtime.clock,
            runtime.observe,
            egress=at.egress,
            transport=transport,
            used_weight=headers.used_weight,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Sequence[Any]:
        """Request klines, ascending: the oldest `limit` that open in `window`.

        Without a window: the newest `limit`, of which the last is in progress. With `newest`: the newest `limit` before
        the window's end; the window must begin at 0. Raises UpstreamError, also for an answer with one invalid row.
        """
        pages = series.kind.rest
        assert 1 <= limit <= pages.rows_max, f"limit {limit} is not one the exchange accepts"
        assert window is None or window, "an empty window has no klines"
        assert not newest or (window is not None and not window.start_ms), "the newest before a time begin anywhere"
        params: dict[str, str | int] = {pages.symbol: series.symbol}
        params |= {pages.interval: series.interval.code} if pages.interval else {}
        params["limit"] = limit
        if window is not None:
            assert pages.reach_ms is None or grid.count(*window) <= limit, "the answer would lack the oldest rows"
            params |= {} if newest else {"startTime": window.start_ms + pages.stamp_ms}
            params["endTime"] = window.end_ms - 1 + pages.stamp_ms  # both are inclusive
        body = await self._get(pages.path, params, pages.weight(limit), priority, pages.bucket)
        try:
            rows = pages.decode(body, grid, series.symbol)
            _check_bounds(rows, window, limit)
        except BadKline as error:
            raise self._garbage(f"klines {series}", str(error)) from error
        return rows

    async def exchange_info(self, priority: Priority) -> bytes:
        """The body of exchangeInfo."""
        return await self._get("/fapi/v1/exchangeInfo", {}, _LIGHT_WEIGHT, priority)

    async def server_time_ms(self, priority: Priority) -> int:
        """The exchange's clock, in ms since the epoch."""
        body = await self._get("/fapi/v1/time", {}, _LIGHT_WEIGHT, priority)
        try:
            return server_time.decode(body)
        except server_time.BadServerTime as error:
            raise self._garbage("time", str(error)) from error

    async def ask(
        self, path: str, params: Mapping[str, str], weight: int, bucket: Bucket | None, priority: Priority
    ) -> RawAnswer:
        """Send any GET request; returns the exchange's JSON or its error body. Raises UpstreamError."""

        async def attempt() -> RawAnswer:
            async with self._budget.spend(weight, priority, bucket=bucket) as ticket:
                answer = await self._answer(ticket, path, params, RAW_BYTES_MAX)
            if answer.status == 200:
                try:
                    msgspec.json.decode(answer.body)
                except UNREADABLE as error:
                    raise self._garbage(path, str(error)) from error
            elif not isinstance(refusal := _refusal(path, answer), UpstreamRejected):
                raise refusal
            return RawAnswer(answer.status, answer.body)

        return await self._retries.run(attempt, TRIES_MAX_USER if priority is Priority.USER else TRIES_MAX)

    async def probe(self) -> None:
        """Send one light request without retries, also while the exchange is silent, to see if it answers again."""
        await self._try("/fapi/v1/time", {}, _LIGHT_WEIGHT, Priority.USER, is_probe=True)

    async def _get(
        self, path: str, params: dict[str, str | int], weight: int, priority: Priority, bucket: Bucket | None = None
    ) -> bytes:
        async def attempt() -> bytes:
            return await self._try(path, params, weight, priority, bucket)

        tries = TRIES_MAX_USER if priority is Priority.USER else TRIES_MAX if bucket is None else TRIES_MAX_BUCKET
        return await self._retries.run(attempt, tries)

    async def _try(
        self,
        path: str,
        params: dict[str, str | int],
        weight: int,
        priority: Priority,
        bucket: Bucket | None = None,
        *,
        is_probe: bool = False,
    ) -> bytes:
        async with self._budget.spend(weight, priority, bucket=bucket, is_probe=is_probe) as ticket:
            answer = await self._answer(ticket, path, params, BODY_BYTES_MAX)
            if answer.status != 200:
                raise _refusal(path, answer)
            return answer.body

    async def _answer(self, ticket: Ticket, path: str, params: Mapping[str, str | int], bytes_max: int) -> Answer:
        """Send one request whose weight `ticket` has booked. Raises StandDown if the answer requires one."""
        dated = self._asking()
        try:
            answer = await self._http.get(
                path, params, weight=ticket.weight, bytes_max=bytes_max, leaving=self._budget.check
            )
        except UpstreamGarbage as error:
            raise self._garbage(path, str(error)) from error
        ticket.answered(headers.used_weight(answer.headers), is_success=answer.status == 200)
        if (date_ms := headers.date_ms(answer)) is not None:
            dated(date_ms)
        if answer.status != 200:
            stated = error_body.decode(answer.status, answer.body)
            if answer.status in STAND_DOWN_STATUSES or (stated is not None and stated.code == _TOO_MANY_REQUESTS):
                msg = stated.msg if stated else answer.body.decode(errors="replace")
                retry_after = answer.headers.get("retry-after")
                raise await self._budget.stand_down(answer.status, retry_after, msg, ticket.sent_ms)
        return answer

    def _garbage(self, where: str, reason: str) -> UpstreamGarbage:
        self._observe(GarbageDropped(where, reason))
        return UpstreamGarbage(f"{where}: {reason}")


def _refusal(path: str, answer: Answer) -> UpstreamError:
    error = error_body.decode(answer.status, answer.body)
    if answer.is_transient:
        return NoAnswer(f"{path}: HTTP {answer.status} {answer.body!r:.120}")
    if error is not None and answer.status >= 400:
        return UpstreamRejected(error.status, error.code, error.msg)
    return UpstreamUnavailable(f"{path}: HTTP {answer.status}, not an answer of Binance: {answer.body!r:.120}")


def _check_bounds(klines: Sequence[Row], window: Span | None, limit: int) -> None:
    if len(klines) > limit:
        raise BadKline(f"{len(klines)} rows where {limit} were asked for")
    if klines and window is not None:
        first_ms, last_ms = klines[0].open_ms, klines[-1].open_ms
        if first_ms < window.start_ms or last_ms >= window.end_ms:
            raise BadKline(f"rows {first_ms} to {last_ms} lie outside the window {tuple(window)}")
