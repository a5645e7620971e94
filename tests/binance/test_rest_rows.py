import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.binance import rest_rows
from app.domain.interval import D1, M1
from app.domain.kline import BadKline
from app.kinds.klines import KLINES

ROW = [
    1750118400000,
    "106750.10",
    "107727.40",
    "103300.00",
    "104508.00",
    "226051.863",
    1750204799999,
    "23808393905.42780",
    3970409,
    "112258.832",
    "11824212353.61190",
    "0",
]  # fmt: skip  recorded, BTCUSDT 2025-06-17
NEXT = [1750204800000, "104508.00", "105500.00", "103426.10", "104832.80", "0", 1750291199999, "0", 0, "0", "0", "0"]


def body(*rows: object) -> bytes:
    return json.dumps(rows, separators=(",", ":")).encode()


def test_rows_are_decoded_and_encoded_to_the_byte() -> None:
    klines = rest_rows.decode(body(ROW, NEXT), D1.grid)
    assert [kline.open_ms for kline in klines] == [ROW[0], NEXT[0]]
    encoded = [KLINES.encode(kline, D1.grid.shift(kline.open_ms, 1) - 1) for kline in klines]
    assert rest_rows.join(encoded) == body(ROW, NEXT)
    assert rest_rows.join([]) == b"[]"
    assert rest_rows.decode(b"[]", D1.grid) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "1750118400000"), (0, 1750118400001), (1, 106750.10), (1, None), (2, "1e5"), (5, "-1"), (6, 1750204800000),
        (7, ""), (8, "3970409"), (8, -1), (8, 1.5), (8, 2**53 + 1), (8, 10**30), (11, 0),
    ],
)  # fmt: skip
def test_a_row_with_a_wrong_field_spoils_the_answer(place: int, value: object) -> None:
    row = [*ROW[:place], value, *ROW[place + 1 :]]
    with pytest.raises(BadKline):
        rest_rows.decode(body(row, NEXT), D1.grid)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"null", b"{}", b'{"code":-1003,"msg":"x"}', b"[[]]", b"[[1]]", body(ROW)[:-1], body([*ROW, "0"]),
     body(ROW[:11]), b"<html></html>", b"\xff\xfe", body(ROW, ROW), body(NEXT, ROW), b"[" * 100_000, b'[[1,"\xff"]]'],
)  # fmt: skip
def test_what_is_no_answer_is_refused(garbage: bytes) -> None:
    with pytest.raises(BadKline):
        rest_rows.decode(garbage, D1.grid)


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(garbage: bytes) -> None:
    try:
        assert rest_rows.decode(garbage, M1.grid) == []
    except BadKline:
        return
