"""Fast parser for a kline CSV of the archive without faults: twenty times as fast as line by line.

One regular expression matches the whole file, so it cannot report which line is wrong. Files that do not match (damage,
irregular form, unusual line ends) are left to archive_csv.parse, which reports the fault.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from operator import lt
from string import ascii_letters
from typing import Final, NamedTuple

from app.domain.columns import Columns
from app.domain.integers import integers
from app.domain.interval import FixedGrid, Grid
from app.domain.kline import OPEN_MS_MAX, Precision, price_text, volume_text
from app.domain.text_columns import TextColumns

CHARS_MAX: Final = 8 * 1024 * 1024  # a month of 1m has 5 MB; a longer text is parsed line by line
PART_CHARS: Final = 60_000
"""About 500 rows of 1m, few enough to stay in the processor's cache until they are packed: 1.8 µs a row to parse and to
pack (infra/blocks), against 2.1 with three times as many and 3.2 with all at once."""
_TIME: Final = r"[1-9]\d{0,14}+"
_COUNT: Final = r"(?:0|[1-9]\d{0,14}+)"
_DECIMAL: Final = r"(?:0|[1-9]\d{0,18}+)(?:\.\d{1,20}+)?+"  # at most TEXT_CHARS_MAX characters
_IGNORED: Final = r"[^,\r\n]{0,40}+"
_PADDED_ZERO: Final = re.compile(r",0\.0+(?=,)", re.ASCII)
_ZEROS: Final = re.compile(r",0(?:\d|\.0+,)", re.ASCII)
_ONE_DIGIT: Final = bytes.maketrans(b"123456789", b"000000000")
_COLUMNS: Final = 12
_FORMS_MAX: Final = 64  # cached expressions, one for each precision


class Unusual(Exception):
    """The file must be read line by line, by archive_csv.parse."""


class Part(NamedTuple):
    """Some rows of a file in REST's form; `is_uniform`: every number has exactly the decimals of the precision."""

    rows: Columns
    is_uniform: bool


def parse_parts(text: str, grid: Grid, precision: Precision) -> Iterator[Part]:
    """The rows of archive_csv.parse as Columns, in ascending parts. Raises Unusual, possibly after some parts."""
    if type(grid) is not FixedGrid or not text or len(text) > CHARS_MAX:
        raise Unusual
    body = text if text.endswith("\n") else text + "\n"
    body = body[body.find("\n") + 1 :] if body[0] in ascii_letters else body
    if not body:
        raise Unusual
    form = _Form(precision)
    at, newest_ms = 0, -1
    while at < len(body):
        end = body.find("\n", min(at + PART_CHARS, len(body) - 1)) + 1
        part = _part(body[at:end], grid, precision, form)
        opens_ms = part.rows.opens_ms
        if opens_ms[0] <= newest_ms:
            raise Unusual
        at, newest_ms = end, opens_ms[-1]
        yield part


class _Form:
    """REST's form of rows, as files since 2023-11 have it (binance-facts section 3)."""

    def __init__(self, precision: Precision) -> None:
        self._rows = _form(precision)
        self._shape = _shape(precision)
        self._known: set[bytes] = set()

    def matches(self, lines: str) -> bool:
        """Whether all lines have it: what the expression for rows says of them, in half of the time.

        Lines differ in their digits, and few in anything else: each shape is compared once. Rows with a bare zero and
        others that a shape does not prove are left to the expression.
        """
        if _ZEROS.search(lines):
            return self._rows.fullmatch(lines) is not None
        shapes = lines.encode().translate(_ONE_DIGIT).split(b"\n")[:-1]
        unknown = set(shapes) - self._known
        if unknown:
            proven = set(filter(self._shape.fullmatch, unknown))
            self._known |= proven
            unknown -= proven
        if not unknown:
            return True
        rows = [line for line, shape in zip(lines.split("\n"), shapes, strict=False) if shape in unknown]
        return self._rows.fullmatch("\n".join(rows) + "\n") is not None


def _part(lines: str, grid: FixedGrid, precision: Precision, form: _Form) -> Part:
    is_uniform = form.matches(lines)
    if not is_uniform:
        bare = _PADDED_ZERO.sub(",0", lines)  # the only difference in files until 2023-09 (binance-facts section 3)
        if form.matches(bare) and _ANY_FORM.fullmatch(lines):  # trades have no decimals
            lines, is_uniform = bare, True
        elif not _ANY_FORM.fullmatch(lines):
            raise Unusual
    pieces = lines[:-1].replace("\n", ",").split(",")
    texts = [pieces[number::_COLUMNS] for number in range(_COLUMNS - 1)]  # REST's order; the last has no meaning
    opens_ms = _opens_ms(texts[0], grid)
    last = grid.step_ms - 1
    if _times(texts[6]) != [open_ms + last for open_ms in opens_ms]:
        raise Unusual
    if not is_uniform:
        is_uniform = _bring_into_form(texts, precision)
    return Part(TextColumns(texts, opens_ms), is_uniform)


