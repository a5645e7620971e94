import tracemalloc
from datetime import UTC, datetime

import pytest

from app.binance.archive_csv import ArchiveFile, checksum_of, daily_exists, parse
from app.domain.interval import D1, DAY_MS, INTERVALS, M1, MO1
from app.domain.kline import BadKline, Precision
from app.domain.span import Span

HEADER = (
    "open_time,open,high,low,close,volume,close_time,"
    "quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
OLD = "1675209600000,5.233,5.238,5.229,5.233,0.0,1675209659999,0.0000,0,0.0,0.0000,0\n"
PLAIN = "1675209660000,5,6,4.5,5.2,12,1675209719999,60.5,3,7,35,0\n"
PRECISION = Precision(3, 1)


def test_a_file_with_and_without_header_gives_the_same_rows_in_rests_form() -> None:
    with_header = list(parse(HEADER + OLD + PLAIN, M1.grid, PRECISION))
    assert with_header == list(parse(OLD + PLAIN, M1.grid, PRECISION))
    assert with_header[0][1:] == ("5.233", "5.238", "5.229", "5.233", "0", "0", 0, "0", "0")
    assert with_header[1][1:] == ("5.000", "6.000", "4.500", "5.200", "12.0", "60.5000", 3, "7.0", "35.0000")
    assert list(parse("", M1.grid, PRECISION)) == []


@pytest.mark.parametrize(
    "line",
    ["1675209600000,5\n", OLD.replace("1675209659999", "1675209660000"), OLD.replace("1675209600000", "1675209600001"),
     OLD.replace("5.238", "abc"), OLD.replace("5.238", ""), OLD.replace(",0,0.0,", ",x,0.0,"), HEADER, "open,high\n",
     OLD.strip() + ",9\n", OLD.replace("5.238", "9e9"), OLD.replace("1675209600000", "1_675209600000"),
     OLD.replace("1675209600000", " 1675209600000"), OLD.replace(",0,0.0,", ",+0,0.0,"),
     OLD.replace("5.238", '"5.238"')],
)  # fmt: skip
def test_a_bad_line_anywhere_but_at_the_top_is_an_error_not_a_shrug(line: str) -> None:
    with pytest.raises(BadKline, match=r"line 2|open time|not plain|close time"):
        list(parse(PLAIN + line, M1.grid, PRECISION))


@pytest.mark.parametrize("top", ["<html>\n", " 1675209540000,5\n", "-1,5\n", '"open_time"\n', "²,5\n"])
def test_a_first_line_that_is_neither_header_nor_row_is_not_taken_for_a_header(top: str) -> None:
    with pytest.raises(BadKline, match="line 1"):
        list(parse(top + PLAIN, M1.grid, PRECISION))


def test_a_file_without_line_ends_is_refused_before_it_is_taken_apart() -> None:
    text = "," * 8_000_000
    tracemalloc.start()
    try:
        with pytest.raises(BadKline, match="a line has"):
            list(parse(text, M1.grid, PRECISION))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_file_names_and_when_they_appear() -> None:
    day_ms = int(datetime(2026, 2, 3, tzinfo=UTC).timestamp() * 1000)
    daily = ArchiveFile("BTCUSDT", M1, Span(day_ms, day_ms + DAY_MS), is_monthly=False)
    assert daily.path == "/data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2026-02-03.zip"
    assert daily.published_ms == day_ms + DAY_MS + 9 * 3_600_000
    month_ms = MO1.grid.floor(day_ms)
    monthly = ArchiveFile("BTCUSDT", MO1, Span(month_ms, MO1.grid.shift(month_ms, 1)), is_monthly=True)
    assert monthly.path == "/data/futures/um/monthly/klines/BTCUSDT/1mo/BTCUSDT-1mo-2026-02.zip"
    assert daily_exists(D1)
    assert not daily_exists(INTERVALS["1w"])


def test_checksums() -> None:
    digest = "A1" * 32
    assert checksum_of(f"{digest}  X-1m-2026-02.zip\n".encode(), "X-1m-2026-02.zip") == digest.lower()
    for text in (
        "",
        digest,
        f"{digest}  other.zip",
        "abc  X-1m-2026-02.zip",
        "<html>",
        f"{'g' * 64}  X-1m-2026-02.zip",
    ):
        with pytest.raises(BadKline):
            checksum_of(text.encode(), "X-1m-2026-02.zip")
