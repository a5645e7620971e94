"""The comparison of ledger lines with the rows in their spans."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.domain.interval import INTERVALS
from tests.programs.torture.kill import expect


class Line(NamedTuple):
    """A ledger line and how many rows open in its span."""

    symbol: str
    code: str
    start_ms: int
    end_ms: int
    source: str
    rows: int


def expect_agreement(lines: Sequence[Line], rows: Mapping[str, int], revised: int) -> tuple[int, int]:
    """Check that every ledger line has its rows, that there are no other rows, and no revisions.

    `rows`: all rows by the code of their interval. Return the number of rows and of ledger lines.
    """
    by_code: Counter[str] = Counter()
    for symbol, code, start_ms, end_ms, source, found in lines:
        due = 0 if source == "absent" else INTERVALS[code].grid.count(start_ms, end_ms)
        expect(found == due, f"{symbol} {code} {start_ms}–{end_ms} ({source}): {found} rows instead of {due}")
        by_code[code] += found
    for code, number in rows.items():
        expect(number == by_code[code], f"kline_{code}: {number} rows, {by_code[code]} in the ledger")
    expect(revised == 0, f"{revised} rows were revised, but the exchange never changed one")
    return sum(by_code.values()), len(lines)
