"""Fundings in REST and archive: the same events, at intervals that change."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.sandbox import truth
from infra.sandbox.funding import regimes
from infra.sandbox.grid import DAY_MS, HOUR_MS, utc_ms
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S
from tests.sandbox.files import funding_file, read

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock

PATH = "/fapi/v1/fundingRate"
HEADER = ["calc_time", "funding_interval_hours", "last_funding_rate"]


async def fundings(http: httpx.AsyncClient, **query: str | int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await http.get(PATH, params=query)).raise_for_status().json()
    return rows


@pytest.mark.parametrize(
    ("symbol", "month", "next_month", "hours"),
    [
        ("BTCUSDT", (2019, 9), (2019, 10), {"8"}),
        ("BTCUSDT", (2026, 10), (2026, 11), {"8"}),
        ("XRPUSDT", (2023, 2), (2023, 3), {"4"}),
        ("SOLUSDT", (2025, 1), (2025, 2), {"8", "4"}),
        ("SOLUSDT", (2025, 7), (2025, 8), {"4", "1"}),
        ("OMGUSDT", (2025, 1), (2025, 2), {"4"}),
    ],
)
async def test_a_monthly_file_has_the_events_of_rest(
    http: httpx.AsyncClient,
    sandbox: SandboxServer,
    symbol: str,
    month: tuple[int, int],
    next_month: tuple[int, int],
    hours: set[str],
) -> None:
    start_ms, end_ms = utc_ms(*month), utc_ms(*next_month)
    header, *lines = await read(http, funding_file(symbol, "{}-{:02}".format(*month)))
    assert header == HEADER
    rows = await fundings(http, symbol=symbol, startTime=start_ms, endTime=end_ms - 1, limit=1000)
    assert [[str(row["fundingTime"]), row["fundingRate"]] for row in rows] == [[line[0], line[2]] for line in lines]
    assert rows == truth.fundings(sandbox.exchange, symbol, start_ms, end_ms)
    assert {line[1] for line in lines} == hours
    times = [int(line[0]) for line in lines]
    assert all(start_ms <= time < end_ms and time % HOUR_MS <= 8 for time in times)
    assert any(time % HOUR_MS for time in times)
    for (before, after), line in zip(pairwise(times), lines[1:], strict=True):
        assert after // HOUR_MS - before // HOUR_MS == int(line[1]), "the hours since the one before"


async def test_a_file_appears_on_the_first_monday(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    path = funding_file("BTCUSDT", "2026-11")
    clock.advance(utc_ms(2026, 12, 7, 8, 30) - clock.now_ms() - 1)
    assert (await http.get(path)).status_code == 404
    clock.advance(1)
    assert len(await read(http, path)) == 1 + 90


@pytest.fixture
async def many(clock: "ManualClock") -> AsyncIterator[SandboxServer]:
    async with SandboxServer(clock, seed=1, symbols=50) as server:
        yield server


async def test_intervals_change_and_what_is_told_of_the_next_one_with_them(
    many: SandboxServer, clock: "ManualClock"
) -> None:
    """At the funding that ends a regime, premiumIndex and fundingInfo tell of the new one."""
    now_ms = clock.now_ms()
    changes = [
        (regime.since_ms, item.symbol, before.hours, regime.hours)
        for item in many.exchange.universe.at(now_ms)
        for before, regime in pairwise(regimes(item))
        if item.status(now_ms) == "TRADING" and regime.since_ms > now_ms
    ]
    assert {(before, after) for _, _, before, after in changes} == {(8, 4), (4, 1)}
    async with httpx.AsyncClient(base_url=many.base_url, timeout=PATIENCE_S, verify=trusting_nobody()) as http:

        async def told(symbol: str) -> tuple[int, int]:
            """The next funding's time, and the interval."""
            premium = (await http.get("/fapi/v1/premiumIndex", params={"symbol": symbol})).json()
            info = (await http.get("/fapi/v1/fundingInfo")).json()
            (mine,) = [each["fundingIntervalHours"] for each in info if each["symbol"] == symbol]
            return premium["nextFundingTime"], mine

        for since_ms, symbol, before, after in sorted(changes)[:3]:
            clock.advance(since_ms - 1 - clock.now_ms())
            assert await told(symbol) == (since_ms, before)
            clock.advance(10)
            assert await told(symbol) == (since_ms + after * HOUR_MS, after)
            clock.advance(DAY_MS)
            rows = await fundings(
                http, symbol=symbol, startTime=since_ms - before * HOUR_MS, endTime=since_ms + 5 * after * HOUR_MS - 1
            )
            hours = [row["fundingTime"] // HOUR_MS - since_ms // HOUR_MS for row in rows]
            assert hours == [-before, 0, after, 2 * after, 3 * after, 4 * after]


async def test_rows_have_the_fields_of_their_time(http: httpx.AsyncClient) -> None:
    for day_ms, is_since in ((utc_ms(2023, 1), "markPrice"), (utc_ms(2026, 7, 23), "rateType")):
        rows = await fundings(http, symbol="BTCUSDT", startTime=day_ms - DAY_MS, limit=6)
        assert [bool(row.get(is_since)) for row in rows] == [False] * 3 + [True] * 3
        assert all("markPrice" in row for row in rows)
    assert rows[-1]["rateType"] == "Regular"
    assert "rateType" not in rows[0]


async def test_the_fundings_of_all_symbols_are_in_the_order_of_time(http: httpx.AsyncClient) -> None:
    newest = await fundings(http, limit=200)
    hours = [row["fundingTime"] // HOUR_MS for row in newest]
    assert hours == sorted(hours)
    sol = await fundings(http, symbol="SOLUSDT", limit=200)
    mine = [row for row in newest if row["symbol"] == "SOLUSDT"]
    assert mine == sol[-len(mine) :]
    assert len(mine) > 20
    oldest = await fundings(http, startTime=0, limit=500)
    assert oldest[0]["symbol"] == "BTCUSDT"
    btc = [row for row in oldest if row["symbol"] == "BTCUSDT"]
    assert btc == await fundings(http, symbol="BTCUSDT", startTime=0, limit=len(btc))


async def test_times_of_the_archive_can_differ_from_those_of_rest(
    http: httpx.AsyncClient, sandbox: SandboxServer
) -> None:
    path = funding_file("BTCUSDT", "2026-10")
    true = await read(http, path)
    sandbox.inject(kind="funding_jitter", symbol="BTCUSDT", rows=93, duration_s=60)
    rows = await read(http, path)
    later = [int(row[0]) - int(one[0]) for one, row in zip(true[1:], rows[1:], strict=True)]
    assert (min(later), max(later)) == (1, 20)
    assert [row[1:] for row in rows] == [row[1:] for row in true]