def _opens_ms(texts: list[str], grid: FixedGrid) -> Sequence[int]:
    """The open times, a range if none is missing. Raises Unusual if they are not ascending and on the grid."""
    opens_ms = _times(texts)
    step_ms, first_ms = grid.step_ms, opens_ms[0]
    run = range(first_ms, first_ms + len(opens_ms) * step_ms, step_ms)
    is_run = opens_ms == list(run)
    if (
        opens_ms[-1] > OPEN_MS_MAX
        or not (is_run or all(map(lt, opens_ms, islice(opens_ms, 1, None))))
        or {open_ms % step_ms for open_ms in (opens_ms[:1] if is_run else opens_ms)} != {grid.origin_ms % step_ms}
    ):
        raise Unusual
    return run if is_run else opens_ms


def _times(texts: list[str]) -> list[int]:
    try:
        return integers(",".join(texts))
    except ValueError:  # zeros in front
        raise Unusual from None


def _bring_into_form(texts: list[list[str]], precision: Precision) -> bool:
    """Normalise numbers to REST's form, in place; returns whether all have exactly the decimals of `precision`."""
    price, quantity = precision
    is_uniform = True
    for form, decimals, numbers in (
        (price_text, price, (1, 2, 3, 4)),
        (volume_text, quantity, (5, 9)),
        (volume_text, price + quantity, (7, 10)),
    ):
        for number in numbers:
            texts[number], has_form = _column(texts[number], form, decimals)
            is_uniform = is_uniform and has_form
    return is_uniform


def _column(texts: list[str], form: Callable[[str, int], str], decimals: int) -> tuple[list[str], bool]:
    zero = f"0{'.' * bool(decimals)}{'0' * decimals}"
    dot = slice(-decimals - 1, -decimals)
    if decimals:
        odd = {text for text in texts if text[dot] != "." or text == zero}
    else:
        odd = {text for text in texts if "." in text}
    if not odd:
        return texts, True
    forms = {text: form(text, decimals) for text in odd}
    right = re.compile(rf"0|\d+{_fraction(decimals)}", re.ASCII)
    return [forms.get(text, text) for text in texts], all(map(right.fullmatch, forms.values()))


@lru_cache(_FORMS_MAX)
def _form(precision: Precision) -> re.Pattern[str]:
    """A pattern for rows of REST's form."""
    price, quantity = precision
    whole = r"(?:0|[1-9]\d{0,18}+)"
    return _rows(
        f"{whole}{_fraction(price)}",
        _volume_form(whole, quantity),
        _volume_form(whole, price + quantity),
    )


@lru_cache(_FORMS_MAX)
def _shape(precision: Precision) -> re.Pattern[bytes]:
    """A pattern for lines of which every digit was replaced by 0: those of it without bare zeros have REST's form.

    Unless a number begins with zeros or is a padded zero, which _ZEROS finds.
    """
    price, quantity, quote = (
        f"0{{1,19}}\\.0{{{decimals}}}" if decimals else "0{1,19}" for decimals in (*precision, sum(precision))
    )
    integer = "0{1,15}"
    columns = (
        integer, price, price, price, price, quantity, integer, quote, integer, quantity, quote, _IGNORED
    )  # fmt: skip
    return re.compile(",".join(columns).encode())


def _volume_form(whole: str, decimals: int) -> str:
    return rf"(?:0(?=,)|(?!0\.0+,){whole}{_fraction(decimals)})" if decimals else whole


def _fraction(decimals: int) -> str:
    return rf"\.\d{{{decimals}}}" if decimals else ""


def _rows(price: str, volume: str, quote: str) -> re.Pattern[str]:
    columns = (
        _TIME, price, price, price, price, volume, _TIME, quote, _COUNT, volume, quote, _IGNORED
    )  # fmt: skip
    return re.compile(rf"(?:{','.join(columns)}\n)*+", re.ASCII)


_ANY_FORM: Final = _rows(_DECIMAL, _DECIMAL, _DECIMAL)
