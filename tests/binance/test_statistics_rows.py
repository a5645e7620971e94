import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.binance.statistics_rows import (
    ACCOUNTS,
    OPEN_INTEREST,
    STAMP_AFTER_OPEN_MS,
    STATISTICS,
    TAKERS,
    TOP_ACCOUNTS,
    TOP_POSITIONS,
    OpenInterestRow,
    RatioRow,
    TakerRow,
    decode_open_interest,
    decode_ratio,
    decode_takers,
    encode_open_interest,
    encode_ratio,
    encode_takers,
    with_symbol,
)
from app.domain.interval import INTERVALS
from app.domain.kind import STAMP_TIME
from app.domain.kline import BadKline

GRID = INTERVALS["5m"].grid
STAMP_MS = 1_789_478_400_000
OPEN_MS = STAMP_MS - 300_000

# as seen live (binance-facts sections 2.2 and 6.2), two rows each
INTEREST = (
    '[{"symbol":"BTCUSDT","sumOpenInterest":"106289.69300000","sumOpenInterestValue":"8175197334.30990000",'
    '"CMCCirculatingSupply":"20084481.00000000","timestamp":1789478400000},'
    '{"symbol":"BTCUSDT","sumOpenInterest":"106240.84300000","sumOpenInterestValue":"8171275487.55589900",'
    '"CMCCirculatingSupply":"","timestamp":1789478700000}]'
)
RATIO = (
    '[{"symbol":"BTCUSDT","longAccount":"0.6561","longShortRatio":"1.9078","shortAccount":"0.3439",'
    '"timestamp":1789478400000},'
    '{"symbol":"BTCUSDT","longAccount":"0.6575","longShortRatio":"1.9197","shortAccount":"0.3425",'
    '"timestamp":1789478700000}]'
)
TAKER = (
    '[{"buySellRatio":"0.9083","sellVol":"409833397.0000","buyVol":"372257351.0000","timestamp":1789478400000},'
    '{"buySellRatio":"0.9239","sellVol":"954.6240","buyVol":"881.9500","timestamp":1789478700000}]'
)
BODIES = {OPEN_INTEREST: INTEREST, TOP_ACCOUNTS: RATIO, TOP_POSITIONS: RATIO, ACCOUNTS: RATIO, TAKERS: TAKER}
Decode = Callable[..., Any]
DECODERS: list[tuple[Decode, str]] = [
    (decode_open_interest, INTEREST),
    (decode_ratio, RATIO),
    (decode_takers, TAKER),
]


def test_values_are_decoded_as_text_and_keyed_by_the_start_of_their_period() -> None:
    assert decode_open_interest(INTEREST.encode(), GRID, "BTCUSDT") == [
        OpenInterestRow(OPEN_MS, "106289.69300000", "8175197334.30990000", "20084481.00000000"),
        OpenInterestRow(STAMP_MS, "106240.84300000", "8171275487.55589900", None),
    ]
    assert decode_ratio(RATIO.encode(), GRID, "BTCUSDT")[0] == RatioRow(OPEN_MS, "1.9078", "0.6561", "0.3439")
    assert decode_takers(TAKER.encode(), GRID, "BTCUSDT")[1] == TakerRow(STAMP_MS, "0.9239", "954.6240", "881.9500")
    assert STAMP_AFTER_OPEN_MS == 300_000


@pytest.mark.parametrize("name", STATISTICS)
def test_answers_are_printed_to_the_byte_and_by_template_too(name: str) -> None:
    statistic, body = STATISTICS[name], BODIES[name].encode()
    rows = statistic.decode(body, GRID, "BTCUSDT")
    printed = b"[" + b",".join(statistic.encode(row, row.open_ms + 299_999) for row in rows) + b"]"
    assert (b"BTCUSDT" in printed, printed == body) == (False, name == TAKERS)
    assert with_symbol(printed, "BTCUSDT") == body
    for row in rows:
        texts = {name: "" if value is None else value for name, value in zip(statistic.row._fields, row, strict=True)}
        values = {**texts, STAMP_TIME: row.open_ms + STAMP_AFTER_OPEN_MS}
        assert (statistic.printed % values).encode() == statistic.encode(row, row.open_ms + 299_999)
    assert statistic.decode(b"[]", GRID, "BTCUSDT") == []


@pytest.mark.parametrize("symbol", ["BTCUSDT", "币安人生USDT", "1000PEPEUSDT", "BTCUSDT_261225", 'A"B'])
def test_the_symbol_is_inserted_into_every_row_as_json(symbol: str) -> None:
    rows = [RatioRow(number * 300_000, "1.5", "0.6", "0.4") for number in range(500)]
    body = with_symbol(b"[" + b",".join(encode_ratio(row, 0) for row in rows) + b"]", symbol)
    said = json.loads(body)
    assert {each["symbol"] for each in said} == {symbol}
    assert [each["timestamp"] for each in said] == [row.open_ms + 300_000 for row in rows]
    assert symbol.encode() in body or '"' in symbol, "raw UTF-8, as the exchange prints it"
    assert decode_ratio(body, GRID, symbol) == rows
    takers = encode_takers(TakerRow(0, "1.5", "2", "3"), 299_999)
    assert with_symbol(takers, symbol) == takers


