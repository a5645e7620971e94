"""No client can take the streams of others: invented names cost nothing, and each client has a share of the rest."""

import asyncio
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from app.binance.stream_name import NAME_CHARS_MAX
from app.sockets import stream_protocol, streams
from app.sockets.stream_shares import LEAD_MIN, Shares
from app.sockets.stream_silent import SilentNames
from app.sockets.streams import LOOK_S, LOOK_S_MAX, streams_of
from tests.sockets.sockets import Exchange, ask, client, exchange, said

ACCEPTED = {"result": None, "id": 1}


class Upstream:
    """The exchange's side of the hub; records what is subscribed."""

    def __init__(self) -> None:
        self.subscribed: set[str] = set()

    def add(self, names: Iterable[str]) -> None:
        self.subscribed.update(names)

    def remove(self, names: Iterable[str]) -> None:
        self.subscribed.difference_update(names)

    def heard_ms(self, stream: str) -> int | None:
        return None


class Listing:
    """The node's list of the exchange's symbols; unknown until `read`."""

    def __init__(self, made: Exchange, *names: str) -> None:
        self.server = made.server
        self.names: set[str] | None = None
        self.upstream = Upstream()
        made.hub.take_from(self.upstream)
        made.listed.names = lambda: self.names
        if names:
            self.read(*names)

    def read(self, *names: str) -> None:
        self.names = set(names)
        self.server.listed_changed()


def refused(answer: object) -> str:
    assert isinstance(answer, dict)
    assert answer["error"]["code"] == 4
    return str(answer["error"]["msg"])


async def test_invented_names_are_acknowledged_and_not_asked_of_the_exchange() -> None:
    names = ["btcusdt@trade", "inventedusdt@trade", "btcusd_perpetual@continuousKline_1m", "pNOSUCHUSDT@kline_1m"]
    async with exchange() as made, client(made, "/ws") as one:
        listing = Listing(made, "BTCUSDT", "ETHUSDT")
        assert await ask(one, "SUBSCRIBE", names) == ACCEPTED
        assert await ask(one, "LIST_SUBSCRIPTIONS") == {"result": names, "id": 1}
        assert "btcusdt@trade" in listing.upstream.subscribed
        assert not listing.upstream.subscribed & {"inventedusdt@trade", "pNOSUCHUSDT@kline_1m"}
        assert await ask(one, "UNSUBSCRIBE", names) == ACCEPTED
        assert made.server._silent.names == made.server.streams == 0


@pytest.mark.parametrize(
    "name",
    [
        "btcusdt@kline_1m", "pBTCUSDT@kline_1m", "iBTCUSDT@kline_1m", "ibtcusdt@kline_1m", "btcusdt@depth5@100ms",
        "btcusdt_perpetual@continuousKline_1s", "btcusdt_current_quarter@continuousKline_1m", "!ticker@arr",
        "!contractInfo", "tradingSession", "btcusd_perp@trade", "btcusd_perpetual@continuousKline_1m",
        "adausd@assetIndex",
    ],
)  # fmt: skip
async def test_every_kind_of_a_listed_symbol_and_what_no_list_has_is_asked_of_the_exchange(name: str) -> None:
    async with exchange() as made, client(made, "/ws") as one:
        listing = Listing(made, "BTCUSDT")
        assert await ask(one, "SUBSCRIBE", [name]) == ACCEPTED
        assert listing.upstream.subscribed == {name}


async def test_a_symbol_that_is_listed_later_is_delivered_to_those_who_wait() -> None:
    async with exchange() as made, client(made, "/ws/newusdt@trade") as one, client(made, "/stream") as two:
        listing = Listing(made, "BTCUSDT")
        assert await ask(two, "SUBSCRIBE", ["newusdt@trade", "otherusdt@trade"]) == ACCEPTED
        assert await ask(one, "LIST_SUBSCRIPTIONS") == {"result": ["newusdt@trade"], "id": 1}
        listing.read("BTCUSDT", "NEWUSDT")
        assert listing.upstream.subscribed == {"newusdt@trade"}
        made.send("newusdt@trade")
        assert await said(one) == {"s": "newusdt@trade"}
        assert await said(two) == {"stream": "newusdt@trade", "data": {"s": "newusdt@trade"}}
        listing.read("BTCUSDT")  # gone from the list: clients that receive it continue to do so
        made.send("newusdt@trade")
        assert await said(one) == {"s": "newusdt@trade"}


