"""The exchange's side of one of OKX's sockets, public or business."""

from typing import Final

import orjson

from infra.sandbox.faults import Target
from infra.sandbox.grid import HOUR_MS, SECOND_MS
from infra.sandbox.limits import Pool
from infra.sandbox.okx.streams import Arg, key_of, stream_of
from infra.sandbox.peers import Peer
from infra.sandbox.venue import Venue

PATHS: Final = ("/ws/v5/public", "/ws/v5/business")
SILENT_MS: Final = 30 * SECOND_MS  # a connection without a frame in either direction is closed then
SILENT_CODE: Final = 4004
SUBSCRIPTIONS_AN_HOUR: Final = 480
_ARGS_BYTES_MAX: Final = 64 * 1024
_MISSING: Final = (
    "Wrong URL or {0} doesn't exist. Please use the correct URL, channel and parameters referring to API document."
)


class OkxPeer(Peer):
    """Answers `ping`, subscribe and unsubscribe; pushes the frames of what is subscribed."""

    def __init__(self, venue: Venue, path: str, now_ms: int, number: int) -> None:
        assert path in PATHS, f"OKX has the sockets {' and '.join(PATHS)}"
        super().__init__(venue.name, venue.faults, path, now_ms)
        self.venue = venue
        self.connection_id = f"{number:08x}"
        self._requests = Pool(SUBSCRIPTIONS_AN_HOUR, SUBSCRIPTIONS_AN_HOUR, HOUR_MS)

    def _answers(self, text: str, now_ms: int) -> list[str]:
        if text == "ping":
            return ["pong"]
        try:
            message = orjson.loads(text)
            operation, args = message["op"], message["args"]
        except (ValueError, KeyError, TypeError):
            return [self._error("60012", f"Invalid request: {text}")]
        if operation not in {"subscribe", "unsubscribe"} or not isinstance(args, list) or not args:
            return [self._error("60012", f"Invalid request: {text}")]
        if len(text) > _ARGS_BYTES_MAX or not all(_is_arg(arg) for arg in args):
            return [self._error("60013", "Invalid args")]
        if not self._requests.take(1, now_ms):
            return [self._error("60014", "Requests too frequent")]
        act = self._subscribe if operation == "subscribe" else self._unsubscribe
        return [act(arg, now_ms) for arg in args]

    def _subscribe(self, arg: Arg, now_ms: int) -> str:
        key = key_of(arg)
        target = Target(symbol=arg.get("instId", ""), path=self.path, streams=(key,), venue=self.venue.name)
        fault = self.venue.faults.take("error_answer", target, now_ms)
        if fault is not None:
            return self._error(str(fault.code or 60018), "The sandbox was told to refuse this.")
        stream = stream_of(self.venue, arg, self.path, now_ms)
        if stream is None:
            return self._error("60018", _MISSING.format(",".join(f"{name}:{value}" for name, value in arg.items())))
        self.streams[key] = stream
        return self._event("subscribe", arg)

    def _unsubscribe(self, arg: Arg, now_ms: int) -> str:
        del now_ms
        self.streams.pop(key_of(arg), None)
        return self._event("unsubscribe", arg)

    def _keep_alive(self, now_ms: int) -> list[str]:
        if now_ms - self._traffic_ms >= SILENT_MS:
            self.close(SILENT_CODE, "No data received in 30s.")
        return []

    def _notice(self, now_ms: int) -> list[str]:
        del now_ms
        body = {
            "event": "notice",
            "code": "64008",
            "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
            "connId": self.connection_id,
        }
        return [orjson.dumps(body).decode()]

    def _event(self, event: str, arg: Arg) -> str:
        return orjson.dumps({"event": event, "arg": arg, "connId": self.connection_id}).decode()

    def _error(self, code: str, msg: str) -> str:
        return orjson.dumps({"event": "error", "code": code, "msg": msg, "connId": self.connection_id}).decode()


def _is_arg(arg: object) -> bool:
    return isinstance(arg, dict) and "channel" in arg and all(isinstance(value, str) for value in arg.values())
