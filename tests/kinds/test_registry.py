"""The properties that every kind in the registry must have."""

import pickle
import random
from dataclasses import replace
from typing import Any

import pytest

from app.domain.kind import CLOSE_TIME, Kind, Row
from app.domain.kline import Kline
from app.kinds.klines import KLINES
from app.kinds.registry import KINDS
from infra.blocks.rows import rows_of_text
from tests.sqlite.material import T0_MS, kline


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_columns_are_those_of_the_row(kind: Kind) -> None:
    names = [name for name, _ in kind.columns]
    assert (names[0], kind.row._fields[0]) == ("open_time", "open_ms")
    assert len(names) == len(set(names)) == len(kind.row._fields)
    assert {name for name, of_type in kind.columns if of_type is int} >= {"open_time"}
    assert CLOSE_TIME not in names


def row_of(kind: Kind, open_ms: int, mark: int) -> Row:
    """A row of any kind; some of its values are unknown where the kind allows it."""
    if kind.row is Kline:
        return kline(open_ms, mark=mark)
    chance = random.Random(mark)
    texts = (
        None if of_type == str | None and chance.random() < 0.2 else f"{chance.randrange(10**6)}.{mark:04}"
        for _, of_type in kind.columns[1:]
    )
    row: Row = kind.row(open_ms, *texts)
    return row


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_rows_of_a_text_are_read_back_as_they_were_printed(kind: Kind) -> None:
    rows = [row_of(kind, T0_MS + minute * 300_000, minute) for minute in range(200)]
    text = b",".join(kind.encode(row, row.open_ms + 299_999) for row in rows)
    assert rows_of_text(kind, text) == rows


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_code_and_template_print_a_row_alike(kind: Kind) -> None:
    for minute in range(200):
        row = row_of(kind, T0_MS + minute * 300_000, minute)
        assert kind.encode(row, row.open_ms + 299_999) == kind.encoded_by_template(row, row.open_ms + 299_999)


def test_a_kind_is_not_copied_to_another_process() -> None:
    for kind in KINDS.values():
        with pytest.raises(TypeError, match="exists once in a process"):
            pickle.dumps(kind)


def test_names_suffixes_and_words_are_unique() -> None:
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)
    assert all(suffix == kind.suffix for suffix, kind in KINDS.items())


@pytest.mark.parametrize(
    "wrong",
    [{"table": "kline; DROP TABLE ledger"}, {"columns": (("open time", int),)}, {"printed": "[%(open_time)d,'"}],
)
def test_a_kind_whose_words_would_break_a_statement_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="in statements"):
        replace(KLINES, **wrong)
