"""The exchange's side of one of Deribit's sockets."""

from typing import Final

from infra.sandbox.deribit import rpc
from infra.sandbox.deribit.methods import METHODS
from infra.sandbox.deribit.query import TOO_MANY, Params, RpcError, invalid, needed
from infra.sandbox.deribit.streams import stream_of
from infra.sandbox.faults import Target
from infra.sandbox.grid import SECOND_MS
from infra.sandbox.limits import Pool
from infra.sandbox.peers import STREAMS_MAX, Peer
from infra.sandbox.venue import Venue

PATH: Final = "/ws/api/v2"
HEARTBEAT_LEAST_S: Final = 10
REQUEST_COST: Final = 500  # credits
SUBSCRIBE_COST: Final = 3_000
POLICY: Final = 1008  # how a session ends after too many requests or without an answer to test_request
_RAW: Final = "raw_subscriptions_not_available_for_unauthorized"


def request_pool() -> Pool:
    """The credits of a client: 100 requests at once, 20 a second."""
    return Pool(50_000, 10_000, SECOND_MS)


class DeribitPeer(Peer):
    """Answers JSON-RPC, beats as `public/set_heartbeat` wishes, and pushes the frames of what is subscribed.

    An answer that the fault `reorder` hits comes with the next push, after those of later requests.
    """

    def __init__(self, venue: Venue, path: str, now_ms: int) -> None:
        super().__init__(venue.name, venue.faults, path, now_ms)
        self.venue = venue
        self._requests, self._subscriptions = request_pool(), Pool(30_000, 10_000, SECOND_MS)
        self._beat_every_ms = self._beat_ms = 0
        self._asked_ms: int | None = None

    def _answers(self, text: str, now_ms: int) -> list[str]:
        number: object = None
        try:
            request = rpc.parse(text)
            number = request.number
            self._admit(request, now_ms)
            answer = rpc.result(number, self._result(request, now_ms), now_ms).decode()
        except RpcError as error:
            answer = rpc.error(number, error, now_ms).decode()
            if error.code == TOO_MANY:
                self.close(POLICY, "too_many_requests")
            return [answer]
        if self.venue.faults.take("reorder", self._target(request.method, request.params), now_ms):
            self._queued.append(answer)
            return []
        return [answer]

    def _admit(self, request: rpc.Request, now_ms: int) -> None:
        is_subscription = request.method == "public/subscribe"
        pool, cost = (self._subscriptions, SUBSCRIBE_COST) if is_subscription else (self._requests, REQUEST_COST)
        if not pool.take(cost, now_ms):
            raise RpcError(TOO_MANY, "too_many_requests")
        fault = self.venue.faults.take("error_answer", self._target(request.method, request.params), now_ms)
        if fault is not None:
            raise RpcError(fault.code or 13888, "timed_out", {"reason": "the sandbox was told to refuse this"})

    def _result(self, request: rpc.Request, now_ms: int) -> object:
        match request.method:
            case "public/test":
                self._asked_ms = None
            case "public/subscribe":
                return self._subscribe(_channels(request.params), now_ms)
            case "public/unsubscribe":
                return [name for name in _channels(request.params) if self.streams.pop(name, None)]
            case "public/unsubscribe_all":
                self.streams.clear()
                return "ok"
            case "public/set_heartbeat":
                return self._set_heartbeat(needed(request.params, "interval"), now_ms)
            case "public/disable_heartbeat":
                self._beat_every_ms, self._asked_ms = 0, None
                return "ok"
        method = METHODS.get(request.method)
        if method is None:
            raise RpcError(-32601, "Method not found")
        return method(self.venue, request.params, now_ms)

    def _subscribe(self, channels: list[str], now_ms: int) -> list[str]:
        """The channels that exist; the others are left out without an error."""
        if any(name.endswith(".raw") for name in channels):
            raise RpcError(13778, _RAW)
        accepted: list[str] = []
        for name in channels:
            stream = self.streams.get(name) or stream_of(self.venue, name, self.path, now_ms)
            if stream is not None and len(self.streams) < STREAMS_MAX:
                self.streams[name] = stream
                accepted.append(name)
        return accepted

    def _set_heartbeat(self, interval_s: int, now_ms: int) -> str:
        if interval_s < HEARTBEAT_LEAST_S:
            raise invalid("interval", f"must be at least {HEARTBEAT_LEAST_S}")
        self._beat_every_ms, self._beat_ms, self._asked_ms = interval_s * SECOND_MS, now_ms, None
        return "ok"

    def _keep_alive(self, now_ms: int) -> list[str]:
        if not self._beat_every_ms or now_ms - self._beat_ms < self._beat_every_ms:
            return []
        self._beat_ms = now_ms
        if self._asked_ms is not None:
            self.close(POLICY, "heartbeat_timeout")
            return []
        self._asked_ms = now_ms
        return [rpc.heartbeat("heartbeat"), rpc.heartbeat("test_request")]

    def _notice(self, now_ms: int) -> list[str]:
        del now_ms
        return []

    def _target(self, method: str, params: Params) -> Target:
        channels = params.get("channels")
        streams = tuple(map(str, channels)) if isinstance(channels, list) else ()
        name = str(params.get("instrument_name", ""))
        return Target(symbol=name, path=f"/{method}", streams=streams, venue=self.venue.name)


def _channels(params: Params) -> list[str]:
    channels = params.get("channels")
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise invalid("channels")
    return channels
