"""The sandbox's streams beside klines: every field in order, on the right routes, and consistent with REST."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from infra.sandbox.book import LATE_STEPS_MAX, STEP_MS, update_id
from infra.sandbox.grid import INTERVALS, MINUTE_MS, SECOND_MS
from infra.sandbox.stream_names import MARKET, PUBLIC, parse_kline, parse_stream, route_of
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from infra.sandbox.server import SandboxServer
    from tests.sandbox.conftest import ManualClock

DEPTH = ["e", "E", "T", "s", "U", "u", "pu", "b", "a", "ps", "st"]
TICKER = ["e", "E", "s", *"pPwcQohlvqOCFLn", "ps", "st"]
MINI = ["e", "E", "s", *"cohlvq", "ps", "st"]
MARK = ["e", "E", "s", "p", "ap", "i", "P", "r", "T", "st"]
BEST = ["e", "u", "E", "T", "s", "b", "B", "a", "A", "ps", "st"]
AGGREGATE = ["e", "E", "s", "a", "p", "q", "nq", "f", "l", "T", "m", "st"]
FORCED = ["e", "E", "o", "ps", "st"]

# stream, route, keys of an event (or of a list's rows) in order
SHAPES = [
    ("btcusdt@aggTrade", MARKET, AGGREGATE),
    ("btcusdt@trade", PUBLIC, ["e", "E", "T", "s", "t", "p", "q", "X", "m", "st"]),
    ("btcusdt@markPrice", MARKET, MARK),
    ("btcusdt@markPrice@1s", MARKET, MARK),
    ("!markPrice@arr", MARKET, MARK),
    ("!markPrice@arr@1s", MARKET, MARK),
    ("btcusdt@ticker", MARKET, TICKER),
    ("!ticker@arr", MARKET, TICKER),
    ("btcusdt@miniTicker", MARKET, MINI),
    ("!miniTicker@arr", MARKET, MINI),
    ("btcusdt@bookTicker", PUBLIC, BEST),
    ("!bookTicker", PUBLIC, BEST),
    *((f"btcusdt@depth{speed}", PUBLIC, DEPTH) for speed in ("", "@100ms", "@500ms")),
    *((f"btcusdt@depth{levels}", PUBLIC, DEPTH) for levels in ("5", "10@100ms", "20@500ms")),
    ("btcusdt@rpiDepth@500ms", PUBLIC, DEPTH),
    ("btcusdt_perpetual@continuousKline_1m", MARKET, ["e", "E", "ps", "ct", "k"]),
    ("btcusdt_perpetual@continuousKline_1s", MARKET, ["e", "E", "ps", "ct", "k"]),
    ("xauusdt_tradifi_perpetual@continuousKline_1s", MARKET, ["e", "E", "ps", "ct", "k"]),
    *(
        (name, MARKET, ["e", "E", "ps", "k"])
        for name in ("pBTCUSDT@kline_1m", "iBTCUSDT@kline_1h", "ibtcusdt@kline_5m")
    ),
    ("!forceOrder@arr", MARKET, FORCED),
]
_PROBE = '{"method":"GET_PROPERTY","params":["combined"],"id":99}'


class Ear:
    """A socket of which all frames sent so far can be read."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def collect(self) -> list[Any]:
        """All events sent so far: those before the answer to a request."""
        await self.socket.send(_PROBE)
        events: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            while not (isinstance(message := json.loads(await self.socket.recv()), dict) and message.get("id") == 99):
                events.append(message)
        return events


@asynccontextmanager
async def listening(sandbox: "SandboxServer", route: str, *names: str) -> AsyncIterator[Ear]:
    async with connect(f"{sandbox.ws_url}/{route}/ws/{'/'.join(names)}", max_size=None) as socket:
        ear = Ear(socket)
        await ear.collect()
        yield ear


async def pass_time(clock: "ManualClock", sandbox: "SandboxServer", total_ms: int, step_ms: int = 100) -> None:
    """Move the clock in steps, with the sandbox's tick at each, as it would do by itself."""
    for _ in range(0, total_ms, step_ms):
        clock.advance(step_ms)
        sandbox.app.sockets.hub.tick(clock.now_ms())
        await asyncio.sleep(0)  # noqa: TID251  lets the sockets write


