"""Every GET is answered in time, and nothing else is cut off; on virtual time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import orjson
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.domain.interval import Interval
from app.domain.reason import Reason
from app.http.deadline import RESPONSE_S_MAX, Deadline
from app.http.headers import REASON
from tests.http.fakes import FakeCoverage, Node
from tests.programs.sim.loop import SimLoop

LONG_S = 10 * RESPONSE_S_MAX


async def silence() -> None:
    await asyncio.Event().wait()


class SilentCoverage(FakeCoverage):
    async def full_report(
        self, symbol: str | None, interval: Interval | None, offset: int, limit: int, *, incomplete: bool = False
    ) -> dict[str, object]:
        await silence()
        return {}


def took_s(work: Coroutine[Any, Any, None]) -> float:
    """Run `work` on a loop whose time is virtual, and return how many seconds it took."""
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(work)
        return runner.get_loop().time()


def asking(path: str, query: bytes = b"", method: str = "GET") -> Scope:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query,
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


class Client:
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def send(self, message: Message) -> None:
        self.got.append(message)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "query", "told"),
    [
        ("/v1/coverage", b"", "error"),
        ("/fapi/v1/klines", b"symbol=NEWUSDT&interval=1m", "code"),
        ("/fapi/v1/depth", b"symbol=NEWUSDT", "code"),
    ],
)
def test_a_request_that_is_not_answered_in_time_is_refused_with_the_reason(
    method: str, path: str, query: bytes, told: str
) -> None:
    async def work() -> None:
        node, client = Node(coverage=SilentCoverage()), Client()
        node.symbols.info = b"{}"
        node.names.meanwhile = silence
        await node.app(asking(path, query, method), receive, client.send)
        start, body = client.got
        assert start["status"] == 503
        headers = dict(start["headers"])
        assert (headers[b"retry-after"], headers[REASON]) == (b"5", Reason.SLOW.encode())
        assert method == "HEAD" or told in orjson.loads(body["body"])

    assert RESPONSE_S_MAX <= took_s(work()) < RESPONSE_S_MAX + 0.1


@pytest.mark.parametrize(("method", "begins_s"), [("GET", 0.0), ("POST", LONG_S)])
def test_what_has_begun_to_be_sent_and_what_changes_something_is_not_cut_off(method: str, begins_s: float) -> None:
    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        for delay_s, message in (
            (begins_s, {"type": "http.response.start", "status": 200, "headers": []}),
            (LONG_S, {"type": "http.response.body", "body": b"the end"}),
        ):
            passed = asyncio.Event()
            loop.call_later(delay_s, passed.set)
            await passed.wait()
            await send(message)

    async def work() -> None:
        client = Client()
        await Deadline(slow)(asking("/v1/export", method=method), receive, client.send)
        assert [message.get("body") for message in client.got] == [None, b"the end"]

    assert took_s(work()) >= LONG_S
