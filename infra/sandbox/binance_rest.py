"""Binance's REST without I/O: market data with its errors and weights, for those who own the time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from infra.sandbox.endpoints import ENDPOINTS
from infra.sandbox.exchange import Exchange
from infra.sandbox.exchange_info import exchange_info
from infra.sandbox.faults import FaultBoard, Target
from infra.sandbox.limits import WEIGHT_LIMIT, WeightLimiter
from infra.sandbox.params import ApiError, upper
from infra.sandbox.rest_faults import spoiled, unavailable
from infra.sandbox.venue import Answer

_HEADERS: Final = {"Content-Type": "application/json"}


@dataclass(slots=True)
class BinanceRest:
    """Answers requests under /fapi and /futures/data."""

    exchange: Exchange
    faults: FaultBoard
    limiter: WeightLimiter = field(default_factory=lambda: WeightLimiter(WEIGHT_LIMIT))

    def answer(self, path: str, params: Mapping[str, str], now_ms: int, ip: str = "") -> Answer:
        """The answer to GET `path` with `params`. Errors are answers too."""
        query = dict(params)
        target = Target(symbol=upper(query.get("symbol", "")), interval=query.get("interval", ""), path=path)
        if (broken := unavailable(self.faults, target, now_ms)) is not None:
            return broken
        endpoint = ENDPOINTS.get(path)
        verdict = self.limiter.admit(ip, endpoint.weight(query) if endpoint else 1, now_ms)
        if verdict.status != 200 or self.faults.take("http_429", target, now_ms) is not None:
            status = 429 if verdict.status == 200 else verdict.status
            return _json(status, {"code": -1003, "msg": "Too many requests."}, retry_after_s=verdict.retry_after_s)
        if (fault := self.faults.take("error_answer", target, now_ms)) is not None:
            return _json(400, {"code": fault.code or -1000, "msg": "The sandbox was told to refuse this."})
        try:
            result = self._result(path, query, now_ms)
        except ApiError as error:
            return _json(error.status, {"code": error.code, "msg": error.msg})
        return spoiled(self.faults, target, now_ms, _json(200, result))

    def _result(self, path: str, query: dict[str, str], now_ms: int) -> object:
        if path == "/fapi/v1/ping":
            return {}
        if path == "/fapi/v1/time":
            return {"serverTime": now_ms}
        if path == "/fapi/v1/exchangeInfo":
            return exchange_info(self.exchange.universe.at(now_ms), now_ms, self.limiter.weight_limit)
        endpoint = ENDPOINTS.get(path)
        if endpoint is None:
            raise ApiError(-5000, f"Path {path}, Method GET is invalid", 404)
        return endpoint.answer(self.exchange, query, now_ms)


def _json(status: int, body: object, *, retry_after_s: int | None = None) -> Answer:
    headers = _HEADERS if retry_after_s is None else {**_HEADERS, "Retry-After": str(retry_after_s)}
    return Answer(status, dict(headers), orjson.dumps(body))