def rows_of(events: list[Any]) -> list[Any]:
    return [row for event in events for row in (event if isinstance(event, list) else [event])]


@pytest.mark.parametrize(("name", "route", "keys"), SHAPES)
async def test_an_event_has_every_field_in_order_and_only_on_its_route(
    sandbox: "SandboxServer", clock: "ManualClock", name: str, route: str, keys: list[str]
) -> None:
    async with (
        listening(sandbox, route, name) as right,
        listening(sandbox, PUBLIC if route == MARKET else MARKET, name) as wrong,
        listening(sandbox, "private", name) as private,
    ):
        events: list[Any] = []
        for _ in range(60):  # forced orders are rare
            await pass_time(clock, sandbox, 6 * SECOND_MS, 500)
            events += await right.collect()
            if events:
                break
        assert rows_of(events)
        for row in rows_of(events):
            assert list(row) == keys
            assert row["E"] <= clock.now_ms()
            assert not any(isinstance(value, float) for value in row.values())
        assert await wrong.collect() == []
        assert await private.collect() == []


async def test_addresses_without_a_route_deliver_what_is_public(sandbox: "SandboxServer", clock: "ManualClock") -> None:
    async with connect(f"{sandbox.ws_url}/ws/btcusdt@bookTicker/btcusdt@aggTrade") as socket:
        ear = Ear(socket)
        await ear.collect()
        await pass_time(clock, sandbox, 5 * SECOND_MS)
        assert {event["e"] for event in await ear.collect()} == {"bookTicker"}


def test_names_mean_one_stream_or_none() -> None:
    for name, route, _ in SHAPES:
        assert route_of(name) == route
    for interval in INTERVALS:
        assert parse_kline(f"btcusdt@kline_{interval}") == ("BTCUSDT", interval)
        assert parse_stream(f"btcusdt_perpetual@continuousKline_{interval}") is not None
    for name in (
        *("BTCUSDT@aggTrade", "btcusdt@aggtrade", "btcusdt@depth7", "btcusdt@depth@1s", "btcusdt@kline_1s", "!all"),
        *("", "@", "@ticker", "btcusdt@", "btcusdt_spot@continuousKline_1m", "btcusdt@continuousKline_1m"),
        *("PBTCUSDT@kline_1m", "pBtcUSDT@kline_1m", "pBTCUSDT@kline_1s", "iBTCUSDT@aggTrade"),
    ):
        assert route_of(name) is None


@pytest.mark.parametrize("name", ["btcusdt@depth", "btcusdt@depth@100ms", "1000pepeusdt@depth@500ms"])
async def test_a_snapshot_and_the_updates_after_it_make_the_later_book(
    sandbox: "SandboxServer", http: httpx.AsyncClient, clock: "ManualClock", name: str
) -> None:
    symbol = name.partition("@")[0].upper()
    async with listening(sandbox, PUBLIC, name) as ear:
        await pass_time(clock, sandbox, 1_300)
        book = (await http.get("/fapi/v1/depth", params={"symbol": symbol, "limit": 1000})).json()
        await pass_time(clock, sandbox, 30_200)  # to a moment at which every update speed has sent an update
        events = [event for event in await ear.collect() if event["u"] >= book["lastUpdateId"]]
        assert events[0]["U"] <= book["lastUpdateId"] <= events[0]["u"]
        sides = {side: {Decimal(price): quantity for price, quantity in book[side]} for side in ("bids", "asks")}
        before = events[0]["pu"]
        for event in events:
            assert event["pu"] == before
            before = event["u"]
            for side, key in (("bids", "b"), ("asks", "a")):
                for price, quantity in event[key]:
                    sides[side][Decimal(price)] = quantity
                    if Decimal(quantity) == 0:
                        del sides[side][Decimal(price)]
        later = (await http.get("/fapi/v1/depth", params={"symbol": symbol, "limit": 1000})).json()
        assert later["lastUpdateId"] == before
        assert later["bids"] != book["bids"]
        for side, worst_first in (("bids", True), ("asks", False)):
            mine = sorted(sides[side].items(), reverse=worst_first)[: len(later[side])]
            assert mine == [(Decimal(price), quantity) for price, quantity in later[side]]


