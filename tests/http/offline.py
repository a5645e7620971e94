"""A connection without a network: requests, a loop whose time a test sets, and a transport that keeps what is sent."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from app.sockets.connections import Deadlines
from tests.http.fakes import kline_body

PATH = "/fapi/v1/klines"
DEADLINES = Deadlines()
KLINES = f"{PATH}?symbol=BTCUSDT&interval=1m"
BODY = kline_body()
QUERIES = (
    "symbol=BTCUSDT&interval=1m", "symbol=btcusdt&interval=1m", "interval=1m&symbol=BTCUSDT",
    "symbol=BTCUSDT&interval=1m&", "symbol=BTCUSDT&interval=1m&x=%41?{|}",
    "symbol=%42TCUSDT&interval=1m", "symbol=BTCUSDT&interval=1m#x", "", "x",
    "symbol=BTCUSDT&interval=1m&allow_partial=true", "symbol=NOPE&interval=1m", "symbol=BTCUSDT&interval=1m&limit=0",
    "symbol=BTCUSDT&interval=1m&only_final=false", f"symbol=BTCUSDT&interval=1m&x={'x' * 5000}",
)  # fmt: skip
HEADERS = (
    (), ("Accept-Encoding: gzip",), ("accept-encoding: br", "ACCEPT-ENCODING: gzip;q=0.5"), ("If-None-Match: *",),
    ("If-None-Match: {tag}",), ("If-None-Match: W/{tag}", 'If-None-Match: "x"'), ("Range: bytes=0-9",),
    ("Accept-Encoding: gzip", "If-None-Match: {tag}"), ("Content-Length: 0",),
    ("Upgrade: h2c", "Connection: upgrade, close"),
    ("Expect: 100-continue",), (f"X-Large: {'x' * 9_000}",), (f"X-Large: {'x' * 17_000}",), ("Content-Length: 5",),
)  # fmt: skip


def request(target: str, *headers: str, method: str = "GET", version: str = "1.1", body: str = "") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: x", *headers, "", body]).encode()


class Alarm:
    def __init__(self, loop: "Loop", at_s: float, call: Callable[[], None]) -> None:
        self.loop, self.at_s, self.call = loop, at_s, call

    def cancel(self) -> None:
        self.loop.alarms.discard(self)


class Loop:
    """An event loop whose time the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.alarms: set[Alarm] = set()
        self.tasks = 0

    def time(self) -> float:
        return self.now_s

    def create_task(self, long_way: Coroutine[Any, Any, None]) -> "Loop":
        long_way.close()
        self.tasks += 1
        return self

    def add_done_callback(self, _done: Callable[[object], None]) -> None:
        """Ignored: its tasks never end."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Alarm:
        alarm = Alarm(self, self.now_s + delay_s, call)
        self.alarms.add(alarm)
        return alarm

    def advance(self, delay_s: float) -> None:
        end_s = self.now_s + delay_s
        while due := [alarm for alarm in self.alarms if alarm.at_s <= end_s]:
            first = min(due, key=lambda alarm: alarm.at_s)
            self.now_s = first.at_s
            self.alarms.discard(first)
            first.call()
        self.now_s = end_s


class Transport:
    """A transport that records what is written and whether it is closed."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.waiting_bytes = 0
        self.protocol: object = None

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Ignored: the test sends no more."""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def get_protocol(self) -> object:
        return self.protocol

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.written += b"".join(pieces)
