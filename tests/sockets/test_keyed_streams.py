"""With API keys, a socket needs one for its handshake, and lives no longer than the key is known."""

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from app.access.api_keys import NO_KEYS, ApiKeys, line_of
from app.access.key_gate import KeyGate
from tests.access.quota import FakeQuota
from tests.clocks import START_MS, VirtualClock
from tests.sockets.sockets import Exchange, exchange, said

KEY = "k" * 64


def gate_of(per_minute: int) -> KeyGate:
    gate = KeyGate(VirtualClock(START_MS), FakeQuota())
    gate.use(ApiKeys.parse(f"{line_of('alice', KEY, per_minute)}\n".encode()))
    return gate


async def refused(made: Exchange, headers: dict[str, str]) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(f"{made.url}/ws/a@trade", proxy=None, additional_headers=headers):
            raise AssertionError("it was admitted")
    return refusal.value


async def test_a_handshake_without_a_key_is_refused_in_binances_shape() -> None:
    async with exchange(gate=gate_of(2)) as made:
        for headers, code in (
            ({}, -2014),
            ({"X-MBX-APIKEY": "short"}, -2014),
            ({"X-MBX-APIKEY": "x" * 64}, -2015),
            ({"Authorization": f"Bearer {'x' * 64}"}, -2015),
        ):
            error = await refused(made, headers)
            assert error.response.status_code == 401
            assert error.response.headers["content-type"] == "application/json"
            assert json.loads(error.response.body or b"")["code"] == code
        for headers in ({"X-MBX-APIKEY": KEY}, {"Authorization": f"Bearer {KEY}"}):
            async with connect(f"{made.url}/ws/a@trade", proxy=None, additional_headers=headers) as client:
                await made.until_clients(1)
                made.send("a@trade", x=1)
                assert await said(client) == {"s": "a@trade", "x": 1}
            await made.until_clients(0)
        error = await refused(made, {"X-MBX-APIKEY": KEY})
        assert error.response.status_code == 429
        assert json.loads(error.response.body or b"")["code"] == -1003
        assert int(error.response.headers["retry-after"]) > 0


async def test_a_socket_ends_with_its_key() -> None:
    gate = gate_of(60)
    async with (
        exchange(gate=gate) as made,
        connect(f"{made.url}/ws/a@trade", proxy=None, additional_headers={"X-MBX-APIKEY": KEY}) as client,
    ):
        await made.until_clients(1)
        gate.use(NO_KEYS)
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        await made.until_clients(0)
