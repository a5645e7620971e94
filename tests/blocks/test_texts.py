"""How columns are printed, and read back."""

import random
from typing import Any

import pytest

from app.domain.columns import EMPTY, Columns
from app.domain.interval import INTERVALS, MINUTE_MS
from app.domain.kind import Kind
from app.kinds.klines import KLINES
from app.kinds.metrics import METRICS
from app.kinds.registry import KINDS
from infra.blocks.rows import rows_of_text
from infra.blocks.texts import encode_texts, texts_of
from tests.sqlite.material import T0_MS, klines, minutes

SEALED = [kind for kind in KINDS.values() if not kind.is_sparse]

GRID = INTERVALS["5m"].grid
ARCHIVED = ("105550.9850000000000000", "6858675634.7062540000000000", "1.28623339")
"""Recorded texts of the archive (binance-facts section 6.2)."""


def rows_of(kind: Kind) -> list[Any]:
    """Three hundred rows, of which some values are unknown where they may be."""
    if str in (of_type for _, of_type in kind.columns):
        return klines(minutes((0, 1500)), GRID)
    chance = random.Random(kind.name)
    opens_ms = range(T0_MS, T0_MS + 300 * GRID.step_ms, GRID.step_ms)
    return [kind.row(open_ms, *(chance.choice((*ARCHIVED, "0", None)) for _ in range(3))) for open_ms in opens_ms]


@pytest.mark.parametrize("kind", SEALED, ids=[kind.name for kind in SEALED])
def test_columns_print_as_their_rows_do_and_are_read_back(kind: Kind) -> None:
    rows = rows_of(kind)
    assert len(rows) == 300
    encoded = [kind.encode(row, GRID.shift(row.open_ms, 1) - 1) for row in rows]
    text = encode_texts(kind, texts_of(kind, Columns.of(rows), 5 * MINUTE_MS), 0, 300)
    assert text == b",".join(encoded)
    assert encoded == [kind.encoded_by_template(row, GRID.shift(row.open_ms, 1) - 1) for row in rows]
    assert rows_of_text(kind, text) == rows


@pytest.mark.parametrize("kind", METRICS.values(), ids=METRICS)
def test_columns_of_unknown_values_only_print_empty_texts(kind: Kind) -> None:
    rows = [kind.row(T0_MS + number * GRID.step_ms, "1.5", None, None) for number in range(3)]
    text = encode_texts(kind, texts_of(kind, Columns.of(rows), GRID.step_ms), 0, 3)
    assert text.count(b'""') == len(rows) * (2 + text.startswith(b'{"symbol":""'))
    assert rows_of_text(kind, text) == rows


def test_no_columns_print_nothing() -> None:
    assert encode_texts(KLINES, texts_of(KLINES, EMPTY, MINUTE_MS), 0, 1) == b""
