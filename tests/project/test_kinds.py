"""All differences between kinds of series are in app/kinds/: no other code asks for the kind of a series."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSTANTS = {"KLINES", "MARK", "INDEX", "PREMIUM", "PRICES", "KINDS"}


def questions(text: str) -> Iterator[int]:
    """The numbers of the lines in `text` that compare a series' kind or match on it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            is_lookup = isinstance(node.ops[0], ast.In | ast.NotIn) and not _is_constant(node.comparators[0])
            found = any(map(_is_constant, operands)) or (not is_lookup and any(map(_is_kind, operands)))
        else:
            found = isinstance(node, ast.Match) and _is_kind(node.subject)
        if found:
            assert isinstance(node, ast.Compare | ast.Match)
            yield node.lineno


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in CONSTANTS


def _is_kind(node: ast.expr) -> bool:
    """Whether an expression is `series.kind`, or the name or suffix of it."""
    if isinstance(node, ast.Attribute) and node.attr in {"name", "suffix"}:
        node = node.value
    if not isinstance(node, ast.Attribute) or node.attr != "kind":
        return False
    word = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    return word.endswith("series") or word in {"part", "whole", "minutes", "each", "endpoint"}


@pytest.mark.parametrize(
    "line",
    [
        "if series.kind is KLINES: pass",
        "x = series.kind == MARK",
        "while kind in PRICES: pass",
        'assert query.series.kind.name == "mark"',
        'if "mark" == series.kind.suffix: pass',
        "match series.kind:\n    case _: pass",
    ],
)
def test_a_question_about_a_kind_is_found(line: str) -> None:
    assert list(questions(line)) == [1]


def test_what_a_kind_says_may_be_asked() -> None:
    assert not list(questions("if series.kind.rolls_up and series.kind not in firsts: pass"))


def test_no_code_outside_kinds_asks_which_kind_a_series_has() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("app", "infra", "migrations")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not {ROOT / "app" / "kinds", ROOT / "infra" / "sandbox"} & set(path.parents)  # the sandbox has no kinds
        for line in questions(path.read_text())
    ]
    assert not found, "say it in a field of app.domain.kind.Kind instead"
