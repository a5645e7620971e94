"""How klines of trades are printed."""

from app.domain.columns import EMPTY, Columns
from app.domain.interval import INTERVALS, MINUTE_MS
from app.kinds.klines import KLINES, encode_texts, texts_of
from tests.sqlite.material import klines, minutes


def test_columns_print_as_their_rows_do() -> None:
    grid = INTERVALS["5m"].grid
    rows = klines(minutes((0, 300)), grid)
    encoded = [KLINES.encode(row, grid.shift(row.open_ms, 1) - 1) for row in rows]
    assert encode_texts(texts_of(Columns.of(rows), 5 * MINUTE_MS)) == b",".join(encoded)
    assert encoded == [KLINES.encoded_by_template(row, grid.shift(row.open_ms, 1) - 1) for row in rows]


def test_no_columns_print_nothing() -> None:
    assert encode_texts(texts_of(EMPTY, MINUTE_MS)) == b""
