"""Every fault has its stated effect, on the requests it names and as many times as stated."""

import asyncio
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from infra.sandbox import faults
from infra.sandbox.faults import KINDS, FaultBoard, Target, parse_fault
from infra.sandbox.grid import MINUTE_MS
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=10"
ZIP = "/data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-11-19.zip"


async def post(http: httpx.AsyncClient, **fault: object) -> int:
    answer = await http.post("/sandbox/faults", json=fault)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["id"])


async def status(http: httpx.AsyncClient, path: str = KLINES) -> int:
    return (await http.get(path)).status_code


async def test_faults_are_listed_counted_and_cleared(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    number = await post(http, kind="http_5xx", status=502, symbol="BTCUSDT", count=1)
    assert await status(http) == 502
    assert await status(http) == 200
    listed = (await http.get("/sandbox/faults")).json()["faults"]
    assert listed == [
        {
            "id": number,
            "active": False,
            "hits": 1,
            "since_ms": clock.now_ms(),
            "kind": "http_5xx",
            "symbol": "BTCUSDT",
            "count": 1,
            "status": 502,
        }
    ]
    second = await post(http, kind="http_5xx")
    assert (await http.delete(f"/sandbox/faults/{number}")).json() == {"cleared": 1}
    assert await status(http) == 503
    assert (await http.delete("/sandbox/faults")).json() == {"cleared": 1}
    assert second > number
    assert await status(http) == 200


NONSENSE: list[object] = [
    "cut",
    {},
    {"kind": "earthquake"},
    {"kind": "cut", "colour": "red"},
    {"kind": "cut", "count": "3"},
    {"kind": "cut", "count": True},
    {"kind": "slow", "probability": 2},
    {"kind": "malformed", "shape": "round"},
    {"kind": "list_symbol"},
    {"kind": "list_symbol", "symbol": "BTCUSDT"},
    {"kind": "delist_symbol", "symbol": "OMGUSDT"},
]


async def test_a_fault_that_makes_no_sense_is_refused(http: httpx.AsyncClient) -> None:
    for wish in NONSENSE:
        assert (await http.post("/sandbox/faults", json=wish)).status_code == 400, wish
    assert (await http.post("/sandbox/faults", content=b"{")).status_code == 400
    assert (await http.get("/sandbox/faults")).json() == {"faults": []}


def test_filters_counts_durations_and_chances_narrow_a_fault_down() -> None:
    def hits(target: Target, now_ms: int = 0, **fields: object) -> int:
        board = FaultBoard()
        board.add(parse_fault({"kind": "silence", **fields}), 0)
        return sum(board.take("silence", target, now_ms) is not None for _ in range(1_000))

    frame = Target("BTCUSDT", "1m", streams=("btcusdt@kline_1m",))
    assert hits(frame) == 1_000
    assert hits(frame, symbol="btcusdt", interval="1m", stream="btc*@kline_*", count=7) == 7
    assert hits(frame, symbol="ETHUSDT") == hits(frame, interval="1M") == hits(frame, stream="eth*") == 0
    assert hits(frame, path="/data/*") == 0
    assert hits(frame, 1_999, duration_s=2) == 1_000
    assert hits(frame, 2_000, duration_s=2) == 0
    some = hits(frame, probability=0.25, seed=5)
    assert 150 < some < 350
    assert hits(frame, probability=0.25, seed=5) == some
    assert FaultBoard().take("silence", frame, 0) is None


def test_every_kind_is_described() -> None:
    assert [kind for kind in KINDS if kind not in str(faults.__doc__)] == []


async def test_rest_answers_turn_into_errors(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    await post(http, kind="http_5xx", path="/fapi/v1/klines", count=1)
    assert await status(http, "/fapi/v1/ping") == 200
    assert (await http.get(KLINES)).json() == {"code": -1008, "msg": "Service Unavailable."}
    await post(http, kind="http_429", retry_after_s=7, count=1)
    answer = await http.get(KLINES)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (429, "7", -1003)
    assert await status(http) == 200
    await post(http, kind="http_418", ban_s=90, retry_after=False, count=1)
    answer = await http.get(KLINES)
    assert answer.status_code == 418
    assert "retry-after" not in answer.headers
    assert f"banned until {clock.now_ms() + 90_000}." in answer.json()["msg"]
    clock.advance(89_999)
    assert await status(http) == 418
    clock.advance(1)
    assert await status(http) == 200
    await post(http, kind="http_418", ban_s=90, count=1)
    assert (await http.get(KLINES)).headers["retry-after"] == "90"
    await http.delete("/sandbox/faults")
    assert await status(http) == 200


async def test_rest_answers_arrive_late(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    await post(http, kind="slow", delay_s=3, count=1)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(http.get(KLINES))
        while not (await http.get("/sandbox/faults")).json()["faults"][0]["hits"]:
            pass
        clock.advance(2_999)
        assert await status(http) == 200
        assert not waiting.done()
        clock.advance(1)
    assert waiting.result().status_code == 200


async def test_rest_answers_arrive_broken(http: httpx.AsyncClient) -> None:
    whole = (await http.get(KLINES)).content
    await post(http, kind="malformed", count=1)
    assert (await http.get(KLINES)).content == whole[: len(whole) // 2]
    await post(http, kind="malformed", shape="empty", count=1)
    assert (await http.get(KLINES)).content == b""
    await post(http, kind="malformed", shape="html", count=1)
    assert (await http.get(KLINES)).headers["content-type"].startswith("text/html")
    await post(http, kind="malformed", shape="abort", count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get(KLINES)
    rows = json.loads(whole)
    await post(http, kind="missing_rows", rows=2, count=1)
    assert (await http.get(KLINES)).json() == rows[:4] + rows[6:]
    await post(http, kind="missing_rows", from_ms=rows[1][0], to_ms=rows[3][0])
    for _ in range(2):
        assert (await http.get(KLINES)).json()[2:] == rows[:1] + rows[3:]


@pytest.fixture
async def socket(sandbox: SandboxServer) -> AsyncIterator[ClientConnection]:
    async with connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m") as connection:
        await drain(connection)
        yield connection


async def drain(connection: ClientConnection) -> list[str]:
    """The texts of all frames sent so far."""
    await connection.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    texts: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while not (text := str(await connection.recv())).startswith('{"result"'):
            texts.append(text)
    return texts


async def frames(connection: ClientConnection, clock: "ManualClock", *, minutes: int = 0) -> list[str]:
    """The bitcoin frames after one tick, or through `minutes` more minutes, each until two seconds after its end."""
    clock.advance(250)
    texts = await drain(connection)
    for _ in range(minutes):
        clock.advance(MINUTE_MS - clock.now_ms() % MINUTE_MS)
        texts += await drain(connection)
        clock.advance(2_000)
        texts += await drain(connection)
        clock.advance(250)
        texts += await drain(connection)
    return [text for text in texts if "btcusdt" in text]


async def test_a_cut_socket_ends_without_goodbye(
    http: httpx.AsyncClient, socket: ClientConnection, sandbox: SandboxServer
) -> None:
    await post(http, kind="cut", stream="nothing*")
    await drain(socket)
    await post(http, kind="cut", stream="eth*")
    with pytest.raises(ConnectionClosed) as end:
        await socket.recv()
    assert end.value.rcvd is None
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        assert await drain(other) == []


async def test_a_cut_that_lasts_cuts_new_sockets_too(
    http: httpx.AsyncClient, clock: "ManualClock", sandbox: SandboxServer
) -> None:
    await post(http, kind="cut", duration_s=10)
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        await drain(other)
        clock.advance(250)
        with pytest.raises(ConnectionClosed):
            await other.recv()
    clock.advance(10_000)
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        clock.advance(250)
        assert await drain(other) == []


async def test_silence_spares_the_other_streams_and_the_answers(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection
) -> None:
    await post(http, kind="silence", symbol="BTCUSDT")
    clock.advance(MINUTE_MS)
    assert {json.loads(text)["stream"] for text in await drain(socket)} == {"ethusdt@kline_1m"}
    await http.delete("/sandbox/faults")
    assert len(await frames(socket, clock)) == 1


async def test_frames_are_doubled_swapped_and_torn(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection
) -> None:
    await post(http, kind="duplicate", symbol="BTCUSDT", count=1)
    once, twice = await frames(socket, clock)
    assert once == twice
    await post(http, kind="reorder", symbol="BTCUSDT", count=1)
    assert await frames(socket, clock) == []
    later, earlier = (json.loads(text)["data"]["E"] for text in await frames(socket, clock))
    assert later > earlier
    await post(http, kind="malformed_frame", symbol="BTCUSDT", count=1)
    (torn,) = await frames(socket, clock)
    with pytest.raises(ValueError):
        json.loads(torn)
    assert len(await frames(socket, clock)) == 1


async def test_closing_frames_are_dropped(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection
) -> None:
    assert sum('"x":true' in text for text in await frames(socket, clock, minutes=1)) == 1
    await post(http, kind="drop_close", symbol="BTCUSDT", count=1)
    texts = await frames(socket, clock, minutes=1)
    assert texts
    assert not any('"x":true' in text for text in texts)
    assert sum('"x":true' in text for text in await frames(socket, clock, minutes=1)) == 1


async def test_a_late_closing_frame_is_overtaken(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection
) -> None:
    await post(http, kind="late_close", symbol="BTCUSDT", delay_s=20, count=1)
    texts = await frames(socket, clock, minutes=1)
    opens = {json.loads(text)["data"]["k"]["t"] for text in texts}
    assert len(opens) == 2
    assert not any('"x":true' in text for text in texts)
    clock.advance(20_000)
    closed = [json.loads(text)["data"]["k"] for text in await drain(socket) if '"x":true' in text]
    assert [kline["t"] for kline in closed if kline["s"] == "BTCUSDT"] == [min(opens)]


async def test_a_closing_frame_is_contradicted(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection, sandbox: SandboxServer
) -> None:
    for number, which in enumerate(("first", "second")):
        await post(http, kind="contradict", symbol="BTCUSDT", false_final=which, count=1)
        texts = await frames(socket, clock, minutes=1)
        closed = [json.loads(text)["data"]["k"] for text in texts if '"x":true' in text]
        (row,) = sandbox.exchange.rows("BTCUSDT", "1m", closed[0]["t"], closed[0]["t"] + MINUTE_MS)
        told = [[kline[name] for name in "tohlcvTqnVQ"] == row[:11] for kline in closed]
        assert told == ([False, True], [True, False])[number]
        assert float(closed[0]["l"]) <= float(closed[0]["c"]) <= float(closed[0]["h"])


async def test_a_server_says_that_it_will_shut_down_and_does(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection, sandbox: SandboxServer
) -> None:
    await post(http, kind="server_shutdown", delay_s=20)
    announced = {"event": {"e": "serverShutdown", "E": clock.now_ms()}}
    assert [json.loads(text) for text in await drain(socket)] == [announced]
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        clock.advance(19_999)
        await drain(socket)
        assert await drain(other) == [], "it was not open then"
        clock.advance(251)
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()
        with pytest.raises(ConnectionClosed) as end:
            await socket.send("")
        assert end.value.rcvd is not None
        assert (end.value.rcvd.code, end.value.rcvd.reason) == (1012, "service restart")
        assert await drain(other) == []


async def test_a_half_open_socket_says_nothing_more_and_is_dropped_after_ten_minutes(
    http: httpx.AsyncClient, clock: "ManualClock", sandbox: SandboxServer
) -> None:
    async with connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as dead:
        await drain(dead)
        await post(http, kind="half_open")
        await dead.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        pong = await dead.ping()
        assert isinstance(pong, asyncio.Future)
        async with connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as other:
            await drain(other)
            for _ in range(3):
                clock.advance(MINUTE_MS)
                assert await drain(other)
            assert not pong.done(), "not even a pong"
            clock.advance(10 * MINUTE_MS)
            with pytest.raises(ConnectionClosed) as end:
                await dead.recv()
            assert end.value.rcvd is None


async def test_the_frames_of_a_slow_socket_come_late_and_later(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection, sandbox: SandboxServer
) -> None:
    await post(http, kind="slow_socket", delay_s=10, stream="eth*")
    lags_ms: list[int] = []

    async def hear() -> None:
        while True:
            event = json.loads(await socket.recv())["data"]
            lags_ms.append(clock.now_ms() - event["E"])

    async with (
        asyncio.TaskGroup() as tasks,
        connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as other,
    ):
        hearing = tasks.create_task(hear())
        heard = 0
        for _ in range(200):
            clock.advance(250)
            heard += len(await drain(other))
        hearing.cancel()
    assert heard > 30, "the other socket is as quick as ever"
    assert lags_ms[0] < 1_000
    assert 9_500 <= lags_ms[-1] <= 11_000
    assert all(later >= earlier - 500 for earlier, later in pairwise(lags_ms)), lags_ms


async def test_handshakes_hang(http: httpx.AsyncClient, sandbox: SandboxServer) -> None:
    await post(http, kind="handshake_hang", count=1)
    async with asyncio.TaskGroup() as tasks:
        hanging = tasks.create_task(connect(f"{sandbox.ws_url}/market/ws", open_timeout=None).__aenter__())
        async with asyncio.timeout(PATIENCE_S):
            while not [entry for entry in sandbox.journal.entries if entry.kind == "connect"]:
                await status(http, "/fapi/v1/ping")
        async with connect(f"{sandbox.ws_url}/market/ws") as other:
            assert await drain(other) == []
        assert not hanging.done()
        hanging.cancel()


async def test_a_socket_on_the_wrong_route_acknowledges_and_is_silent(
    http: httpx.AsyncClient, clock: "ManualClock", sandbox: SandboxServer
) -> None:
    await post(http, kind="wrong_route", count=1)
    async with (
        connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as deaf,
        connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as other,
    ):
        await drain(other)  # an answer shows that its streams are subscribed to
        for _ in range(2):
            await drain(deaf)
            clock.advance(MINUTE_MS)
        assert await drain(deaf) == []
        assert await drain(other)


async def test_handshakes_are_refused(http: httpx.AsyncClient, sandbox: SandboxServer) -> None:
    await post(http, kind="refuse", count=1)
    with pytest.raises(InvalidStatus) as refusal:
        await connect(f"{sandbox.ws_url}/market/ws")
    assert refusal.value.response.status_code == 403
    await post(http, kind="refuse", status=0, count=1)
    with pytest.raises((InvalidHandshake, ConnectionError, EOFError)):
        await connect(f"{sandbox.ws_url}/market/ws")
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        assert await drain(other) == []


async def test_archive_files_arrive_damaged_or_not_at_all(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    whole = (await http.get(ZIP)).content
    digest = (await http.get(f"{ZIP}.CHECKSUM")).text.split()[0]
    await post(http, kind="corrupt_zip", count=1)
    broken = (await http.get(ZIP)).content
    assert len(broken) == len(whole)
    assert hashlib.sha256(broken).hexdigest() != digest
    with zipfile.ZipFile(io.BytesIO(broken)) as archive, pytest.raises((zipfile.BadZipFile, zlib.error)):
        archive.read(archive.namelist()[0])
    await post(http, kind="wrong_checksum", count=1)
    assert (await http.get(f"{ZIP}.CHECKSUM")).text.split()[0] not in {digest, ""}
    await post(http, kind="archive_missing_rows", rows=3, count=2)
    fewer = (await http.get(ZIP)).content
    assert (await http.get(f"{ZIP}.CHECKSUM")).text.split()[0] == hashlib.sha256(fewer).hexdigest()
    with zipfile.ZipFile(io.BytesIO(fewer)) as archive:
        assert len(archive.read("BTCUSDT-1h-2026-11-19.csv").splitlines()) == 1 + 24 - 3
    await post(http, kind="archive_404", symbol="BTC*", count=1)
    assert await status(http, ZIP) == 404
    await post(http, kind="archive_5xx", count=1)
    assert await status(http, ZIP) == 503
    await post(http, kind="archive_slow", delay_s=2, count=1)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(http.get(ZIP))
        while not (await http.get("/sandbox/faults")).json()["faults"][-1]["hits"]:
            pass
        assert not waiting.done()
        clock.advance(2_000)
    assert waiting.result().content == whole


async def test_symbols_are_listed_and_delisted_on_request(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    async def described(symbol: str) -> dict[str, object]:
        symbols = (await http.get("/fapi/v1/exchangeInfo")).json()["symbols"]
        found: dict[str, object] = next(each for each in symbols if each["symbol"] == symbol)
        return found

    clock.advance(17_000)
    minute_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
    await post(http, kind="list_symbol", symbol="MOONUSDT")
    fresh = await described("MOONUSDT")
    assert (fresh["status"], fresh["onboardDate"], fresh["baseAsset"]) == ("TRADING", minute_ms, "MOON")
    rows = (await http.get("/fapi/v1/klines?symbol=MOONUSDT&interval=1m&startTime=0")).json()
    assert [row[0] for row in rows] == [minute_ms]
    await post(http, kind="delist_symbol", symbol="BTCUSDT", in_s=60)
    going = await described("BTCUSDT")
    assert (going["status"], going["deliveryDate"]) == ("TRADING", minute_ms + 2 * MINUTE_MS)
    clock.advance(2 * MINUTE_MS)
    assert (await described("BTCUSDT"))["status"] == "SETTLING"
    rows = (await http.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=2")).json()
    assert rows[1][1:6] == [rows[0][4]] * 4 + ["0"]


async def test_a_name_comes_back_as_another_coin(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    """List, candles and frames belong to the new coin; the archive continues the former coin's files."""

    async def described() -> dict[str, object] | None:
        listed = (await http.get("/fapi/v1/exchangeInfo")).json()["symbols"]
        return next((entry for entry in listed if entry["symbol"] == "ADAUSDT"), None)

    minutes = "/fapi/v1/klines?symbol=ADAUSDT&interval=1m"
    before = await described()
    assert before is not None
    gone_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS + MINUTE_MS
    file = "/data/futures/um/daily/klines/ADAUSDT/1h/ADAUSDT-1h-2026-11-19.zip"
    archived = (await http.get(file)).content
    await post(http, kind="relist_symbol", symbol="ADAUSDT", in_s=120)
    assert await described() == before, "it trades until the minute ends"
    clock.advance(gone_ms - clock.now_ms())
    assert await described() is None
    assert (await http.get(minutes)).json()["code"] == -1121
    clock.advance(3 * MINUTE_MS)
    after = await described()
    assert after is not None
    assert after["onboardDate"] == gone_ms + 2 * MINUTE_MS
    rows = (await http.get(f"{minutes}&startTime=0")).json()
    assert [row[0] for row in rows] == [gone_ms + 2 * MINUTE_MS, gone_ms + 3 * MINUTE_MS]
    assert (await http.get(f"{minutes}&endTime={gone_ms - 1}")).json() == []
    assert (await http.get(file)).content == archived
    await post(http, kind="relist_symbol", symbol="ADAUSDT", in_s=0)
    clock.advance(MINUTE_MS)
    again = await described()
    assert again is not None
    assert again["onboardDate"] == gone_ms + 4 * MINUTE_MS, "at once, and once more"


async def test_history_is_lost_consistently_and_comes_back(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    async def opens(**query: int) -> list[int]:
        answer = await http.get("/fapi/v1/klines", params={"symbol": "BTCUSDT", "interval": "1m", **query})
        return [row[0] for row in answer.json()]

    now_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
    moment_ms = now_ms - 30 * MINUTE_MS
    whole = await opens(limit=50)
    number = await post(http, kind="lost_history", symbol="BTCUSDT", to_ms=moment_ms, duration_s=60)
    assert await opens(startTime=0, limit=1) == [moment_ms]
    assert await opens(startTime=moment_ms - 5 * MINUTE_MS, limit=2) == [moment_ms, moment_ms + MINUTE_MS]
    assert await opens(limit=50) == whole[-31:]
    assert await opens(endTime=moment_ms - 1) == []
    assert await opens(startTime=0, endTime=moment_ms - 1) == []
    other = (await http.get("/fapi/v1/klines?symbol=ETHUSDT&interval=1m&startTime=0&limit=1")).json()
    assert other[0][0] < moment_ms
    clock.advance(61_000)
    assert (await opens(startTime=0, limit=1))[0] < moment_ms
    assert not next(each for each in (await http.get("/sandbox/faults")).json()["faults"] if each["id"] == number)[
        "active"
    ]


async def test_a_span_without_candles_is_none_in_any_answer(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    now_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
    start_ms, end_ms = now_ms - 9 * MINUTE_MS, now_ms - 6 * MINUTE_MS

    async def opens(**query: int) -> list[int]:
        answer = await http.get("/fapi/v1/klines", params={"symbol": "BTCUSDT", "interval": "1m", **query})
        return [(row[0] - now_ms) // MINUTE_MS for row in answer.json()]

    await post(http, kind="missing_rows", from_ms=start_ms, to_ms=end_ms)
    assert await opens(startTime=start_ms - MINUTE_MS, limit=3) == [-10, -6, -5]
    assert await opens(limit=8) == [-10, -6, -5, -4, -3, -2, -1, 0]
    assert await opens(endTime=end_ms - 1, limit=2) == [-11, -10]
    assert await opens(startTime=start_ms, endTime=end_ms - 1) == []


async def test_a_hole_is_in_the_archive_too_and_leaves_other_faults_in_force(http: httpx.AsyncClient) -> None:
    with zipfile.ZipFile(io.BytesIO((await http.get(ZIP)).content)) as archive:
        whole = archive.read(archive.namelist()[0]).decode().splitlines()
    opens_ms = [int(line.split(",")[0]) for line in whole[1:]]
    await post(http, kind="hole", interval="1h", path="*/klines*", from_ms=opens_ms[2], to_ms=opens_ms[5])
    with zipfile.ZipFile(io.BytesIO((await http.get(ZIP)).content)) as archive:
        assert archive.read(archive.namelist()[0]).decode().splitlines() == whole[:3] + whole[6:]
    asked: dict[str, str | int] = {"symbol": "BTCUSDT", "interval": "1h", "startTime": opens_ms[0], "limit": 6}
    answer = (await http.get("/fapi/v1/klines", params=asked)).json()
    assert [row[0] for row in answer] == opens_ms[:2] + opens_ms[5:9]
    await post(http, kind="missing_rows", rows=2, count=1)
    assert (await http.get("/fapi/v1/klines", params=asked)).json() == answer[:2] + answer[4:]
    marks = (await http.get("/fapi/v1/markPriceKlines", params=asked)).json()
    assert [row[0] for row in marks] == opens_ms[:6], "another path"


async def test_exchange_info_can_give_another_onboard_date(http: httpx.AsyncClient) -> None:
    rows = (await http.get("/fapi/v1/klines?symbol=1000PEPEUSDT&interval=1m&startTime=0&limit=1")).json()
    await post(http, kind="onboard_date", symbol="1000PEPEUSDT", from_ms=rows[0][0] + 86_400_000)
    symbols = (await http.get("/fapi/v1/exchangeInfo")).json()["symbols"]
    assert next(each for each in symbols if each["symbol"] == "1000PEPEUSDT")["onboardDate"] == rows[0][0] + 86_400_000
    assert (await http.get("/fapi/v1/klines?symbol=1000PEPEUSDT&interval=1m&startTime=0&limit=1")).json() == rows


@pytest.mark.parametrize("endpoint", ["openInterestHist", "takerlongshortRatio", "topLongShortAccountRatio"])
async def test_statistics_lack_rows_too(http: httpx.AsyncClient, clock: "ManualClock", endpoint: str) -> None:
    five_ms = 5 * MINUTE_MS
    now_ms = clock.now_ms() // five_ms * five_ms

    async def opens(**query: int) -> list[int]:
        """When the periods of the rows open, in periods before the newest row's end."""
        asked: dict[str, str | int] = {"symbol": "BTCUSDT", "period": "5m", **query}
        rows = (await http.get(f"/futures/data/{endpoint}", params=asked)).raise_for_status().json()
        return [(row["timestamp"] - five_ms - now_ms) // five_ms for row in rows]

    number = await post(
        http, kind="hole", symbol="BTCUSDT", interval="5m", from_ms=now_ms - 4 * five_ms, to_ms=now_ms - 2 * five_ms
    )
    assert await opens(limit=4) == [-6, -5, -2, -1]
    assert await opens(startTime=now_ms - 5 * five_ms, limit=9) == [-6, -5, -2, -1]
    assert await opens(startTime=now_ms - 5 * five_ms, endTime=now_ms - 2 * five_ms) == [-6, -5]
    assert await opens(startTime=now_ms - 3 * five_ms, endTime=now_ms - 2 * five_ms) == []
    asked = {"symbol": "BTCUSDT", "period": "15m", "limit": "3"}
    assert len((await http.get(f"/futures/data/{endpoint}", params=asked)).json()) == 3
    await http.delete(f"/sandbox/faults/{number}")
    await post(http, kind="lost_history", to_ms=now_ms - 3 * five_ms)
    assert await opens() == [-3, -2, -1]
    await http.delete("/sandbox/faults")
    await post(http, kind="missing_rows", from_ms=now_ms - 31 * 86_400_000, to_ms=now_ms - five_ms)
    assert await opens() == [-1], "what is before the hole is beyond the reach"
    await http.delete("/sandbox/faults")
    await post(http, kind="missing_rows", rows=2, count=1)
    assert await opens(limit=4) == [-4, -1]


async def test_fundings_lack_rows_too(http: httpx.AsyncClient) -> None:
    async def times(**query: int) -> list[int]:
        rows = (await http.get("/fapi/v1/fundingRate", params={"symbol": "BTCUSDT", **query})).json()
        return [row["fundingTime"] for row in rows]

    whole = await times()
    await post(http, kind="hole", symbol="BTCUSDT", path="*/fundingRate*", from_ms=whole[90], to_ms=whole[95])
    assert (await times())[-95:] == whole[:90] + whole[95:]
    assert len(await times()) == 100
    assert await times(startTime=whole[88], limit=4) == [*whole[88:90], *whole[95:97]]
    month = "/data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-10.zip"
    await http.delete("/sandbox/faults")
    await post(http, kind="hole", symbol="BTCUSDT", path="*/fundingRate*", from_ms=whole[0], to_ms=whole[10])
    with zipfile.ZipFile(io.BytesIO((await http.get(month)).content)) as archive:
        lines = archive.read(archive.namelist()[0]).decode().splitlines()[1:]
    assert len(lines) == 31 * 3 - 10
    assert {int(line.partition(",")[0]) for line in lines}.isdisjoint(whole[:10])