async def test_while_nobody_knows_the_list_names_are_tried_and_given_up_when_it_is_read() -> None:
    async with exchange() as made, client(made, "/ws") as one:
        listing = Listing(made)
        assert await ask(one, "SUBSCRIBE", ["btcusdt@trade", "inventedusdt@trade"]) == ACCEPTED
        assert listing.upstream.subscribed == {"btcusdt@trade", "inventedusdt@trade"}
        listing.read("BTCUSDT")
        made.clock.time_ms += 60_000
        made.hub.release()
        assert listing.upstream.subscribed == {"btcusdt@trade"}
        listing.read("BTCUSDT", "INVENTEDUSDT")
        assert listing.upstream.subscribed == {"btcusdt@trade", "inventedusdt@trade"}
        assert await ask(one, "LIST_SUBSCRIPTIONS") == {"result": ["btcusdt@trade", "inventedusdt@trade"], "id": 1}


async def test_the_list_is_read_anew_while_somebody_waits_but_not_for_ever() -> None:
    async with exchange() as made, client(made, "/ws/btcusdt@trade") as one, asyncio.TaskGroup() as tasks:
        listing, looked = Listing(made, "BTCUSDT"), list[str]()

        made.listed.looked = looked
        looking = tasks.create_task(made.server.look_for_listings())
        await made.clock.advance(round(1_000 * 3 * LOOK_S))
        assert looked == []
        assert await ask(one, "SUBSCRIBE", ["newusdt@trade", "nonsense"]) == ACCEPTED
        await made.clock.advance(round(1_000 * 3 * LOOK_S))
        assert looked == ["NEWUSDT"] * 3
        await made.clock.advance(round(1_000 * LOOK_S_MAX))
        looked.clear()
        await made.clock.advance(round(1_000 * 10 * LOOK_S))
        assert looked == [], "the regular reading goes on"
        listing.read("BTCUSDT", "NEWUSDT")
        assert "newusdt@trade" in listing.upstream.subscribed
        looking.cancel()


async def test_who_takes_all_there_is_gives_way_to_who_has_less_and_is_told() -> None:
    symbols = [f"s{number}usdt" for number in range(400)]
    async with exchange(streams_max=200) as made, client(made, "/ws") as told:
        listing = Listing(made, *(symbol.upper() for symbol in symbols))
        assert await ask(told, "SUBSCRIBE", [f"{symbol}@trade" for symbol in symbols[:60]]) == ACCEPTED
        greedy = [made.server.connect(Silence()) for _ in range(3)]
        for number, one in enumerate(greedy):
            for symbol in symbols[60 * number :]:  # these overlap with the other clients' streams
                one.hear(json.dumps({"method": "SUBSCRIBE", "params": [f"{symbol}@trade"], "id": 1}))
        assert made.server.streams == 200, "what there is is used"
        async with client(made, "/ws") as polite:
            few = [f"s399usdt@kline_{code}" for code in ("1m", "3m", "5m", "15m")] + ["s0usdt@trade"]
            assert await ask(polite, "SUBSCRIBE", few) == ACCEPTED
            assert set(few) <= listing.upstream.subscribed
            assert (await ask(polite, "LIST_SUBSCRIPTIONS")) == {"result": few, "id": 1}
            shares = [len(made.server._charged.of(one)) for one in made.server.clients]
            assert (sum(shares), made.server.streams) == (200, 200)
            many = [f"{symbol}@kline_5m" for symbol in symbols]
            assert "unsubscribe from others" in refused(await ask(polite, "SUBSCRIBE", many))
            assert (await ask(polite, "LIST_SUBSCRIPTIONS")) == {"result": few, "id": 1}
            await polite.close()
        for one in greedy:
            assert set(made.server._charged.of(one)) <= set(one.streams)
            made.server.disconnect(one)
        await told.close()
        await made.until_clients(0)
        assert (made.server.streams, made.server._charged.names) == (0, 0)


