import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance import funding_rows
from app.binance.funding_rows import FundingRow
from app.binance.statistics_rows import with_symbol
from app.domain.interval import INTERVALS
from app.domain.kline import BadKline

GRID = INTERVALS["1h"].grid
STAMP_MS = 59 * 60_000
DECODE = partial(funding_rows.decode, _grid=GRID, symbol="BTCUSDT")
BODY = (
    '[{"symbol":"BTCUSDT","fundingTime":1577836800000,"fundingRate":"-0.00012359","markPrice":"","rateType":"Regular"},'
    '{"symbol":"BTCUSDT","fundingTime":1786816800011,"fundingRate":"0.00010000","markPrice":"63068.06537681",'
    '"rateType":"Regular"}]'
)  # as seen live in October 2026 (binance-facts section 2.1)
OLD = '[{"symbol":"BTCUSDT","fundingTime":1577836800000,"fundingRate":"0.00010000","markPrice":"7195.2"}]'


def test_events_keep_their_time_to_the_millisecond_and_are_printed_to_the_byte() -> None:
    rows = funding_rows.decode(BODY.encode(), GRID, "BTCUSDT")
    assert rows == [
        FundingRow(1577836800000 - STAMP_MS, "-0.00012359", "", "Regular"),
        FundingRow(1786816800011 - STAMP_MS, "0.00010000", "63068.06537681", "Regular"),
    ]
    printed = b"[" + b",".join(funding_rows.encode(row, row.open_ms) for row in rows) + b"]"
    assert b"BTCUSDT" not in printed
    assert with_symbol(printed, "BTCUSDT") == BODY.encode()
    for row in rows:
        assert (
            funding_rows.PRINTED % {"stamp_time": row.open_ms + STAMP_MS, **row._asdict()}
        ).encode() == funding_rows.encode(row, 0)
    assert funding_rows.decode(b"[]", GRID, "BTCUSDT") == []


def test_a_value_that_no_source_has_is_printed_as_empty() -> None:
    [row] = funding_rows.decode(OLD.encode(), GRID, "BTCUSDT")
    assert row == FundingRow(1577836800000 - STAMP_MS, "0.00010000", "7195.2", None)
    assert funding_rows.encode(FundingRow(5, "0.1", None, None), 5) == (
        b'{"symbol":"","fundingTime":3540005,"fundingRate":"0.1","markPrice":"","rateType":""}'
    )


def test_an_answer_for_all_symbols_says_whose_each_row_is() -> None:
    said = [
        {"symbol": name, "fundingTime": STAMP_MS + ms, "fundingRate": "0.1", "markPrice": "5", "rateType": "Regular"}
        for ms, name in ((1, "BTCUSDT"), (1, "币安人生USDT"), (3, "BTCUSDT"), (2, "币安人生USDT"))
    ]  # fmt: skip
    rows = funding_rows.decode_all(json.dumps(said).encode())
    assert [(name, row.open_ms + STAMP_MS) for name, row in rows] == [
        (each["symbol"], each["fundingTime"]) for each in said
    ]
    for again in (said[2], said[0]):
        with pytest.raises(BadKline, match="BTCUSDT"):
            funding_rows.decode_all(json.dumps([*said, again]).encode())
    with pytest.raises(BadKline, match="币安人生USDT"):
        funding_rows.decode(json.dumps(said).encode(), GRID, "BTCUSDT")


@pytest.mark.parametrize(
    ("name", "value"),
    [("symbol", ""), ("symbol", "ETHUSDT"), ("symbol", None), ("fundingTime", "1786816800011"),
     ("fundingTime", STAMP_MS - 1), ("fundingTime", 1 << 62), ("fundingTime", 1577836800000), ("fundingTime", 1.5),
     ("fundingRate", ""),
     ("fundingRate", "1e-5"), ("fundingRate", 0.1), ("fundingRate", None), ("markPrice", "-1"), ("markPrice", "x"),
     ("markPrice", None), ("rateType", '"'), ("rateType", "x" * 41), ("rateType", 5), ("rateType", "'")],
)  # fmt: skip
def test_a_row_with_a_wrong_field_spoils_the_answer(name: str, value: object) -> None:
    said = json.loads(BODY)
    said[1][name] = value
    with pytest.raises(BadKline):
        funding_rows.decode(json.dumps(said).encode(), GRID, "BTCUSDT")


@pytest.mark.parametrize("name", ["symbol", "fundingTime", "fundingRate"])
def test_a_row_without_what_every_row_has_spoils_the_answer(name: str) -> None:
    said = json.loads(BODY)
    del said[1][name]
    for decode in (DECODE, funding_rows.decode_all):
        with pytest.raises(BadKline):
            decode(json.dumps(said).encode())


@settings(derandomize=True)
@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(garbage: bytes) -> None:
    for decode in (DECODE, funding_rows.decode_all):
        try:
            assert decode(garbage) == []
        except BadKline:
            continue
