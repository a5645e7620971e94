"""Recorded exchange data: rows pass unchanged, and roll-ups equal the exchange's own klines, except on named dates."""

import csv
import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app.binance import archive_csv, exchange_info, rest_rows, stream_event
from app.binance.stream_event import KlineEvent
from app.domain.incident import DISAGREEMENTS
from app.domain.interval import D3, DAY_MS, INTERVALS, Grid, Interval
from app.domain.kline import Kline, Precision
from app.domain.rollup import roll_up
from app.domain.span import Span
from app.kinds.klines import KLINES


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def ohlcv(path: Path) -> list[Kline]:
    """Read a recorded file that has only open, high, low, close and volume; the other columns are made up."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        rows = list(csv.reader(file))[1:]
    return [
        Kline(int(t), o, h, low, c, volume, "0", int(Decimal(volume) != 0), "0", "0")
        for t, o, h, low, c, volume, *_ in rows
    ]


def values(kline: Kline) -> tuple[Decimal, ...]:
    return tuple(Decimal(text) for text in kline[1:6])


def differing(parts: list[Kline], whole: list[Kline], grid: Grid, part_grid: Grid) -> tuple[int, set[int]]:
    """Compare roll-ups of `parts` with `whole`; return the number of buckets, and the open times of wrong ones."""
    by_bucket: dict[int, list[Kline]] = {}
    for part in parts:
        by_bucket.setdefault(grid.floor(part.open_ms), []).append(part)
    full = {
        open_ms: bucket
        for open_ms, bucket in by_bucket.items()
        if len(bucket) == part_grid.count(open_ms, grid.shift(open_ms, 1))
    }
    own = {kline.open_ms: kline for kline in whole}
    common = sorted(full.keys() & own.keys())
    wrong = {open_ms for open_ms in common if values(roll_up(full[open_ms], grid)[0]) != values(own[open_ms])}
    return len(common), wrong


def spans_of(opens: Iterable[int], grid: Grid) -> list[Span]:
    return [Span(open_ms, grid.shift(open_ms, 1)) for open_ms in sorted(opens)]


def at(*texts: str) -> set[int]:
    return {ms(text) for text in texts}


@pytest.mark.parametrize(
    ("folder", "symbol", "part", "whole", "full", "wrong"),
    [
        ("a_2023-07_2023-08", "USDCUSDT", "1m", "5m", 8639, set()),
        ("a_2023-07_2023-08", "USDCUSDT", "1m", "1h", 719, set()),
        ("a_2023-07_2023-08", "USDCUSDT", "5m", "1h", 719, set()),
        ("a_2023-07_2023-08", "BTCUSDT", "1m", "3m", 7931, set()),
        ("a_2023-07_2023-08", "BTCUSDT", "1m", "5m", 8639, {"2023-08-16 15:40"}),
        ("a_2023-07_2023-08", "BTCUSDT", "1m", "15m", 1586, set()),
        ("a_2023-07_2023-08", "BTCUSDT", "1m", "1h", 719, {"2023-08-16 15:00"}),
        ("a_2023-07_2023-08", "BTCUSDT", "5m", "1h", 1054, set()),
        ("a_2023-07_2023-08", "BTCUSDT", "3m", "15m", 1682, set()),
        (
            "e_2025-01_incident", "ADAUSDT", "1m", "30m", 1439,
            {"2025-01-29 01:30", "2025-01-29 02:30"},
        ),
        ("e_2025-01_incident", "ADAUSDT", "1m", "1h", 719, {"2025-01-29 01:00", "2025-01-29 02:00"}),
        ("e_2025-01_incident", "ADAUSDT", "30m", "1h", 744, {"2025-01-29 01:00"}),
    ],
)  # fmt: skip
def test_recorded_futures_klines_roll_up_to_the_exchanges_own(
    realdata: Path, folder: str, symbol: str, part: str, whole: str, full: int, wrong: set[str]
) -> None:
    base = realdata / "klines_multi_interval" / folder
    found = differing(
        ohlcv(base / f"{symbol}-{part}.csv.gz"),
        ohlcv(base / f"{symbol}-{whole}.csv.gz"),
        INTERVALS[whole].grid,
        INTERVALS[part].grid,
    )
    assert found == (full, at(*wrong))
    assert all(DISAGREEMENTS.covers(span) for span in spans_of(found[1], INTERVALS[whole].grid))


@pytest.mark.parametrize(
    ("symbol", "month", "precision", "wrong_hours", "wrong_days"),
    [
        ("LTCUSDT", "2026-02", Precision(2, 3), set(), set()),
        ("ALGOUSDT", "2026-02", Precision(4, 1), set(), set()),
        ("FILUSDT", "2023-02", Precision(3, 1), set(), set()),
        ("FILUSDT", "2024-10", Precision(3, 1), {"2024-10-28 20:00", "2024-10-28 21:00"}, set()),
    ],
)
def test_recorded_archive_files_roll_up_to_the_api_s_hours_and_days(
    realdata: Path, symbol: str, month: str, precision: Precision, wrong_hours: set[str], wrong_days: set[str]
) -> None:
    base = realdata / "klines_vision_1m"
    minute = INTERVALS["1m"]
    with gzip.open(base / f"{symbol}-1m-{month}.csv.gz", "rt") as file:
        rows = list(archive_csv.parse(file.read(), minute.grid, precision))
    start_ms = ms(f"{month}-01")
    assert [row.open_ms for row in rows] == list(minute.grid.opens(start_ms, INTERVALS["1M"].grid.shift(start_ms, 1)))
    for code, wrong in (("1h", wrong_hours), ("1d", wrong_days)):
        grid = INTERVALS[code].grid
        count, found = differing(rows, ohlcv(base / f"{symbol}-{code}-{month}.api.csv"), grid, minute.grid)
        assert count == grid.count(start_ms, INTERVALS["1M"].grid.shift(start_ms, 1))
        assert found == at(*wrong)


def test_recorded_archive_rows_of_2026_are_in_rests_form_already(realdata: Path) -> None:
    """Normalising changes nothing in present-day files: all 80,640 rows come out as they were printed."""
    for symbol, precision in (("LTCUSDT", Precision(2, 3)), ("ALGOUSDT", Precision(4, 1))):
        with gzip.open(realdata / "klines_vision_1m" / f"{symbol}-1m-2026-02.csv.gz", "rt") as file:
            lines = file.read().splitlines()[1:]
        klines = list(archive_csv.parse("\n".join(lines), INTERVALS["1m"].grid, precision))
        for line, kline in zip(lines, klines, strict=True):
            fields = line.split(",")
            assert KLINES.encode(kline, int(fields[6])) == _as_rest(fields)


def _as_rest(fields: list[str]) -> bytes:
    row = [value if number in (0, 6, 8) else f'"{value}"' for number, value in enumerate(fields)]
    return f"[{','.join(row)}]".encode()


def test_every_recorded_rest_row_passes_unchanged_to_the_byte(realdata: Path) -> None:
    recorded = json.loads((realdata / "rest" / "fapi_klines_1d_519sym_2025-06.json").read_bytes())
    grid = INTERVALS["1d"].grid
    rows = 0
    for answer in recorded.values():
        body = json.dumps(answer, separators=(",", ":")).encode()
        klines = rest_rows.decode(body, grid)
        rows += len(klines)
        assert rest_rows.join(KLINES.encode(k, grid.shift(k.open_ms, 1) - 1) for k in klines) == body
    assert (len(recorded), rows) == (519, 6681)


CUT_SHORT = [1518048000000, 1518049694788]
"""The only recorded row (spot, 1d, the outage of 2018-02-08) whose close time is not the next open time − 1 ms."""

SPOT = ["15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"]


def spot(base: Path, interval: Interval) -> list[Kline]:
    """All klines of an interval; asserts that each row decodes and prints unchanged."""
    grid, klines = interval.grid, {}
    for path in sorted((base / interval.code).glob("*.json")):
        answer = [row for row in json.loads(path.read_bytes()) if row[:7:6] != CUT_SHORT]
        body = json.dumps(answer, separators=(",", ":")).encode()
        decoded = rest_rows.decode(body, grid)
        assert rest_rows.join(KLINES.encode(k, grid.shift(k.open_ms, 1) - 1) for k in decoded) == body
        klines.update({kline.open_ms: kline for kline in decoded})
    return [klines[open_ms] for open_ms in sorted(klines)]


@pytest.mark.parametrize("whole", SPOT[1:])
def test_recorded_spot_klines_roll_up_in_all_nine_columns(realdata: Path, whole: str) -> None:
    """Spot pads every number to eight decimals, so equal sums have equal text: volumes, counts and takers too."""
    base = realdata / "spot_multi_interval" / "BTCUSDT"
    own = spot(base, INTERVALS[whole])
    grid = INTERVALS[whole].anchored(own[0].open_ms)
    compared = 0
    for code in SPOT[: SPOT.index(whole)]:
        part = INTERVALS[code]
        if min(grid.step_ms, DAY_MS) % part.grid.step_ms:
            continue  # its klines do not fit whole into the longer one
        by_bucket: dict[int, list[Kline]] = {}
        for kline in spot(base, part):
            by_bucket.setdefault(grid.floor(kline.open_ms), []).append(kline)
        for kline in own:
            parts = by_bucket.get(kline.open_ms, [])
            if parts and len(parts) == part.grid.count(kline.open_ms, grid.shift(kline.open_ms, 1)):
                compared += 1
                assert roll_up(parts, grid) == [kline]
    assert compared > 0


@pytest.mark.parametrize(("symbol", "remainder"), [("BTCUSDT", 1), ("SOLUSDT", 2), ("DOTUSDT", 0)])
def test_recorded_3d_klines_lie_on_a_grid_of_the_symbols_own(realdata: Path, symbol: str, remainder: int) -> None:
    klines = spot(realdata / "spot_multi_interval" / symbol, D3)
    grid = D3.anchored(klines[-1].open_ms)
    assert all(grid.floor(kline.open_ms) == kline.open_ms for kline in klines)
    assert klines[0].open_ms // 86_400_000 % 3 == remainder


def test_recorded_socket_frames_decode_and_their_minutes_are_whole(realdata: Path) -> None:
    finals, others, states = [], 0, 0
    for line in (realdata / "websocket" / "cryptofeed_BINANCE_FUTURES.ws.1.0").read_text().splitlines():
        received, _, frame = line.partition(": ")
        if not frame.startswith("{"):
            continue
        event = stream_event.decode(frame)
        if not isinstance(event, KlineEvent):
            others += 1
            continue
        states += 1
        if event.is_final:
            closes_ms = event.interval.grid.shift(event.kline.open_ms, 1)
            finals.append((event.symbol, float(received) * 1000 - closes_ms))
    assert (states, others) == (67, 91 + 613 + 764)
    assert sorted(symbol for symbol, _ in finals) == ["AKROUSDT", "CTKUSDT", "KEEPUSDT", "SUSHIUSDT"]
    assert all(200 <= lag_ms <= 2_100 for _, lag_ms in finals)


def test_recorded_exchange_info_gives_the_expected_symbols(realdata: Path) -> None:
    base = realdata / "exchangeInfo"
    newest = exchange_info.decode((base / "fapi_prod_20260518_739sym.symbols_only.json").read_bytes())
    now_ms = ms("2026-05-18 12:00")
    wished = {symbol.name for symbol in newest if symbol.is_wished(["USDT"], ["PERPETUAL"], now_ms)}
    raw = json.loads((base / "fapi_prod_20260518_739sym.symbols_only.json").read_bytes())["symbols"]
    trading = {
        entry["symbol"]
        for entry in raw
        if (entry["contractType"], entry["quoteAsset"], entry["status"]) == ("PERPETUAL", "USDT", "TRADING")
    }
    assert len(newest) == 739
    assert wished == trading, "also those whose delivery is announced"
    assert len(wished) > 500
    before = exchange_info.decode((base / "fapi_prod_20220504_155sym.json").read_bytes())
    after = exchange_info.decode((base / "fapi_prod_20220506_156sym.json").read_bytes())
    assert len({symbol.name for symbol in after} - {symbol.name for symbol in before}) == 1
