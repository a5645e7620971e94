"""Faults of what the exchange has: damaged files, listings, lost rows, in every answer alike."""

import asyncio
import hashlib
import io
import zipfile
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest

from infra.sandbox.grid import MINUTE_MS
from tests.sandbox.inject import ZIP, post, status

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock


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
