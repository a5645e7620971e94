"""The collector's requests to Binance take part in the budget that all processes share."""

import pytest

from app.domain.venue import Request
from app.node.venues import BudgetedIo
from app.ports.venue_io import VenueLost
from infra.binance.rest import BinanceRest
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.binance.upstream import Upstream
from tests.collecting.fake_venue_io import FakeVenueIo
from tests.net.loopback import Witness, runtime, to

TIME = Request("/fapi/v1/time")
TRADES = Request("/fapi/v1/aggTrades", (("symbol", "BTCUSDT"), ("limit", "2")), weight=20)


async def test_requests_cost_weight_and_a_stand_down_refuses_them() -> None:
    clock, witness, others = SystemClock(), Witness(), FakeVenueIo()
    upstream = Upstream(clock, witness=witness)
    async with SandboxServer(clock, symbols=1) as sandbox:
        rest = BinanceRest(to(sandbox.base_url), runtime(clock, witness), upstream.budget)
        io = BudgetedIo(others, rest)
        try:
            before = await upstream.used()
            answer = await io.get(TRADES)
            assert (answer.status, answer.body[:1]) == (200, b"[")
            assert await upstream.used() - before >= TRADES.weight
            assert others.requests == [], "no request goes past the budget"
            assert (await io.get(Request("/fapi/v1/aggTrades", (("symbol", "NONE"),)))).status == 400
            sandbox.inject(kind="http_418", ban_s=120)
            with pytest.raises(VenueLost):
                await io.get(TIME)
            sent = sandbox.journal.written
            with pytest.raises(VenueLost):
                await io.get(TIME)
            assert sandbox.journal.written == sent, "nothing is sent during a stand-down"
        finally:
            await rest.aclose()


async def test_sockets_are_opened_by_the_other_connections() -> None:
    clock, witness, others = SystemClock(), Witness(), FakeVenueIo()
    rest = BinanceRest(to("http://127.0.0.1:1"), runtime(clock, witness), Upstream(clock, witness=witness).budget)
    socket = await BudgetedIo(others, rest).connect("/market/ws")
    assert [socket] == others.sockets
    await rest.aclose()
