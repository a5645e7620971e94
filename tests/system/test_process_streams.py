"""The sockets of a real node, compared with the exchange's own by the real `websockets` client."""

import asyncio
import contextlib
import json
import signal
from collections import Counter, defaultdict
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.binance.stream_name import parse
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S
from tests.system.processes import Place, Programs, ShiftedClock, until

SHUTDOWN_S_MAX = 10.0


def subscriptions(sandbox: SandboxServer) -> Counter[str]:
    """By stream: the number of subscriptions at the exchange."""
    said = [json.loads(entry.detail) for entry in sandbox.journal.since(0) if entry.kind == "message"]
    return Counter(name for message in said if message["method"] == "SUBSCRIBE" for name in message["params"])


async def gather(connection: ClientConnection, came: dict[str, list[str]]) -> None:
    """Collect messages by stream until the connection is closed."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            assert isinstance(message, str)
            came[json.loads(message)["stream"]].append(message)


def closed(messages: list[str]) -> bool:
    return any(json.loads(message)["data"]["k"]["x"] for message in messages)


KLINES = ("btcusdt@kline_1m", "btcusdt@kline_5m", "ethusdt@kline_1m", "ethusdt@kline_1d")
OTHERS = (
    *("btcusdt@aggTrade", "btcusdt@trade", "btcusdt@bookTicker", "!bookTicker"),
    *("btcusdt@markPrice", "btcusdt@markPrice@1s", "!markPrice@arr@1s"),
    *("btcusdt@miniTicker", "!miniTicker@arr", "btcusdt@ticker", "!ticker@arr"),
    *("btcusdt@depth", "btcusdt@depth@100ms", "btcusdt@depth5@100ms"),
    *("btcusdt_perpetual@continuousKline_1m", "btcusdt_perpetual@continuousKline_1s"),
    "xauusdt_tradifi_perpetual@continuousKline_1s",
    *("pBTCUSDT@kline_1m", "iBTCUSDT@kline_1h", "ibtcusdt@kline_5m"),
)
NAMES = [*KLINES, *OTHERS]


async def test_the_nodes_streams_are_the_exchanges_whoever_listens(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=30), symbols=4) as sandbox, Programs(tmp_path) as programs:
        settings = {"SYMBOLS": "BTCUSDT", "AUTO_SYNC_SYMBOLS": "false"}
        place = Place(programs, sandbox.port, settings=settings)
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        ours: list[dict[str, list[str]]] = [defaultdict(list) for _ in range(3)]
        theirs: dict[str, list[str]] = defaultdict(list)
        url = f"ws://127.0.0.1:{place.port}/stream?streams={'/'.join(NAMES)}"
        truths = [await connect(address, proxy=None) for address in by_route(sandbox.ws_url)]
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(2 * PATIENCE_S):
            for truth in truths:
                tasks.create_task(gather(truth, theirs))
            await until(lambda: has_all(theirs), "the exchange delivers")
            connections = [await connect(url, proxy=None) for _ in ours]
            for connection, came in zip(connections, ours, strict=True):
                tasks.create_task(gather(connection, came))
            await until(lambda: settled([*ours, theirs]), "a minute has closed on every socket")
            assert Counter({name: subscriptions(sandbox)[name] for name in NAMES}) == Counter(NAMES), "each once"
            health = (await place.health())["streams"]
            assert (health["clients"], health["wanted"], health["cut"]) == (3, len(NAMES), 0)
            node.signal(signal.SIGTERM)
            for connection in connections:
                await connection.wait_closed()
                assert connection.close_code == 1012
            for truth in truths:
                await truth.close()
        assert await node.ended(SHUTDOWN_S_MAX) == 0
        for name in NAMES:
            for came in ours:
                since = theirs[name].index(came[name][0])
                assert came[name] == theirs[name][since : since + len(came[name])], "byte for byte, nothing left out"


def by_route(ws_url: str) -> list[str]:
    """The exchange's URLs for all streams, one for each route."""
    routes: dict[str, list[str]] = defaultdict(list)
    for text in NAMES:
        name = parse(text)
        assert name is not None
        routes[name.route].append(text)
    return [f"{ws_url}/{route}/stream?streams={'/'.join(names)}" for route, names in routes.items()]


async def has_all(came: dict[str, list[str]]) -> bool:
    return all(came[name] for name in NAMES)


async def settled(ears: list[dict[str, list[str]]]) -> bool:
    """Whether every client has a message of every stream, and of the 1m klines a close with later frames."""
    for came in ears:
        for name in (name for name in KLINES if name.endswith("1m")):
            if not closed(came[name]) or closed(came[name][-1:]):
                return False
    return all([await has_all(came) for came in ears])


async def test_a_client_that_goes_leaves_the_stream_subscribed_for_the_next_one(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"SYMBOLS": "BTCUSDT", "AUTO_SYNC_SYMBOLS": "false"})
        place.serve()
        await until(place.is_up, "the node answers")
        for path in ("/ws/ethusdt@kline_3m", "/public/ws/ethusdt@kline_3m"):
            async with connect(f"ws://127.0.0.1:{place.port}{path}", proxy=None) as one, asyncio.timeout(PATIENCE_S):
                assert json.loads(await one.recv())["k"]["i"] == "3m"
        assert subscriptions(sandbox)["ethusdt@kline_3m"] == 1


async def test_the_node_closes_sockets_before_it_ends_even_if_nobody_reads(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"SYMBOLS": "BTCUSDT", "AUTO_SYNC_SYMBOLS": "false"})
        node = place.serve()
        await until(place.is_up, "the node answers")
        one = await connect(f"ws://127.0.0.1:{place.port}/ws/btcusdt@kline_1m", proxy=None)
        await one.recv()
        one.transport.pause_reading()
        node.signal(signal.SIGTERM)
        assert await node.ended(SHUTDOWN_S_MAX) == 0
        one.transport.resume_reading()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await one.recv()
        except ConnectionClosed:
            assert one.close_code in (1012, 1006)