async def test_names_of_nobody_are_bounded_for_all_and_who_has_most_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async with exchange() as made, client(made, "/ws") as one, client(made, "/ws") as two:
        Listing(made, "BTCUSDT")
        made.server._silent = SilentNames(names_max=30)
        many = [f"no{number}usdt@trade" for number in range(31)]
        assert "unlisted symbols" in refused(await ask(one, "SUBSCRIBE", many))
        assert made.server._silent.names == 0, "all or none"
        assert await ask(one, "SUBSCRIBE", many[:30]) == ACCEPTED
        assert await ask(two, "SUBSCRIBE", ["a@trade", "b"]) == ACCEPTED
        assert many[29] in refused(await said(one))
        assert await ask(one, "LIST_SUBSCRIPTIONS") == {"result": many[:28], "id": 1}
        assert made.server._silent.names == 30
        monkeypatch.setattr(streams, "UNCERTAIN_MAX", 2)
        assert await ask(two, "SUBSCRIBE", ["a1usd_perp@trade", "a2usd_perp@trade"]) == ACCEPTED
        assert "no list has" in refused(await ask(two, "SUBSCRIBE", ["a3usd_perp@trade"]))
        await one.close()
        await made.until_clients(1)
        assert made.server._silent.names == 2, "who leaves makes room"


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.booleans()), max_size=200))
def test_shares_are_counted_right(steps: list[tuple[int, int, bool]]) -> None:
    shares, model = Shares[int](), dict[int, list[str]]()
    for owner, number, is_added in steps:
        mine = model.setdefault(owner, [])
        if is_added and str(number) not in mine:
            shares.add(owner, str(number))
            mine.append(str(number))
        elif not is_added:
            shares.discard(owner, str(number))
            model[owner] = [name for name in mine if name != str(number)]
        assert shares.names == sum(map(len, model.values()))
        most = max(map(len, model.values()))
        for each in range(5):
            assert list(shares.of(each)) == model.get(each, [])
            giver = shares.giver_to(each)
            if most >= len(model.get(each, [])) + LEAD_MIN:
                assert giver is not None
                assert len(model[giver]) == most
            else:
                assert giver is None


async def test_a_name_longer_than_any_is_refused_before_it_is_kept() -> None:
    long_name = "x" * (NAME_CHARS_MAX + 1)
    async with exchange() as made, client(made, f"/ws/btcusdt@trade/{long_name}") as url, client(made, "/ws") as one:
        answer = await said(url)
        assert isinstance(answer, dict)
        assert (answer["error"]["code"], "80 characters" in answer["error"]["msg"]) == (2, True)
        for name in (long_name, "x" * 250_000):
            answer = await ask(one, "SUBSCRIBE", ["btcusdt@trade", name], 7)
            assert isinstance(answer, dict)
            assert (answer["id"], answer["error"]["code"]) == (7, 2)
        assert await ask(one, "LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}
        assert made.server.streams == 0
        assert await ask(one, "SUBSCRIBE", ["x" * NAME_CHARS_MAX]) == ACCEPTED


@pytest.mark.parametrize(
    "message", ['{"method":"SUBSCRIBE","params":["\\ud800@trade"],"id":1}', '{"method":"X","id":"\\uDC00"}']
)
async def test_half_a_character_is_no_json(message: str) -> None:
    async with exchange() as made, client(made, "/ws") as one:
        await one.send(message)
        answer = await said(one)
        assert isinstance(answer, dict)
        assert answer["error"]["code"] == 3
        assert await ask(one, "LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}


async def test_a_message_of_parts_without_bytes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_protocol, "PARTS_MAX", 3)
    async with exchange() as made, client(made, "/ws") as one:
        one.transport.write(Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True))
        for _ in range(3):
            one.transport.write(Frame(Opcode.CONT, b"", fin=False).serialize(mask=True))
        with pytest.raises(ConnectionClosed) as closed:
            await said(one)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_workers_share_what_one_node_may_have() -> None:
    assert [streams_of(workers) for workers in (1, 2, 4, 64)] == [8_192, 4_096, 2_048, 2_048]


class Silence:
    """A connection that discards what is written."""

    def write(self, data: bytes) -> None: ...

    def ping(self, payload: bytes) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def waiting_bytes(self) -> int:
        return 0
