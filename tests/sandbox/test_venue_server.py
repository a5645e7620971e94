"""OKX and Deribit over real sockets and requests, on the port where Binance is spoken too."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S
from tests.sandbox.conftest import ManualClock
from tests.sandbox.inject import post

SWAP, PERPETUAL = "BTC-USDT-SWAP", "BTC-PERPETUAL"
SUBSCRIBE_OKX = json.dumps(
    {"op": "subscribe", "args": [{"channel": "trades", "instId": SWAP}, {"channel": "books", "instId": SWAP}]}
)
CHANNELS = [f"trades.{PERPETUAL}.100ms", f"book.{PERPETUAL}.100ms"]
SUBSCRIBE_DERIBIT = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "public/subscribe", "params": {"channels": CHANNELS}}
)


async def hear(socket: ClientConnection) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return json.loads(await socket.recv())


async def hear_steps(socket: ClientConnection, clock: ManualClock, steps: int) -> list[Any]:
    """The frames of so many steps of 100 ms, each until the update of the book at its time."""
    frames: list[Any] = []
    for _ in range(steps):
        clock.advance(100)
        while not frames or time_of(frames[-1]) < clock.now_ms():
            frames.append(await hear(socket))
    return frames


def is_book(frame: Any) -> bool:
    return str((frame.get("arg") or frame["params"])["channel"]).startswith("book")


def time_of(frame: Any) -> int:
    """The time of a book's update (ms); 0 for other frames."""
    if not is_book(frame):
        return 0
    return int(frame["data"][0]["ts"] if "arg" in frame else frame["params"]["data"]["timestamp"])


async def drain(socket: ClientConnection) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await socket.recv()


async def ended(socket: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        await drain(socket)
    return (closed.value.rcvd.code, closed.value.rcvd.reason) if closed.value.rcvd else (1006, "")


async def truth(http: httpx.AsyncClient, **query: object) -> Any:
    answer = await http.get("/sandbox/truth", params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_okx_over_a_real_socket(sandbox: SandboxServer, http: httpx.AsyncClient, clock: ManualClock) -> None:
    async with connect(f"{sandbox.ws_url}/ws/v5/public") as socket:
        await socket.send("ping")
        assert await socket.recv() == "pong"
        await socket.send(SUBSCRIBE_OKX)
        assert [(await hear(socket))["event"] for _ in range(2)] == ["subscribe"] * 2
        clock.advance(100)
        assert (await hear(socket))["action"] == "snapshot"
        frames = await hear_steps(socket, clock, 10)
        last = [frame["data"][0] for frame in frames if is_book(frame)][-1]
        trades = [frame["data"][0] for frame in frames if not is_book(frame)]
    rest = (await http.get("/api/v5/market/books", params={"instId": SWAP, "sz": "400"})).json()
    assert (rest["code"], rest["data"][0]["seqId"]) == ("0", last["seqId"])
    true = await truth(http, venue="okx", symbol=SWAP, what="book", sequence=last["seqId"])
    assert [[level[:2] for level in rest["data"][0][side]] for side in ("bids", "asks")] == [true["bids"], true["asks"]]
    number = int(trades[-1]["tradeId"])
    (trade,) = await truth(http, venue="okx", symbol=SWAP, what="trades", first=number, last=number)
    assert (trade["price"], trade["side"]) == (trades[-1]["px"], trades[-1]["side"])


async def test_deribit_over_a_real_socket(sandbox: SandboxServer, http: httpx.AsyncClient, clock: ManualClock) -> None:
    async with connect(f"{sandbox.ws_url}/ws/api/v2") as socket:
        await socket.send(SUBSCRIBE_DERIBIT)
        assert (await hear(socket))["result"] == CHANNELS
        clock.advance(100)
        assert (await hear(socket))["params"]["data"]["type"] == "snapshot"
        frames = await hear_steps(socket, clock, 10)
        last = [frame["params"]["data"] for frame in frames if is_book(frame)][-1]
        trades = [row for frame in frames if not is_book(frame) for row in frame["params"]["data"]]
    params: dict[str, Any] = {"instrument_name": PERPETUAL, "depth": 100}
    rest = (await http.get("/api/v2/public/get_order_book", params=params)).json()["result"]
    assert rest["change_id"] == last["change_id"]
    call = {"id": 9, "method": "public/get_order_book", "params": params}
    posted = (await http.post("/api/v2", json=call)).json()
    assert (posted["id"], posted["result"]) == (9, rest)
    span = {"start_seq": trades[0]["trade_seq"], "end_seq": trades[-1]["trade_seq"], "count": 1_000, "sorting": "asc"}
    path = "/api/v2/public/get_last_trades_by_instrument"
    found = (await http.get(path, params={"instrument_name": PERPETUAL, **span})).json()["result"]["trades"]
    assert found == trades


@pytest.mark.parametrize("venue", ["okx", "deribit"])
async def test_faults_end_real_sockets(
    sandbox: SandboxServer, http: httpx.AsyncClient, clock: ManualClock, venue: str
) -> None:
    url = f"{sandbox.ws_url}/{'ws/v5/public' if venue == 'okx' else 'ws/api/v2'}"
    async with connect(url) as socket:
        await post(http, kind="cut", venue=venue)
        assert (await ended(socket))[0] == 1006
    async with connect(url) as socket:
        await post(http, kind="rotation", venue=venue, delay_s=1)
        clock.advance(1_000)
        assert await ended(socket) == (1001, "going away")
    await post(http, kind="refuse", venue=venue, count=1)
    with pytest.raises(InvalidStatus):
        async with connect(url):
            pass
    async with connect(url):
        assert (await http.get("/sandbox/status")).json()["venue_sockets"] == 1


async def test_a_silent_okx_client_is_closed_with_4004(sandbox: SandboxServer, clock: ManualClock) -> None:
    async with connect(f"{sandbox.ws_url}/ws/v5/business") as socket:
        await socket.send("ping")
        assert await socket.recv() == "pong"
        clock.advance(30_000)
        assert (await ended(socket))[0] == 4004


async def test_requests_have_the_faults_of_their_venue_only(http: httpx.AsyncClient) -> None:
    await post(http, kind="http_5xx", venue="deribit", status=502)
    statuses = [
        (await http.get(path)).status_code
        for path in ("/api/v5/public/time", "/api/v2/public/get_time", "/fapi/v1/time", "/api/v1/nothing")
    ]
    assert statuses == [200, 502, 200, 404]


async def test_a_fault_with_an_unknown_venue_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/sandbox/faults", json={"kind": "cut", "venue": "ftx"})
    assert (answer.status_code, "venue must be one of" in answer.text) == (400, True)


async def test_truth_tells_fundings_and_open_interest(http: httpx.AsyncClient, clock: ManualClock) -> None:
    now_ms = clock.now_ms()
    span = {"startTime": now_ms - 86_400_000, "endTime": now_ms}
    assert len(await truth(http, venue="okx", symbol=SWAP, what="fundings", **span)) == 3
    assert len(await truth(http, venue="deribit", symbol=PERPETUAL, what="fundings", **span)) == 24
    interest = await truth(http, venue="okx", symbol=SWAP, what="openInterest")
    told = (await http.get("/api/v5/public/open-interest", params={"instType": "SWAP", "instId": SWAP})).json()
    assert told["data"][0]["oi"] == interest["size"]
    wrong = await http.get("/sandbox/truth", params={"venue": "okx", "symbol": "X", "what": "openInterest"})
    assert (wrong.status_code, wrong.json()) == (400, {"error": "okx has no symbol X"})
