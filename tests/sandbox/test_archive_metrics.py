"""The archive's metrics: what REST rounds, labelled as the archive has labelled them, published once a day."""

from collections.abc import AsyncIterator
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.sandbox import truth
from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from infra.sandbox.options import Options, RestDigits
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S
from tests.sandbox.files import checksum, day_text, metrics_file, read_metrics

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock

FIVE_MS = 5 * MINUTE_MS
DAY = "2026-11-19"
OPEN_MS = utc_ms(2026, 11, 19)
RATIOS = {  # by endpoint: the place of its ratio in a row
    "topLongShortAccountRatio": 4,
    "topLongShortPositionRatio": 5,
    "globalLongShortAccountRatio": 6,
}
ENDPOINTS = ("openInterestHist", *RATIOS, "takerlongshortRatio")


async def rest(http: httpx.AsyncClient, endpoint: str, symbol: str, open_ms: int = OPEN_MS) -> list[dict[str, Any]]:
    """REST's rows of a day that opens at `open_ms`; their timestamps are the ends of their periods."""
    query: dict[str, str | int] = {"symbol": symbol, "period": "5m", "limit": 500}
    answer = await http.get(
        f"/futures/data/{endpoint}", params={**query, "startTime": open_ms + FIVE_MS, "endTime": open_ms + DAY_MS}
    )
    rows: list[dict[str, Any]] = answer.raise_for_status().json()
    return rows


def printed(text: str, places: int, rounding: str) -> str:
    return f"{Decimal(text).quantize(Decimal(1).scaleb(-places), rounding):f}"


def trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".")


async def assert_rest_follows(
    http: httpx.AsyncClient, symbol: str, rounding: str, places: int, *, is_trimmed: bool
) -> int:
    """Assert the rule by which REST's texts follow from the archive's; return how many would differ by the other."""
    archived = await read_metrics(http, symbol, DAY)
    assert len(archived) == 288
    other = ROUND_DOWN if rounding == ROUND_HALF_UP else ROUND_HALF_UP
    differing = 0

    def follows(text: str, exact: str, decimals: int = 4) -> None:
        nonlocal differing
        mine, theirs = (printed(exact, decimals, each) for each in (rounding, other))
        assert text == (trimmed(mine) if is_trimmed and decimals == places else mine)
        differing += mine != theirs

    for row, one in zip(archived, await rest(http, "openInterestHist", symbol), strict=True):
        assert [len(text.partition(".")[2]) for text in row[2:]] == [16, 16, 8, 8, 8, 8]
        follows(one["sumOpenInterest"], row[2], places)
        follows(one["sumOpenInterestValue"], row[3], places)
    for endpoint, place in RATIOS.items():
        for row, one in zip(archived, await rest(http, endpoint, symbol), strict=True):
            ratio = Decimal(row[place])
            assert one["symbol"] == row[1] == symbol
            follows(one["longShortRatio"], row[place])
            follows(one["longAccount"], str(ratio / (1 + ratio)))
            assert Decimal(one["longAccount"]) + Decimal(one["shortAccount"]) == 1
            assert len(one["shortAccount"]) == 6
    for row, one in zip(archived, await rest(http, "takerlongshortRatio", symbol), strict=True):
        follows(one["buySellRatio"], row[7])
        if Decimal(one["sellVol"]):
            exact = Decimal(one["buyVol"]) / Decimal(one["sellVol"])
            assert printed(str(exact), 8, ROUND_DOWN) == row[7]
    return differing


@pytest.mark.parametrize("symbol", ["BTCUSDT", "XRPUSDT", "币安人生USDT"])
async def test_rest_rounds_the_archive_s_numbers(http: httpx.AsyncClient, symbol: str) -> None:
    assert await assert_rest_follows(http, symbol, ROUND_HALF_UP, 8, is_trimmed=False) > 288


async def test_rest_can_cut_them_and_print_other_digits(clock: "ManualClock") -> None:
    digits = RestDigits(amount_places=2, cut=True, trimmed=True)
    async with (
        SandboxServer(clock, seed=1, symbols=1, options=Options(rest_digits=digits)) as other,
        httpx.AsyncClient(base_url=other.base_url, timeout=PATIENCE_S, verify=trusting_nobody()) as http,
    ):
        assert await assert_rest_follows(http, "BTCUSDT", ROUND_DOWN, 2, is_trimmed=True) > 288


async def test_rows_are_the_truth_which_rest_tells_of_the_last_thirty_days(
    http: httpx.AsyncClient, sandbox: SandboxServer, clock: "ManualClock"
) -> None:
    now_ms = clock.now_ms()
    for endpoint in ENDPOINTS:
        open_ms = now_ms // DAY_MS * DAY_MS - 29 * DAY_MS
        rows = await rest(http, endpoint, "ADAUSDT", open_ms)
        assert rows == truth.statistics(sandbox.exchange, "ADAUSDT", endpoint, open_ms, open_ms + DAY_MS)
        assert [row["timestamp"] for row in rows] == list(range(open_ms + FIVE_MS, open_ms + DAY_MS + 1, FIVE_MS))
        query: dict[str, str | int] = {
            "symbol": "ADAUSDT",
            "endpoint": endpoint,
            "startTime": open_ms,
            "endTime": open_ms + DAY_MS - 1,
        }
        assert (await http.get("/sandbox/truth", params=query)).json() == rows
        live = truth.statistics(sandbox.exchange, "ADAUSDT", endpoint, now_ms - HOUR_MS, now_ms + HOUR_MS)
        assert live[-1]["timestamp"] == now_ms // FIVE_MS * FIVE_MS
    for open_ms in (utc_ms(2021, 6, 1), utc_ms(2024, 1, 31), OPEN_MS):
        rows_of_day = await read_metrics(http, "ADAUSDT", day_text(open_ms))
        true = truth.archived_metrics(sandbox.exchange, "ADAUSDT", open_ms, open_ms + DAY_MS)
        assert rows_of_day == [[str(field) for field in row[1:]] for row in true]
        assert [row[0] for row in true] == list(range(open_ms, open_ms + DAY_MS, FIVE_MS))
    unknown: dict[str, str | int] = {"symbol": "ADAUSDT", "endpoint": "basis", "startTime": 0, "endTime": 1}
    assert (await http.get("/sandbox/truth", params=unknown)).status_code == 400


