"""Only ASCII letters have a case: no other character is changed into one, in names or in the code that reads them."""

import ast
import string
import sys
from pathlib import Path
from typing import Final

import pytest

from app.domain import letters

ROOT: Final = Path(__file__).parents[2]
FOLDING: Final = frozenset({"upper", "lower", "casefold", "swapcase", "title", "capitalize"})
EXEMPT: Final = {
    "app/domain/letters.py": "looks at ASCII text only",
    "app/settings.py": "names of our own fields",
    "app/setting_names.py": "names in the operator's environment, whose case pydantic ignores likewise",
    "app/setting_values.py": "schemes in the operator's settings",
    "app/outbound.py": "hosts in the operator's settings",
    "infra/net/http.py": "addresses in the operator's settings",
    "app/node/gauges.py": "names of our own priorities",
    "app/http/errors.py": "bytes, which have ASCII letters only",
    "app/http/batch_params.py": "the bytes of a header, which have ASCII letters only",
    "app/http/page.py": "bytes, which have ASCII letters only",
    "app/access/api_keys.py": "bytes, which have ASCII letters only",
    "app/binance/archive_csv.py": "bytes, which have ASCII letters only",
    "app/http/admin_guard.py": "headers are latin-1, none of whose letters becomes an ASCII one",
    "infra/sandbox/universe.py": "what the operator lists",
    "infra/sandbox/faults.py": "what the operator breaks",
}


def test_no_character_becomes_an_ascii_letter_and_ascii_folds_as_ever() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        same = char if code > 127 else None
        assert letters.upper(char) == (same or char.upper()), hex(code)
        assert letters.lower(char) == (same or char.lower()), hex(code)


@pytest.mark.parametrize("name", ["币安人生USDT", "1000PEPEUSDT", "BTCUSDT_261225", "BTCſUSDT", "ΔUSDT", ""])
def test_a_symbol_survives_the_way_to_its_stream_and_back(name: str) -> None:
    assert letters.upper(letters.lower(name)) == name
    assert not set(string.ascii_uppercase) & set(letters.lower(name))


def test_the_code_folds_text_by_these_functions_alone() -> None:
    found = {
        f"{path}:{node.lineno} .{node.func.attr}(): use app.domain.letters"
        for folder in ("app", "infra")
        for file in (ROOT / folder).rglob("*.py")
        if (path := file.relative_to(ROOT).as_posix()) not in EXEMPT
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in FOLDING
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "letters")
    }
    assert found == set()
