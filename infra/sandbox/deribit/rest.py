"""Deribit's REST: the public methods by GET, and JSON-RPC by POST, with errors and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from infra.sandbox.deribit import rpc
from infra.sandbox.deribit.methods import METHODS
from infra.sandbox.deribit.peer import REQUEST_COST, request_pool
from infra.sandbox.deribit.query import TOO_MANY, RpcError
from infra.sandbox.faults import Target
from infra.sandbox.limits import Pool
from infra.sandbox.rest_faults import spoiled, unavailable
from infra.sandbox.venue import Answer, Venue

PREFIX: Final = "/api/v2"
_CLIENTS_MAX: Final = 10_000  # IPs whose credits are counted; then counting begins again
_HEADERS: Final = {"Content-Type": "application/json"}


@dataclass(slots=True)
class DeribitRest:
    """Answers requests under /api/v2."""

    venue: Venue
    _pools: dict[str, Pool] = field(default_factory=dict)

    def answer(self, path: str, params: Mapping[str, str], now_ms: int, ip: str = "") -> Answer:
        """The answer to GET `path` with `params`. Errors are answers too."""
        return self._answer(rpc.Request(path.removeprefix(f"{PREFIX}/"), params, None), now_ms, ip)

    def post(self, body: bytes, now_ms: int, ip: str = "") -> Answer:
        """The answer to a JSON-RPC request."""
        try:
            request = rpc.parse(body)
        except RpcError as error:
            return Answer(400, _HEADERS, rpc.error(None, error, now_ms))
        return self._answer(request, now_ms, ip)

    def _answer(self, request: rpc.Request, now_ms: int, ip: str) -> Answer:
        name, resolution = (str(request.params.get(each, "")) for each in ("instrument_name", "resolution"))
        path = f"{PREFIX}/{request.method}"
        target, faults = Target(symbol=name, interval=resolution, path=path, venue=self.venue.name), self.venue.faults
        if (broken := unavailable(faults, target, now_ms)) is not None:
            return broken
        try:
            value = self._value(request, target, now_ms, ip)
        except RpcError as error:
            status = 429 if error.code == TOO_MANY else 400
            return Answer(status, _HEADERS, rpc.error(request.number, error, now_ms))
        return spoiled(faults, target, now_ms, Answer(200, _HEADERS, rpc.result(request.number, value, now_ms)))

    def _value(self, request: rpc.Request, target: Target, now_ms: int, ip: str) -> object:
        faults = self.venue.faults
        if faults.take("http_429", target, now_ms) is not None or not self._admits(ip, now_ms):
            raise RpcError(TOO_MANY, "too_many_requests")
        if (fault := faults.take("error_answer", target, now_ms)) is not None:
            raise RpcError(fault.code or 13888, "timed_out")
        method = METHODS.get(request.method)
        if method is None:
            raise RpcError(-32601, "Method not found")
        return method(self.venue, request.params, now_ms)

    def _admits(self, ip: str, now_ms: int) -> bool:
        if len(self._pools) >= _CLIENTS_MAX:
            self._pools.clear()
        return self._pools.setdefault(ip, request_pool()).take(REQUEST_COST, now_ms)
