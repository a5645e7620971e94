"""The sandbox's REST klines: windows, numbers, error bodies and weights."""

import re
from typing import TYPE_CHECKING

import httpx
import pytest

from infra.sandbox.grid import HOUR_MS, MINUTE_MS
from infra.sandbox.limits import klines_weight
from infra.sandbox.server import SandboxServer
from tests.http.window_cases import asked_of

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock

KLINES = "/fapi/v1/klines"


async def opens(http: httpx.AsyncClient, **query: int | str) -> list[int]:
    answer = await http.get(KLINES, params={"symbol": "ADAUSDT", "interval": "1m", **query})
    assert answer.status_code == 200, answer.text
    return [(row[0]) for row in answer.json()]


async def test_windows_are_those_of_the_exchange(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    now_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
    old_ms = now_ms - HOUR_MS

    def run(start_ms: int, rows: int) -> list[int]:
        return list(range(start_ms, start_ms + rows * MINUTE_MS, MINUTE_MS))

    assert await opens(http, limit=3) == run(now_ms - 2 * MINUTE_MS, 3)
    assert await opens(http) == run(now_ms - 499 * MINUTE_MS, 500)
    assert await opens(http, limit=1500) == run(now_ms - 1499 * MINUTE_MS, 1500)
    assert await opens(http, startTime=old_ms, limit=3) == run(old_ms, 3)
    assert await opens(http, startTime=old_ms) == run(old_ms, 61)
    assert await opens(http, startTime=old_ms + 1, limit=2) == run(old_ms + MINUTE_MS, 2)
    assert await opens(http, startTime=old_ms, endTime=old_ms) == [old_ms]
    assert await opens(http, startTime=old_ms + 1, endTime=old_ms + 2) == []
    assert await opens(http, startTime=old_ms, endTime=now_ms, limit=5) == run(old_ms, 5)
    assert await opens(http, startTime=old_ms, endTime=old_ms + 2 * MINUTE_MS) == run(old_ms, 3)
    assert await opens(http, endTime=old_ms, limit=3) == run(old_ms - 2 * MINUTE_MS, 3)
    assert await opens(http, endTime=old_ms - 1, limit=2) == run(old_ms - 2 * MINUTE_MS, 2)
    assert await opens(http, endTime=now_ms * 2, limit=2) == run(now_ms - MINUTE_MS, 2)
    assert await opens(http, startTime=now_ms, limit=2) == [now_ms]
    assert await opens(http, startTime=now_ms + MINUTE_MS) == []
    assert await opens(http, endTime=0) == []


async def test_history_begins_at_the_listing(http: httpx.AsyncClient, sandbox: SandboxServer) -> None:
    item = sandbox.exchange.universe.find("ADAUSDT", sandbox.exchange.clock.now_ms())
    assert item is not None
    assert await opens(http, startTime=0, limit=2) == [item.onboard_ms, item.onboard_ms + MINUTE_MS]
    assert await opens(http, startTime=0, endTime=item.onboard_ms - 1) == []
    assert await opens(http, startTime=item.onboard_ms - HOUR_MS, endTime=item.onboard_ms) == [item.onboard_ms]
    assert await opens(http, symbol="BTCSTUSDT") == []


@pytest.mark.parametrize("interval", ["1m", "1M"])
async def test_times_beyond_the_calendar_are_the_future(http: httpx.AsyncClient, interval: str) -> None:
    for time in (253_402_300_800_000, 2**53, 2**63 - 1):
        assert await opens(http, symbol="NEW1121USDT", interval=interval, startTime=time) == []
        newest = await opens(http, symbol="NEW1121USDT", interval=interval, limit=1)
        assert await opens(http, symbol="NEW1121USDT", interval=interval, endTime=time, limit=1) == newest


async def test_a_query_of_bytes_that_are_no_text_is_answered(sandbox: SandboxServer) -> None:
    assert (await asked_of(sandbox.app, b"symbol=\xff&interval=1m"))[0] == 400


ERRORS: list[tuple[dict[str, str], int, int, str]] = [
    ({"symbol": "NOPEUSDT"}, 400, -1121, "Invalid symbol."),
    ({"interval": "1s"}, 400, -1120, "Invalid interval."),
    ({"interval": "1D"}, 400, -1120, "Invalid interval."),
    ({"limit": "1501"}, 400, -1130, "Data sent for parameter 'limit' is not valid."),
    ({"limit": "0"}, 400, -1130, "Data sent for parameter 'limit' is not valid."),
    ({"limit": "-5"}, 400, -1130, "Data sent for parameter 'limit' is not valid."),
    ({"limit": "ten"}, 400, -1102, "Mandatory parameter 'limit' was not sent, was empty/null, or malformed."),
    ({"startTime": "x"}, 400, -1102, "Mandatory parameter 'startTime' was not sent, was empty/null, or malformed."),
    ({"endTime": "1e3"}, 400, -1102, "Mandatory parameter 'endTime' was not sent, was empty/null, or malformed."),
    (
        {"endTime": "9" * 20},
        400,
        -1102,
        "Mandatory parameter 'endTime' was not sent, was empty/null, or malformed.",
    ),
    ({"symbol": ""}, 400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
    ({"interval": ""}, 400, -1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed."),
    ({"startTime": "2", "endTime": "1"}, 400, -1023, "Start time is greater than end time."),
]


async def test_errors_have_the_exchange_s_words(http: httpx.AsyncClient) -> None:
    for query, status, code, msg in ERRORS:
        answer = await http.get(KLINES, params={"symbol": "BTCUSDT", "interval": "1m", **query})
        assert (answer.status_code, answer.json()) == (status, {"code": code, "msg": msg}), query
        assert answer.content.startswith(b'{"code":')
        assert int(answer.headers["x-mbx-used-weight-1m"]) > 0


async def test_parameters_that_are_missing_or_unknown(http: httpx.AsyncClient) -> None:
    for query, name in (({}, "symbol"), ({"symbol": "BTCUSDT"}, "interval")):
        answer = await http.get(KLINES, params=query)
        assert answer.json()["msg"].startswith(f"Mandatory parameter '{name}' was not sent")
    answer = await http.get(KLINES, params={"symbol": "btcusdt", "interval": "1m", "endTIme": "1", "limit": 1})
    assert len(answer.json()) == 1
    answer = await http.get("/fapi/v1/xyz")
    assert answer.status_code == 404
    assert answer.text == '{"code":-5000,"msg":"Path /fapi/v1/xyz, Method GET is invalid"}'
    assert (await http.post("/fapi/v1/ping")).json()["code"] == -5000


async def test_numbers_have_exactly_the_symbol_s_decimals(http: httpx.AsyncClient) -> None:
    info = (await http.get("/fapi/v1/exchangeInfo")).json()
    for symbol in info["symbols"][:10]:
        answer = await http.get(KLINES, params={"symbol": symbol["symbol"], "interval": "1m", "limit": 300})
        price, lots = symbol["pricePrecision"], symbol["quantityPrecision"]
        for row in answer.json():
            assert len(row) == 12
            assert row[11] == "0"
            assert all(re.fullmatch(rf"(0|[1-9]\d*)\.\d{{{price}}}", row[place]) for place in (1, 2, 3, 4))
            for place, places in ((5, lots), (7, price + lots), (9, lots), (10, price + lots)):
                whole = r"(0|[1-9]\d*)" + (rf"\.\d{{{places}}}" if places else "")
                assert row[place] == "0" or re.fullmatch(whole, row[place])
                assert row[place] == "0" or row[place].strip("0.") != ""
            if row[8] == 0:
                assert row[1:] == [row[4]] * 4 + ["0", row[0] + MINUTE_MS - 1, "0", 0, "0", "0", "0"]


async def test_the_last_row_is_the_candle_in_progress(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    clock.advance(31_000)
    rows = (await http.get(KLINES, params={"symbol": "BTCUSDT", "interval": "5m", "limit": 2})).json()
    assert rows[0][6] < clock.now_ms() <= rows[1][6]
    again = (await http.get(KLINES, params={"symbol": "BTCUSDT", "interval": "5m", "limit": 1})).json()
    assert again == rows[1:]
    clock.advance(5_000)
    later = (await http.get(KLINES, params={"symbol": "BTCUSDT", "interval": "5m", "limit": 1})).json()
    assert later[0][8] > rows[1][8]
    assert later[0][1] == rows[1][1]


async def test_time_ping_and_truth(http: httpx.AsyncClient, clock: "ManualClock", sandbox: SandboxServer) -> None:
    assert (await http.get("/fapi/v1/ping")).text == "{}"
    assert (await http.get("/fapi/v1/time")).json() == {"serverTime": clock.now_ms()}
    end_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
    bounds: dict[str, int | str] = {"startTime": end_ms - HOUR_MS, "endTime": end_ms + HOUR_MS}
    query = {"symbol": "XRPUSDT", "interval": "1m", **bounds}
    truth = (await http.get("/sandbox/truth", params=query)).json()
    assert len(truth) == 60
    assert truth == (await http.get(KLINES, params=query)).json()[:-1]
    assert truth == sandbox.exchange.rows("XRPUSDT", "1m", end_ms - HOUR_MS, end_ms)
    many = (await http.get("/sandbox/truth", params={**query, "startTime": end_ms - 50 * 24 * HOUR_MS})).json()
    assert len(many) == 20_000
    assert (await http.get("/sandbox/truth", params={"symbol": "X"})).status_code == 400


async def test_the_journal_has_every_request_in_order(http: httpx.AsyncClient) -> None:
    await http.get(KLINES, params={"symbol": "BTCUSDT", "interval": "1m", "limit": 1200})
    await http.get("/fapi/v1/nothing")
    log = (await http.get("/sandbox/requests", params={"since": 0})).json()
    assert [(entry["n"], entry["path"], entry["status"], entry["weight"]) for entry in log["requests"]] == [
        (1, KLINES, 200, 10),
        (2, "/fapi/v1/nothing", 404, 1),
    ]
    assert log["requests"][0]["query"] == {"symbol": "BTCUSDT", "interval": "1m", "limit": "1200"}
    assert log["requests"][1]["used_weight_1m"] == 11
    later = (await http.get("/sandbox/requests", params={"since": 1})).json()
    assert [entry["n"] for entry in later["requests"]] == [2]


@pytest.mark.parametrize(
    ("limit", "weight"),
    [
        (None, 5),
        ("1", 1),
        ("99", 1),
        ("100", 2),
        ("499", 2),
        ("500", 5),
        ("1000", 5),
        ("1001", 10),
        ("1501", 10),
        ("x", 5),
    ],
)
def test_weights_follow_the_documented_brackets(limit: str | None, weight: int) -> None:
    assert klines_weight(limit) == weight
