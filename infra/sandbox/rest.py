"""The REST API of the sandbox (binance-facts section 1)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import NamedTuple, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.sandbox.endpoints import ENDPOINTS, SIGNED, Endpoint
from infra.sandbox.exchange import Exchange
from infra.sandbox.exchange_info import exchange_info
from infra.sandbox.faults import Fault, FaultBoard, Target
from infra.sandbox.hidden import Ask, Hidden, RowForm, without
from infra.sandbox.journal import Journal
from infra.sandbox.limits import Bucket, Verdict, WeightLimiter
from infra.sandbox.params import INT64_MAX, ApiError, Query, malformed, upper
from infra.sandbox.render import Row

_USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"
_KEY_HEADER = "X-MBX-APIKEY"
_DATA = "/futures/data/"  # errors here have `msg` first
_HTML_ERROR = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"
)


class Answer(NamedTuple):
    """An answer without its headers."""

    status: int
    body: bytes
    media_type: str = "application/json"
    retry_after_s: int | None = None


@dataclass(slots=True)
class RestApi:
    """The ASGI application under /fapi and /futures/data."""

    exchange: Exchange
    limiter: WeightLimiter
    faults: FaultBoard
    journal: Journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: faults first, then bans and limits, then the endpoint."""
        request = Request(scope, receive)
        query = dict(request.query_params)
        ip = request.client.host if request.client else "unknown"
        target = _target(request.scope["path"], query)
        if (slow := self.faults.take("slow", target, self._now())) is not None:
            await self.exchange.clock.sleep(slow.delay_s)
        if (ban := self.faults.take("http_418", target, self._now())) is not None:
            told = {"tell_retry_after": ban.retry_after, "tell_until": ban.banned_until}
            self.limiter.ban(ip, ban.ban_s, self._now(), **told)
        endpoint = ENDPOINTS.get(request.scope["path"])
        weight, bucket = (endpoint.weight(query), endpoint.bucket) if endpoint else (1, None)
        now_ms = self._now()
        if bucket is None:
            verdict = self.limiter.admit(ip, weight, now_ms)
        else:
            verdict = self.limiter.admit_to(bucket, ip, now_ms, request.scope["path"])
        answer = await self._answer(request, query, target, verdict, ip)
        malformed = self.faults.take("malformed", target, now_ms) if answer.status == 200 else None
        self._write(request, query, answer, weight, verdict, now_ms)
        if malformed is not None:
            if malformed.shape == "abort" and abort_transport(send):
                return
            answer = _spoil(answer, malformed)
        await self._respond(answer, None if bucket else verdict.used_weight, scope, receive, send)

    async def _answer(self, request: Request, query: Query, target: Target, verdict: Verdict, ip: str) -> Answer:
        if verdict.status != 200:
            endpoint = ENDPOINTS.get(request.scope["path"])
            return _rejection(verdict, ip, self.limiter.weight_limit, endpoint.bucket if endpoint else None)
        fault = self.faults.take("http_429", target, self._now())
        if fault is not None:
            again_s = 30 if fault.retry_after_s is None else fault.retry_after_s
            rejection = Verdict(429, verdict.used_weight, again_s)
            return _rejection(rejection, ip, self.limiter.weight_limit)
        fault = self.faults.take("http_5xx", target, self._now())
        if fault is not None:
            return _server_error(fault.status or 503)
        try:
            return Answer(200, orjson.dumps(await self._result(request, query, target)))
        except ApiError as error:
            body: dict[str, object] = {"code": error.code, "msg": error.msg}
            if request.scope["path"].startswith(_DATA):
                body = dict(reversed(body.items()))
            return Answer(error.status, orjson.dumps(body))

    async def _result(self, request: Request, query: Query, target: Target) -> object:
        path, now_ms = request.scope["path"], self._now()
        if path in SIGNED:
            raise _unsigned(request, query)
        if request.method in {"GET", "HEAD"}:
            if path == "/fapi/v1/ping":
                return {}
            if path == "/fapi/v1/time":
                return {"serverTime": now_ms}
            if path == "/fapi/v1/exchangeInfo":
                return exchange_info(self.exchange.universe.at(now_ms), now_ms, self.limiter.weight_limit)
            if (endpoint := ENDPOINTS.get(path)) is not None:
                return await self._ask(endpoint, request, query, target)
        raise ApiError(-5000, f"Path {path}, Method {request.method} is invalid", 404)

    async def _ask(self, endpoint: Endpoint, request: Request, query: Query, target: Target) -> object:
        if endpoint.needs_key and not request.headers.get(_KEY_HEADER):
            raise _no_key()
        now_ms = self._now()
        kinds = ("hole", "lost_history", "missing_rows") if endpoint.rows else ()
        taken = {kind: self.faults.take(kind, target, now_ms) for kind in kinds}
        ask: Callable[[Query], object] = partial(_answered, endpoint, self.exchange, now_ms)
        for fault in taken.values():
            if fault is not None and endpoint.rows is not None and (hidden := hidden_by(fault)) is not None:
                ask = partial(_without, ask, hidden, endpoint.rows)
        result = await asyncio.to_thread(ask, query) if endpoint.in_thread(query) else ask(query)
        missing = taken.get("missing_rows")
        if missing is None or hidden_by(missing) is not None:
            return result
        return drop_rows(cast("list[Row]", result), missing)

    async def _respond(
        self, answer: Answer, used_weight: int | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        date = formatdate(self._now() / 1_000, usegmt=True)
        headers = {"access-control-allow-origin": "*", "Date": date}
        if used_weight is not None:
            headers[_USED_WEIGHT] = str(used_weight)
        if answer.retry_after_s is not None:
            headers["Retry-After"] = str(answer.retry_after_s)
        await Response(answer.body, answer.status, headers, answer.media_type)(scope, receive, send)

    def _write(
        self, request: Request, query: dict[str, str], answer: Answer, weight: int, verdict: Verdict, now_ms: int
    ) -> None:
        self.journal.write(
            now_ms,
            "rest",
            request.scope["path"],
            query=query,
            status=answer.status,
            weight=weight,
            used_weight_1m=verdict.used_weight,
            banned=verdict.status == 418,
        )

    def _now(self) -> int:
        return self.exchange.clock.now_ms()


def hidden_by(fault: Fault) -> Hidden | None:
    """The span that has no rows because of a fault; None if the fault drops rows from the middle of an answer."""
    if fault.from_ms is None and fault.to_ms is None:
        return None
    return Hidden(fault.from_ms or 0, INT64_MAX if fault.to_ms is None else fault.to_ms)


def _answered(endpoint: Endpoint, exchange: Exchange, now_ms: int, query: Query) -> object:
    return endpoint.answer(exchange, query, now_ms)


def _without(ask: Callable[[Query], object], hidden: Hidden, form: RowForm, query: Query) -> object:
    return without(cast("Ask", ask), query, hidden, form)


def drop_rows(rows: list[Row], fault: Fault) -> list[Row]:
    """The rows without those in the fault's [from_ms, to_ms); if it has no times, without `rows` from the middle."""
    if (hidden := hidden_by(fault)) is not None:
        return [row for row in rows if not hidden.start_ms <= int(row[0]) < hidden.end_ms]
    middle = max(0, (len(rows) - fault.rows) // 2)
    return rows[:middle] + rows[middle + fault.rows :]


def abort_transport(send: Send) -> bool:
    """Abort the TCP connection behind an ASGI `send`; False if the transport cannot be accessed."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    abort = getattr(transport, "abort", None)
    if abort is None:
        return False
    abort()
    return True


def stop_reading(send: Send) -> bool:
    """Stop reading from the client; False if the transport cannot be accessed."""
    pause = getattr(getattr(getattr(send, "__self__", None), "transport", None), "pause_reading", None)
    if pause is None:
        return False
    pause()
    return True


def _target(path: str, query: Query) -> Target:
    symbol = query.get("symbol") or query.get("pair", "")
    return Target(symbol=upper(symbol), interval=query.get("interval") or query.get("period", ""), path=path)


def _unsigned(request: Request, query: Query) -> ApiError:
    """The error of a signed route: the key or the signature is missing, or the sandbox does not know them."""
    if not request.headers.get(_KEY_HEADER):
        return _no_key()
    if not query.get("signature"):
        return malformed("signature")
    return ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def _no_key() -> ApiError:
    return ApiError(-2014, "API-key format invalid.", 401)


def _rejection(verdict: Verdict, ip: str, weight_limit: int, bucket: Bucket | None = None) -> Answer:
    if verdict.status == 418:
        until = "" if verdict.banned_until_ms is None else f" until {verdict.banned_until_ms}"
        msg = f"Way too many requests; IP({ip}) banned{until}. Please use the websocket for live updates to avoid bans."
    else:
        limit = f"{weight_limit} requests per minute" if bucket is None else f"{bucket.limit} requests per 5 minutes"
        msg = (
            f"Too many requests; current limit of IP({ip}) is {limit}. "
            "Please use the websocket for live updates to avoid polling the API."
        )
    return Answer(verdict.status, orjson.dumps({"code": -1003, "msg": msg}), retry_after_s=verdict.retry_after_s)


def _server_error(status: int) -> Answer:
    """The answer of a 5xx: 503 has a JSON body, others come from the CDN and are HTML (binance-facts section 1.2)."""
    if status == 503:
        return Answer(503, orjson.dumps({"code": -1008, "msg": "Service Unavailable."}))
    return Answer(status, _HTML_ERROR.format(f"{status} ERROR").encode(), "text/html")


def _spoil(answer: Answer, fault: Fault) -> Answer:
    if fault.shape == "truncated":
        return answer._replace(body=answer.body[: len(answer.body) // 2])
    if fault.shape == "empty":
        return answer._replace(body=b"")
    return Answer(200, _HTML_ERROR.format("Attention Required!").encode(), "text/html")