async def test_rows_are_labelled_with_the_end_and_since_a_day_in_june_with_the_start(
    http: httpx.AsyncClient, sandbox: SandboxServer
) -> None:
    before, last, first = [await read_metrics(http, "BTCUSDT", f"2026-06-{day}") for day in (23, 24, 25)]
    assert [len(rows) for rows in (before, last, first)] == [288] * 3
    assert (before[0][0], before[-1][0]) == ("2026-06-23 00:05:00", "2026-06-24 00:00:00")
    assert (last[0][0], last[-2][0], last[-1][0]) == (
        *("2026-06-24 00:05:00", "2026-06-24 23:55:00"),
        "2026-06-25 00:00:00",
    )
    assert (first[0][0], first[1][0], first[-1][0]) == (
        *("2026-06-25 00:00:00", "2026-06-25 00:05:00"),
        "2026-06-25 23:55:00",
    )
    assert last[-1] != first[0], "two periods, one label"
    true = truth.archived_metrics(sandbox.exchange, "BTCUSDT", utc_ms(2026, 6, 24, 23, 55), utc_ms(2026, 6, 25, 0, 5))
    assert [last[-1], first[0]] == [row[1:] for row in true]


async def test_files_begin_with_the_archive_or_the_listing_and_end_with_the_delivery(http: httpx.AsyncClient) -> None:
    assert (await http.get(metrics_file("BTCUSDT", "2020-08-31"))).status_code == 404
    oldest = await read_metrics(http, "BTCUSDT", "2020-09-01")
    assert (oldest[0][0], len(oldest[0][3].partition(".")[2])) == ("2020-09-01 00:05:00", 8)
    assert (await http.get(metrics_file("币安人生USDT", "2025-10-19"))).status_code == 404
    listed = await read_metrics(http, "币安人生USDT", "2025-10-20")
    assert (listed[0][0], len(listed)) == ("2025-10-20 11:45:00", 288 - 12 * 12 + 4)
    settled = await read_metrics(http, "OMGUSDT", "2025-01-31")
    assert (settled[-1][0], settled[-1][2]) == ("2025-01-31 09:00:00", "0.0000000000000000")
    assert settled[-2][2] > "0.0000000000000000"
    assert (await http.get(metrics_file("OMGUSDT", "2025-02-01"))).status_code == 404
    fresh = await read_metrics(http, "NEW1118USDT", "2026-11-18")
    assert fresh[0][0] == "2026-11-18 00:30:00"


async def test_a_file_appears_at_half_past_eight_of_the_next_day(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    path = metrics_file("BTCUSDT", "2026-11-20")
    clock.advance(utc_ms(2026, 11, 21, 8, 30) - clock.now_ms() - 1)
    assert (await http.get(path)).status_code == 404
    assert (await http.get(f"{path}.CHECKSUM")).status_code == 404
    clock.advance(1)
    assert len(await read_metrics(http, "BTCUSDT", "2026-11-20")) == 288
    log = (await http.get("/sandbox/requests")).json()["requests"]
    assert [(each["kind"], each["path"], each["status"], each["weight"]) for each in log][-2:] == [
        *(("archive", each, 200, 0) for each in (path, f"{path}.CHECKSUM"))
    ]


async def test_the_bytes_are_the_same_every_time(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    path = metrics_file("ADAUSDT", DAY)
    first = (await http.get(path)).content
    clock.advance(3 * HOUR_MS)
    async with (
        SandboxServer(clock, seed=1, symbols=4) as other,
        httpx.AsyncClient(base_url=other.base_url, verify=trusting_nobody()) as client,
    ):
        assert (await client.get(path)).content == first
    assert len(await checksum(http, path)) == 64


@pytest.fixture
async def strange(clock: "ManualClock") -> AsyncIterator[SandboxServer]:
    """A listing at a multiple of five minutes."""
    async with SandboxServer(clock, seed=1, symbols=2) as server:
        yield server


async def test_a_symbol_listed_on_the_grid_has_no_row_of_the_time_before(
    strange: SandboxServer, clock: "ManualClock"
) -> None:
    listed_ms = utc_ms(2026, 11, 21, 4, 35)
    clock.advance(listed_ms + 30_000 - clock.now_ms())
    strange.inject(kind="list_symbol", symbol="MOONUSDT")
    async with httpx.AsyncClient(base_url=strange.base_url, verify=trusting_nobody()) as http:
        for now_ms, ends in ((listed_ms + 30_000, []), (listed_ms + FIVE_MS, [listed_ms + FIVE_MS])):
            clock.advance(now_ms - clock.now_ms())
            rows = (await http.get("/futures/data/openInterestHist?symbol=MOONUSDT&period=5m")).json()
            assert [row["timestamp"] for row in rows] == ends
