"""Binance's procedure for a local order book succeeds at the first try, whatever was requested before."""

import asyncio
import json
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from app.http.forward import answer_by
from app.market import book_starts
from app.market.endpoints import Question
from app.market.market_source import Fetched
from app.sockets.streams import StreamLimits, StreamServer
from tests.coordination.local_lines import LocalWriterRpc
from tests.fakes import FakeListed, turn
from tests.http.fakes import FakeLine, FakeMarket, Node, served
from tests.patience import PATIENCE_S
from tests.sockets.sockets import app_of as sockets_of
from tests.sockets.sockets import ask, said

STREAM = "btcusdt@depth@100ms"
DEPTH = "/fapi/v1/depth?symbol=BTCUSDT&limit=1000"


class Exchange(FakeMarket):
    """An order book that changes by ten updates per event; events reach subscribed streams only."""

    def __init__(self) -> None:
        super().__init__()
        self.update, self.before = 100, 90
        self.fresh_ms = self.thrifty_ms = 60_000  # longer than the test

    def move(self) -> bytes:
        """Change the book and return the event."""
        self.before, self.update = self.update, self.update + 10
        event = {"e": "depthUpdate", "s": "BTCUSDT", "U": self.before + 1, "u": self.update, "pu": self.before}
        return json.dumps(event).encode()

    async def fetch(self, question: Question) -> Fetched:
        self.body = b'{"lastUpdateId":%d,"bids":[],"asks":[]}' % self.update
        return await super().fetch(question)


def desk(exchange: Exchange) -> tuple[Node, StreamServer]:
    node = Node(market=exchange)
    node.symbols.info = b"{}"  # the list of symbols was read
    server = StreamServer(node.hub, node.clock, StreamLimits(10, 1_000_000), FakeListed(), node.book_starts.joined)
    return node, server


async def snapshot(node: Node, path: str = DEPTH) -> int:
    async with node.client() as client:
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["lastUpdateId"])


def carries_on(last_update: int, event: object) -> bool:
    """Whether the first event received leaves no gap after `last_update` (binance-facts 5.5)."""
    assert isinstance(event, dict)
    return bool(event["U"] <= last_update + 1)


@pytest.mark.parametrize("is_subscribed", [False, True])
async def test_a_snapshot_from_before_the_stream_is_not_given(*, is_subscribed: bool) -> None:
    exchange = Exchange()
    node, server = desk(exchange)
    async with served(sockets_of(server), lifespan="on") as port, asyncio.timeout(PATIENCE_S):
        assert await snapshot(node) == 100, "kept, by its age good enough for minutes"
        path = f"/ws/{STREAM}" if is_subscribed else "/ws"
        async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None) as mine:
            if not is_subscribed:
                assert await ask(mine, "SUBSCRIBE", [STREAM]) == {"result": None, "id": 1}
            exchange.move()  # not delivered: the exchange has not confirmed the subscription yet
            before = len(exchange.asked)
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(snapshot(node))
                await turn(20)  # time for a wrong early request
                assert len(exchange.asked) == before, "the stream is not there yet"
                node.hub.deliver(STREAM, exchange.move())
            assert carries_on(answer.result(), await said(mine))
            assert await snapshot(node) == exchange.update
            assert len(exchange.asked) == before + 1, "from then on one snapshot is good for all"


async def test_who_comes_later_gets_no_snapshot_from_before_either() -> None:
    exchange = Exchange()
    node, server = desk(exchange)
    async with (
        served(sockets_of(server), lifespan="on") as port,
        asyncio.timeout(PATIENCE_S),
        connect(f"ws://127.0.0.1:{port}/ws/{STREAM}", proxy=None) as other,
        connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as mine,
    ):
        node.hub.deliver(STREAM, exchange.move())
        await said(other)
        await snapshot(node)
        node.hub.deliver(STREAM, exchange.move())
        await ask(mine, "SUBSCRIBE", [STREAM])
        last_update = await snapshot(node)
        node.hub.deliver(STREAM, exchange.move())
        assert carries_on(last_update, await said(mine))


async def test_a_book_that_stands_still_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_starts, "FIRST_FRAME_S_MAX", 0.01)
    exchange = Exchange()
    node, server = desk(exchange)
    async with (
        served(sockets_of(server), lifespan="on") as port,
        asyncio.timeout(PATIENCE_S),
        connect(f"ws://127.0.0.1:{port}/ws/{STREAM}", proxy=None),
    ):
        assert await snapshot(node) == exchange.update


async def test_a_process_that_does_not_write_tells_the_writer_once(tmp_path: Path) -> None:
    exchange = Exchange()
    writer, _ = desk(exchange)
    line = LocalWriterRpc(tmp_path / "klinenode.db")
    await line.open(lambda asked: answer_by(writer.app, asked))
    follower = Node(line=FakeLine(line))
    follower.symbols.info = b"{}"
    server = StreamServer(
        follower.hub, follower.clock, StreamLimits(10, 1_000_000), FakeListed(), follower.book_starts.joined
    )
    try:
        async with served(sockets_of(server), lifespan="on") as port, asyncio.timeout(PATIENCE_S):
            assert await snapshot(writer) == 100
            async with connect(f"ws://127.0.0.1:{port}/ws") as mine:
                await ask(mine, "SUBSCRIBE", [STREAM])
                follower.hub.deliver(STREAM, exchange.move())
                assert await snapshot(follower) == exchange.update
                asked = len(exchange.asked)
                assert await snapshot(follower, DEPTH.replace("1000", "500")) == exchange.update
                assert await snapshot(writer) == exchange.update
                assert len(exchange.asked) == asked + 1, "another question, and one that the writer has"
    finally:
        await line.close()
