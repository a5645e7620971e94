"""The sandbox's archive: REST's rows in the archive's format, available when the exchange would publish them."""

from typing import TYPE_CHECKING

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from infra.sandbox.server import SandboxServer
from tests.sandbox.files import ROOT, funding_file, metrics_file, read

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock


def daily(symbol: str, interval: str, day: str) -> str:
    return f"{ROOT}/daily/klines/{symbol}/{interval}/{symbol}-{interval}-{day}.zip"


def monthly(symbol: str, folder: str, month: str) -> str:
    return f"{ROOT}/monthly/klines/{symbol}/{folder}/{symbol}-{folder}-{month}.zip"


@pytest.mark.parametrize("interval", ["1m", "15m", "1d"])
async def test_a_daily_file_has_the_rows_of_rest(
    http: httpx.AsyncClient, sandbox: SandboxServer, interval: str
) -> None:
    header, *lines = await read(http, daily("XRPUSDT", interval, "2026-11-19"))
    assert ",".join(header) == (
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
    )
    rows = sandbox.exchange.rows("XRPUSDT", interval, utc_ms(2026, 11, 19), utc_ms(2026, 11, 20))
    assert lines == [[str(field) for field in row] for row in rows]


@pytest.mark.parametrize(("folder", "interval"), [("4h", "4h"), ("3d", "3d"), ("1w", "1w"), ("1mo", "1M")])
async def test_a_monthly_file_has_the_rows_of_rest(
    http: httpx.AsyncClient, sandbox: SandboxServer, folder: str, interval: str
) -> None:
    _, *lines = await read(http, monthly("币安人生USDT", folder, "2026-10"))
    rows = sandbox.exchange.rows("币安人生USDT", interval, utc_ms(2026, 10), utc_ms(2026, 11))
    assert lines == [[str(field) for field in row] for row in rows]
    assert rows


async def test_numbers_have_the_form_of_their_time(http: httpx.AsyncClient, sandbox: SandboxServer) -> None:
    lines = await read(http, daily("XRPUSDT", "1m", "2021-06-01"))
    rows = sandbox.exchange.rows("XRPUSDT", "1m", utc_ms(2021, 6), utc_ms(2021, 6, 2))
    assert len(lines) == len(rows) == 1440
    empty = next(line for line, row in zip(lines, rows, strict=True) if row[8] == 0)
    assert empty[5:] == ["0.0", empty[6], "0.00000", "0", "0.0", "0.00000", "0"]
    full = next(line for line, row in zip(lines, rows, strict=True) if row[9] != "0")
    assert full in [[str(field) for field in row] for row in rows]
    assert (await read(http, daily("XRPUSDT", "1m", "2022-04-30")))[0][0] != "open_time"
    assert (await read(http, daily("XRPUSDT", "1m", "2022-05-01")))[0][0] == "open_time"
    lines = (await read(http, daily("XRPUSDT", "1m", "2023-10-02")))[1:]
    rows = sandbox.exchange.rows("XRPUSDT", "1m", utc_ms(2023, 10, 2), utc_ms(2023, 10, 3))
    assert [
        line for line in lines if any("." in field and not field.partition(".")[2].strip("0") for field in line)
    ] == []
    assert any(str(row[5]).endswith(".0") for row in rows)
    _, *lines = await read(http, daily("XRPUSDT", "1m", "2023-11-16"))
    rows = sandbox.exchange.rows("XRPUSDT", "1m", utc_ms(2023, 11, 16), utc_ms(2023, 11, 17))
    assert lines == [[str(field) for field in row] for row in rows]


async def test_files_appear_when_the_exchange_publishes_them(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    yesterday, month = daily("BTCUSDT", "1d", "2026-11-20"), monthly("BTCUSDT", "1d", "2026-11")
    clock.advance(utc_ms(2026, 11, 21, 8, 30) - clock.now_ms() - 1)
    answer = await http.get(yesterday)
    assert answer.status_code == 404
    assert answer.text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>')
    assert (await http.get(f"{yesterday}.CHECKSUM")).status_code == 404
    clock.advance(1)
    assert (await http.get(yesterday)).status_code == 200
    clock.advance(utc_ms(2026, 12, 7, 8, 30) - clock.now_ms() - 1)  # the first Monday of December
    assert (await http.get(month)).status_code == 404
    clock.advance(1)
    assert (await http.get(month)).status_code == 200


MISSING = [
    daily("BTCUSDT", "3d", "2026-11-19"),
    daily("BTCUSDT", "1mo", "2026-11-19"),
    daily("BTCUSDT", "1m", "2019-09-07"),
    daily("BTCUSDT", "1m", "2026-02-30"),
    daily("NOPEUSDT", "1m", "2026-11-19"),
    daily("BTCUSDT", "1m", "2026-11"),
    monthly("BTCUSDT", "1M", "2026-10"),
    monthly("BTCUSDT", "1h", "2019-08"),
    monthly("BTCUSDT", "1h", "2026-10-01"),
    f"{ROOT}/daily/klines/BTCUSDT/1m/ETHUSDT-1m-2026-11-19.zip",
    "/data/futures/cm/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2026-11-19.zip",
    metrics_file("BTCUSDT", "2026-10"),
    metrics_file("BTCUSDT", "2026-10").replace("/daily/", "/monthly/"),
    metrics_file("BTCUSDT", "2026-11-19").replace("/metrics/BTCUSDT/", "/metrics/ETHUSDT/"),
    metrics_file("BTCUSDT", "2026-11-19").replace("/BTCUSDT/", "/BTCUSDT/5m/"),
    metrics_file("BTCUSDT", "2026-11-31"),
    metrics_file("NOPEUSDT", "2026-11-19"),
    metrics_file("BTCSTUSDT", "2026-11-19"),
    funding_file("BTCUSDT", "2026-10-19"),
    funding_file("BTCUSDT", "2026-10-19").replace("/monthly/", "/daily/"),
    funding_file("BTCUSDT_261225", "2026-10"),
]


async def test_what_the_exchange_does_not_have_is_missing(http: httpx.AsyncClient) -> None:
    for path in MISSING:
        assert (await http.get(path)).status_code == 404, path


async def test_the_listing_month_begins_at_the_listing_and_delisted_symbols_are_kept(
    http: httpx.AsyncClient, clock: "ManualClock"
) -> None:
    lines = await read(http, monthly("BTCUSDT", "1h", "2019-09"))
    assert int(lines[0][0]) == utc_ms(2019, 9, 8, 17)
    listed_ms = utc_ms(2026, 11, 1, 0, 30)
    lines = await read(http, daily("NEW1101USDT", "1m", "2026-11-01"))
    assert (int(lines[1][0]), len(lines)) == (listed_ms, 1 + 1440 - 30)
    assert (await http.get("/fapi/v1/klines?symbol=NEW1101USDT&interval=1m")).status_code == 400
    assert clock.now_ms() > listed_ms + 6 * DAY_MS


async def test_the_bytes_are_the_same_every_time(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    path = daily("ADAUSDT", "5m", "2026-11-18")
    first = (await http.get(path)).content
    clock.advance(3 * HOUR_MS + MINUTE_MS)
    async with (
        SandboxServer(clock, seed=1, symbols=4) as other,
        httpx.AsyncClient(base_url=other.base_url, verify=trusting_nobody()) as client,
    ):
        assert (await client.get(path)).content == first
    head = await http.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(first)), b"")