def test_a_value_that_nobody_knows_is_printed_as_empty() -> None:
    assert encode_open_interest(OpenInterestRow(0, "1", None, None), 0) == (
        b'{"symbol":"","sumOpenInterest":"1","sumOpenInterestValue":"","CMCCirculatingSupply":"","timestamp":300000}'
    )
    assert encode_ratio(RatioRow(0, "1.5", None, None), 0) == (
        b'{"symbol":"","longAccount":"","longShortRatio":"1.5","shortAccount":"","timestamp":300000}'
    )
    assert encode_takers(TakerRow(0, "1.5", None, None), 0) == (
        b'{"buySellRatio":"1.5","sellVol":"","buyVol":"","timestamp":300000}'
    )


@pytest.mark.parametrize(("decode", "body"), DECODERS)
def test_keys_come_in_any_order_with_unknown_ones_and_times_may_be_quoted(decode: Decode, body: str) -> None:
    expected = decode(body.encode(), GRID, "BTCUSDT")
    said = json.loads(body)
    chance = random.Random(5)
    for each in said:
        each.update(timestamp=str(each["timestamp"]), contractType="PERPETUAL", more={"deep": [1.5, None]})
    for _ in range(10):
        shuffled = [dict(chance.sample(list(each.items()), len(each))) for each in said]
        assert decode(json.dumps(shuffled).encode(), GRID, "BTCUSDT") == expected


def test_the_circulating_supply_may_be_absent_and_any_value_unknown() -> None:
    said = json.loads(INTEREST)
    del said[0]["CMCCirculatingSupply"]
    said[1]["CMCCirculatingSupply"] = None
    assert [row.cmc_circulating_supply for row in decode_open_interest(json.dumps(said).encode(), GRID, "BTCUSDT")] == [
        None,
        None,
    ]
    for decode, body in DECODERS:
        said = json.loads(body)
        for each in said:
            each.update({name: "" for name in each if name not in {"symbol", "timestamp"}})
        assert {value for row in decode(json.dumps(said).encode(), GRID, "BTCUSDT") for value in row[1:]} == {None}


@pytest.mark.parametrize(("decode", "body"), DECODERS)
def test_each_number_must_be_a_plain_decimal_and_not_negative(decode: Decode, body: str) -> None:
    for name in [name for name in json.loads(body)[0] if name not in {"symbol", "timestamp"}]:
        garbage: object
        for garbage in ("-1", "+1", "1e5", ".5", "1.", "01", "NaN", " 1", "1 ", "1,5", "٣", "9" * 41, 1.5, 3, []):
            said = json.loads(body)
            said[1][name] = garbage
            with pytest.raises(BadKline):
                decode(json.dumps(said).encode(), GRID, "BTCUSDT")
    for name in [name for name in json.loads(body)[0] if name != "CMCCirculatingSupply"]:
        said = json.loads(body)
        del said[1][name]
        with pytest.raises(BadKline):
            decode(json.dumps(said).encode(), GRID, "BTCUSDT")


@pytest.mark.parametrize(("decode", "body"), DECODERS)
@pytest.mark.parametrize(
    "stamp", [0, -300_000, STAMP_MS, STAMP_MS - 300_000, STAMP_MS + 1, STAMP_MS + 60_000, 1 << 62, 10**30, True, None,
              1789478700000.0, "x", "", " 1789478700000", "-1789478700000", "1_789_478_700_000", "9" * 16, "٣"],
)  # fmt: skip
def test_times_ascend_on_the_grid(decode: Decode, body: str, stamp: object) -> None:
    said = json.loads(body)
    said[1]["timestamp"] = stamp
    with pytest.raises(BadKline):
        decode(json.dumps(said).encode(), GRID, "BTCUSDT")


@pytest.mark.parametrize("decode", [decode_open_interest, decode_ratio])
def test_a_row_of_another_symbol_spoils_the_answer(decode: Decode) -> None:
    body = INTEREST if decode is decode_open_interest else RATIO
    assert len(decode(body.encode(), GRID, "BTCUSDT")) == 2
    for text, symbol in (
        (body, "ETHUSDT"),
        (body.replace("BTCUSDT", "ETHUSDT", 1), "BTCUSDT"),
        (body.replace("BTCUSDT", "", 1), "BTCUSDT"),
        (body.replace("BTCUSDT", "btcusdt", 1), "BTCUSDT"),
    ):
        with pytest.raises(BadKline):
            decode(text.encode(), GRID, symbol)


def test_taker_rows_have_no_symbol_but_it_counts_if_they_have() -> None:
    assert len(decode_takers(TAKER.encode(), GRID, "ETHUSDT")) == 2
    with pytest.raises(BadKline):
        decode_takers(TAKER.replace("{", '{"symbol":"BTCUSDT",').encode(), GRID, "ETHUSDT")


@pytest.mark.parametrize(
    "garbage",
    [b"", b"null", b"{}", b'{"msg":"parameter \'startTime\' is invalid.","code":-1130}', b"[[]]", b"[null]",
     b"<html></html>", b"\xff\xfe", b"[" * 100_000, b'[{"symbol":"\xff"}]', INTEREST[:-1].encode()],
)  # fmt: skip
def test_what_is_no_answer_is_refused(garbage: bytes) -> None:
    for decode, _ in DECODERS:
        with pytest.raises(BadKline):
            decode(garbage, GRID, "BTCUSDT")


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(garbage: bytes) -> None:
    for decode, _ in DECODERS:
        try:
            assert decode(garbage, GRID, "BTCUSDT") == []
        except BadKline:
            continue