async def test_a_stream_that_starved_breaks_its_chain_so_that_it_shows(
    sandbox: "SandboxServer", clock: "ManualClock"
) -> None:
    async with listening(sandbox, PUBLIC, "btcusdt@depth") as ear:
        await pass_time(clock, sandbox, 500, 250)
        first = (await ear.collect())[-1]
        await pass_time(clock, sandbox, (LATE_STEPS_MAX + 5) * STEP_MS, (LATE_STEPS_MAX + 5) * STEP_MS)
        last = (await ear.collect())[-1]
        assert last["pu"] > first["u"]
        assert last["pu"] == update_id(clock.now_ms() // STEP_MS - 1)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ADAUSDT"])
async def test_trades_and_aggregates_are_those_of_rest_each_once(
    sandbox: "SandboxServer", http: httpx.AsyncClient, clock: "ManualClock", symbol: str
) -> None:
    lower = symbol.lower()
    async with (
        listening(sandbox, PUBLIC, f"{lower}@trade") as singles,
        listening(sandbox, MARKET, f"{lower}@aggTrade", f"{lower}@kline_1m") as market,
    ):
        await pass_time(clock, sandbox, 250, 250)
        start_ms = clock.now_ms()
        await pass_time(clock, sandbox, 2 * MINUTE_MS + 5_000, 250)
        trades = await singles.collect()
        heard = await market.collect()
        aggregates = [event for event in heard if event["e"] == "aggTrade" and event["T"] > start_ms]
        query: dict[str, str | int] = {"symbol": symbol, "limit": 1000}
        rest = (await http.get("/fapi/v1/trades", params=query)).json()
        mine = [(each["t"], each["p"], each["q"], each["T"], each["m"]) for each in trades]
        theirs = [(each["id"], each["price"], each["qty"], each["time"], each["isBuyerMaker"]) for each in rest]
        assert len(set(mine)) == len(mine) > 0
        tail = min(len(mine), len(theirs))
        assert mine[-tail:] == theirs[-tail:]
        rows = (await http.get("/fapi/v1/aggTrades", params={**query, "startTime": start_ms + 1})).json()
        named = [{key: each[key] for key in ("a", "p", "q", "nq", "f", "l", "T", "m")} for each in aggregates]
        assert named[: len(rows)] == rows
        closed = [event["k"] for event in heard if event["e"] == "kline" and event["k"]["x"]]
        assert closed
        for kline in closed:
            inside = [each for each in trades if kline["t"] <= each["T"] <= kline["T"]]
            if kline["t"] > start_ms and kline["n"]:
                assert (inside[0]["t"], inside[-1]["t"], len(inside)) == (kline["f"], kline["L"], kline["n"])
                assert sum(Decimal(each["q"]) for each in inside) == Decimal(kline["v"])


async def test_prices_and_tickers_are_those_of_rest(
    sandbox: "SandboxServer", http: httpx.AsyncClient, clock: "ManualClock"
) -> None:
    names = ("ethusdt@markPrice@1s", "ethusdt@ticker", "ethusdt@miniTicker", "!markPrice@arr@1s", "!ticker@arr")
    async with listening(sandbox, MARKET, *names) as ear:
        clock.advance(2_000 - clock.now_ms() % 2_000)
        sandbox.app.sockets.hub.tick(clock.now_ms())
        events = await ear.collect()
        premium = (await http.get("/fapi/v1/premiumIndex", params={"symbol": "ETHUSDT"})).json()
        ticker = (await http.get("/fapi/v1/ticker/24hr", params={"symbol": "ETHUSDT"})).json()
        one = {event["e"]: event for event in events if isinstance(event, dict)}
        mark = one["markPriceUpdate"]
        assert [mark[key] for key in ("s", "p", "i", "r", "T", "E")] == [
            premium[key] for key in ("symbol", "markPrice", "indexPrice", "lastFundingRate", "nextFundingTime", "time")
        ]
        keys = [key for key in ticker if key != "symbol"]
        assert [one["24hrTicker"][key] for key in "pPwcQohlvqOCFLn"] == [ticker[key] for key in keys]
        mini = one["24hrMiniTicker"]
        assert all(mini[key] == one["24hrTicker"][key] for key in "cohlvq")
        lists = [event for event in events if isinstance(event, list) and event[0]["e"] == "markPriceUpdate"]
        assert [row["s"] for row in lists[-1]] == ["XAUUSDT"]  # the second frame has Binance's TradFi symbols
        everyone = {row["s"]: row for row in rows_of(lists)}
        assert everyone["ETHUSDT"] == mark
        assert (everyone["BTCUSDT"]["st"], everyone["BTCUSD_PERP"]["st"]) == (1, 2)
        listed = (await http.get("/fapi/v1/ticker/24hr")).json()
        assert everyone.keys() - {"BTCUSD_PERP"} == {row["symbol"] for row in listed}


async def test_all_market_tickers_tell_only_what_changed(sandbox: "SandboxServer", clock: "ManualClock") -> None:
    async with listening(sandbox, MARKET, "!miniTicker@arr") as ear:
        await pass_time(clock, sandbox, 1_000, 250)
        first = {row["s"] for row in rows_of(await ear.collect())}
        await pass_time(clock, sandbox, 1_000, 250)
        second = {row["s"] for row in rows_of(await ear.collect())}
        assert "BTTCUSDT" in first
        assert "BTCUSDT" in second
        assert second < first


async def test_book_streams_are_the_book_of_rest(
    sandbox: "SandboxServer", http: httpx.AsyncClient, clock: "ManualClock"
) -> None:
    async with listening(sandbox, PUBLIC, "solusdt@bookTicker", "solusdt@depth10@100ms") as ear:
        await pass_time(clock, sandbox, 10 * SECOND_MS)
        events = await ear.collect()
        best = [event for event in events if event["e"] == "bookTicker"][-1]
        partial = [event for event in events if event["e"] == "depthUpdate"]
        row = (await http.get("/fapi/v1/ticker/bookTicker", params={"symbol": "SOLUSDT"})).json()
        assert [best[key] for key in "bBaA"] == [row[key] for key in ("bidPrice", "bidQty", "askPrice", "askQty")]
        book = (await http.get("/fapi/v1/depth", params={"symbol": "SOLUSDT", "limit": 10})).json()
        assert (partial[-1]["b"], partial[-1]["a"], partial[-1]["u"]) == (
            book["bids"],
            book["asks"],
            book["lastUpdateId"],
        )
        assert len(partial) == 100
        assert all(two["pu"] == one["u"] for one, two in itertools.pairwise(partial))


async def test_continuous_klines_are_the_contract_s_and_close_once(
    sandbox: "SandboxServer", http: httpx.AsyncClient, clock: "ManualClock"
) -> None:
    async with listening(sandbox, MARKET, "btcusdt_current_quarter@continuousKline_1m") as ear:
        await pass_time(clock, sandbox, 2 * MINUTE_MS + 3_000, 250)
        events = await ear.collect()
        closed = [event["k"] for event in events if event["k"]["x"]]
        assert [event["ct"] for event in events] == ["CURRENT_QUARTER"] * len(events)
        assert list(events[0]["k"]) == ["t", "T", "i", "f", "L", *"ochlvnxqVQB"]
        query: dict[str, str | int] = {"symbol": "BTCUSDT_261225", "interval": "1m", "startTime": closed[0]["t"]}
        rows = (await http.get("/fapi/v1/klines", params=query)).json()
        assert [[kline[key] for key in "tohlcvTqnVQ"] for kline in closed] == [row[:11] for row in rows[:2]]


async def test_seconds_add_up_to_their_minute_and_each_closes_once(
    sandbox: "SandboxServer", http: httpx.AsyncClient, clock: "ManualClock"
) -> None:
    async with listening(sandbox, MARKET, "xauusdt_tradifi_perpetual@continuousKline_1s") as ear:
        start_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS + MINUTE_MS
        await pass_time(clock, sandbox, 2 * MINUTE_MS, 250)
        events = await ear.collect()
        closed = [event["k"] for event in events if event["k"]["x"]]
        opens = [kline["t"] for kline in closed]
        assert opens == list(range(opens[0], opens[-1] + 1, SECOND_MS))
        assert {(kline["T"] - kline["t"], kline["i"]) for kline in closed} == {(SECOND_MS - 1, "1s")}
        assert {(event["ps"], event["ct"]) for event in events} == {("XAUUSDT", "TRADIFI_PERPETUAL")}
        minute = [kline for kline in closed if start_ms <= kline["t"] < start_ms + MINUTE_MS]
        query: dict[str, str | int] = {"symbol": "XAUUSDT", "interval": "1m", "startTime": start_ms, "limit": 1}
        [row] = (await http.get("/fapi/v1/klines", params=query)).json()
        traded = [kline for kline in minute if kline["n"]]
        assert len(minute) == 60
        assert [traded[0]["o"], traded[-1]["c"], minute[-1]["c"]] == [row[1], row[4], row[4]]
        assert max(Decimal(kline["h"]) for kline in traded) == Decimal(row[2])
        assert min(Decimal(kline["l"]) for kline in traded) == Decimal(row[3])
        for key, place in (("v", 5), ("q", 7), ("n", 8), ("V", 9), ("Q", 10)):
            assert sum(Decimal(kline[key]) for kline in minute) == Decimal(row[place]), key


@pytest.mark.parametrize(
    ("name", "path", "whose", "prefix"),
    [
        ("pBTCUSDT@kline_1m", "premiumIndexKlines", "symbol", "P"),
        ("iBTCUSDT@kline_1m", "indexPriceKlines", "pair", "I"),
        ("ibtcusdt@kline_1m", "indexPriceKlines", "pair", "I"),
    ],
)
async def test_klines_of_prices_are_those_of_rest(
    sandbox: "SandboxServer",
    http: httpx.AsyncClient,
    clock: "ManualClock",
    name: str,
    path: str,
    whose: str,
    prefix: str,
) -> None:
    async with listening(sandbox, MARKET, name) as ear:
        await pass_time(clock, sandbox, 2 * MINUTE_MS + 3_000, 250)
        events = await ear.collect()
        closed = [event["k"] for event in events if event["k"]["x"]]
        assert {(event["e"], event["ps"]) for event in events} == {("indexPrice_kline", f"{prefix}BTCUSDT")}
        assert list(events[0]["k"]) == ["t", "T", "s", "i", "f", "L", *"ochlvnxqVQB"]
        query: dict[str, str | int] = {whose: "BTCUSDT", "interval": "1m", "startTime": closed[0]["t"]}
        rows = (await http.get(f"/fapi/v1/{path}", params=query)).json()
        assert [[kline[key] for key in "tohlcvTqnVQ"] for kline in closed] == [row[:11] for row in rows[:2]]


async def test_a_symbol_s_own_klines_go_before_a_price_of_the_same_name(
    sandbox: "SandboxServer", clock: "ManualClock"
) -> None:
    sandbox.exchange.universe.list_symbol("IBTCUSDT", clock.now_ms())
    async with listening(sandbox, MARKET, "ibtcusdt@kline_1m", "iBTCUSDT@kline_1m") as ear:
        await pass_time(clock, sandbox, MINUTE_MS, 250)
        assert {(event["e"], event.get("s"), event.get("ps")) for event in await ear.collect()} == {
            ("kline", "IBTCUSDT", None),
            ("indexPrice_kline", None, "IBTCUSDT"),
        }


async def test_faults_of_frames_befall_every_stream(sandbox: "SandboxServer", clock: "ManualClock") -> None:
    async with listening(sandbox, PUBLIC, "btcusdt@bookTicker", "ethusdt@bookTicker") as ear:
        sandbox.inject(kind="silence", stream="btcusdt@bookTicker")
        await pass_time(clock, sandbox, 5 * SECOND_MS)
        assert {event["s"] for event in await ear.collect()} == {"ETHUSDT"}
