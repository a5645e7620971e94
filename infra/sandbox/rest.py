"""The /fapi endpoints: parameters, windows, weights and error bodies as binance-facts sections 1–3 state them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.sandbox.exchange import Exchange
from infra.sandbox.exchange_info import exchange_info
from infra.sandbox.faults import Fault, FaultBoard, Target
from infra.sandbox.grid import INTERVALS
from infra.sandbox.journal import Journal
from infra.sandbox.limits import Verdict, WeightLimiter, klines_weight
from infra.sandbox.market import cost_minutes
from infra.sandbox.render import Row

LIMIT_DEFAULT = 500
LIMIT_MAX = 1_500
INLINE_MINUTES_MAX = 1_500  # windows over more minutes than this are computed in a thread
_INT64_MAX = (1 << 63) - 1
_END_OF_CALENDAR_MS = 253_402_300_799_999  # the last of the year 9999: no candle opens later, and months end there
_USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"
_HTML_ERROR = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"
)


class ApiError(Exception):
    """A request that the exchange refuses; `code` and `msg` are the body."""

    def __init__(self, code: int, msg: str, status: int = 400) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status = code, msg, status


class Answer(NamedTuple):
    """An answer before its headers."""

    status: int
    body: bytes
    media_type: str = "application/json"
    retry_after_s: int | None = None


@dataclass(slots=True)
class RestApi:
    """The ASGI application under /fapi."""

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
        weight = klines_weight(query.get("limit")) if request.scope["path"] == "/fapi/v1/klines" else 1
        now_ms = self._now()
        verdict = self.limiter.admit(ip, weight, now_ms)
        answer = await self._answer(request, query, target, verdict, ip)
        malformed = self.faults.take("malformed", target, now_ms) if answer.status == 200 else None
        self._write(request, query, answer, weight, verdict, now_ms)
        if malformed is not None:
            if malformed.shape == "abort" and abort_transport(send):
                return
            answer = _spoil(answer, malformed)
        await self._respond(answer, verdict.used_weight, scope, receive, send)

    async def _answer(
        self, request: Request, query: Mapping[str, str], target: Target, verdict: Verdict, ip: str
    ) -> Answer:
        if verdict.status != 200:
            return _rejection(verdict, ip, self.limiter.weight_limit)
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
            return Answer(error.status, orjson.dumps({"code": error.code, "msg": error.msg}))

    async def _result(self, request: Request, query: Mapping[str, str], target: Target) -> object:
        path, now_ms = request.scope["path"], self._now()
        if request.method in {"GET", "HEAD"}:
            if path == "/fapi/v1/ping":
                return {}
            if path == "/fapi/v1/time":
                return {"serverTime": now_ms}
            if path == "/fapi/v1/exchangeInfo":
                return exchange_info(self.exchange.universe.at(now_ms), now_ms, self.limiter.weight_limit)
            if path == "/fapi/v1/klines":
                return await self._klines(query, target)
        raise ApiError(-5000, f"Path {path}, Method {request.method} is invalid", 404)

    async def _klines(self, query: Mapping[str, str], target: Target) -> list[Row]:
        now_ms = self._now()
        symbol, interval = _mandatory(query, "symbol"), _mandatory(query, "interval")
        limit, start_ms, end_ms = (_integer(query, name) for name in ("limit", "startTime", "endTime"))
        if limit is not None and not 1 <= limit <= LIMIT_MAX:
            raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
        for name, value in (("startTime", start_ms), ("endTime", end_ms)):
            if value is not None and value < 0:
                raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
        if interval not in INTERVALS:
            raise ApiError(-1120, "Invalid interval.")
        item = self.exchange.universe.find(symbol.upper(), now_ms)
        if item is None:
            raise ApiError(-1121, "Invalid symbol.")
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise ApiError(-1023, "Start time is greater than end time.")
        start_ms, end_ms = (None if time is None else min(time, _END_OF_CALENDAR_MS) for time in (start_ms, end_ms))
        wish = (item, interval, start_ms, end_ms, limit or LIMIT_DEFAULT, now_ms)
        if cost_minutes(interval, limit or LIMIT_DEFAULT) > INLINE_MINUTES_MAX:
            rows = await asyncio.to_thread(self.exchange.window, *wish)
        else:
            rows = self.exchange.window(*wish)
        fault = self.faults.take("missing_rows", target, now_ms)
        return rows if fault is None else drop_rows(rows, fault)

    async def _respond(self, answer: Answer, used_weight: int, scope: Scope, receive: Receive, send: Send) -> None:
        date = formatdate(self._now() / 1_000, usegmt=True)
        headers = {_USED_WEIGHT: str(used_weight), "access-control-allow-origin": "*", "Date": date}
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


def drop_rows(rows: list[Row], fault: Fault) -> list[Row]:
    """The rows without those that open in [from_ms, to_ms), or, without these, without `rows` from the middle."""
    if fault.from_ms is not None or fault.to_ms is not None:
        low, high = fault.from_ms or 0, fault.to_ms if fault.to_ms is not None else _INT64_MAX
        return [row for row in rows if not low <= int(row[0]) < high]
    middle = max(0, (len(rows) - fault.rows) // 2)
    return rows[:middle] + rows[middle + fault.rows :]


def abort_transport(send: Send) -> bool:
    """Cut the TCP connection behind an ASGI `send` at once; False where no transport can be reached."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    abort = getattr(transport, "abort", None)
    if abort is None:
        return False
    abort()
    return True


def stop_reading(send: Send) -> bool:
    """Leave what the client sends unread from now on; False where no transport can be reached."""
    pause = getattr(getattr(getattr(send, "__self__", None), "transport", None), "pause_reading", None)
    if pause is None:
        return False
    pause()
    return True


def _target(path: str, query: Mapping[str, str]) -> Target:
    return Target(symbol=query.get("symbol", "").upper(), interval=query.get("interval", ""), path=path)


def _mandatory(query: Mapping[str, str], name: str) -> str:
    value = query.get(name, "")
    if not value:
        raise _malformed(name)
    return value


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19 or int(digits) > _INT64_MAX:
        raise _malformed(name)
    return int(text)


def _malformed(name: str) -> ApiError:
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def _rejection(verdict: Verdict, ip: str, weight_limit: int) -> Answer:
    if verdict.status == 418:
        until = "" if verdict.banned_until_ms is None else f" until {verdict.banned_until_ms}"
        msg = f"Way too many requests; IP({ip}) banned{until}. Please use the websocket for live updates to avoid bans."
    else:
        msg = (
            f"Too many requests; current limit of IP({ip}) is {weight_limit} requests per minute. "
            "Please use the websocket for live updates to avoid polling the API."
        )
    return Answer(verdict.status, orjson.dumps({"code": -1003, "msg": msg}), retry_after_s=verdict.retry_after_s)


def _server_error(status: int) -> Answer:
    """503 speaks JSON, the other 5xx come from the CDN in front and speak HTML (binance-facts section 1.2)."""
    if status == 503:
        return Answer(503, orjson.dumps({"code": -1008, "msg": "Service Unavailable."}))
    return Answer(status, _HTML_ERROR.format(f"{status} ERROR").encode(), "text/html")


def _spoil(answer: Answer, fault: Fault) -> Answer:
    if fault.shape == "truncated":
        return answer._replace(body=answer.body[: len(answer.body) // 2])
    if fault.shape == "empty":
        return answer._replace(body=b"")
    return Answer(200, _HTML_ERROR.format("Attention Required!").encode(), "text/html")
