"""The properties that every kind in the registry must have."""

import pickle
from dataclasses import replace
from typing import Any

import pytest

from app.domain.kind import CLOSE_TIME, Kind
from app.domain.kline import Kline
from app.kinds.klines import KLINES
from app.kinds.registry import KINDS
from tests.sqlite.material import T0_MS, kline


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_columns_are_those_of_the_row(kind: Kind) -> None:
    names = [name for name, _ in kind.columns]
    assert (names[0], kind.row._fields[0]) == ("open_time", "open_ms")
    assert len(names) == len(set(names)) == len(kind.row._fields)
    assert {name for name, of_type in kind.columns if of_type is int} >= {"open_time"}
    assert CLOSE_TIME not in names


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_code_and_template_print_a_row_alike(kind: Kind) -> None:
    assert kind.row is Kline
    for minute in range(200):
        row = kline(T0_MS + minute * 60_000, mark=minute)
        assert kind.encode(row, row.open_ms + 59_999) == kind.encoded_by_template(row, row.open_ms + 59_999)


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
