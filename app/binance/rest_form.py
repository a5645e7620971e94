"""Rows of statistics that came from the archive, in REST's form as far as it is proven for their symbol and column.

The archive prints more digits than REST, and lacks shares of long and short, volumes of takers and the supply
(binance-facts section 6.2). Digits follow the rule learned from rows that both had; without a proven rule the archive's
own text is printed. Shares follow from their ratio, where that is proven too. The other values stay unknown.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, NamedTuple

import msgspec

from app.binance.digits import long_share, short_share
from app.binance.evidence import Evidence, EvidenceState, Pair, of_state
from app.binance.statistics_rows import (
    ACCOUNTS,
    OPEN_INTEREST,
    TAKERS,
    TOP_ACCOUNTS,
    TOP_POSITIONS,
    OpenInterestRow,
    RatioRow,
    TakerRow,
)
from app.binance.unreadable import UNREADABLE
from app.domain.kind import Row

LAST_MAX: Final = 20  # mismatches listed for each symbol
INTEREST: Final = "sum_open_interest"
VALUE: Final = "sum_open_interest_value"
RATIO: Final = "long_short_ratio"
SHARES: Final = "long_account"
TAKER_RATIO: Final = "buy_sell_ratio"

Column = tuple[str, str]
"""An endpoint, and a column of its rows."""

COLUMNS: Final[tuple[Column, ...]] = (
    (OPEN_INTEREST, INTEREST),
    (OPEN_INTEREST, VALUE),
    *((endpoint, column) for endpoint in (TOP_ACCOUNTS, TOP_POSITIONS, ACCOUNTS) for column in (RATIO, SHARES)),
    (TAKERS, TAKER_RATIO),
)
"""All columns that have a rule. That of SHARES is for the share of long that follows from the ratio."""


class Mismatch(NamedTuple):
    """Texts of archive and REST for the same value that no rule explains; of SHARES, the archive's is the exact one."""

    open_ms: int
    endpoint: str
    column: str
    archived: str
    rest: str


class Compared(NamedTuple):
    """The values of one column that archive and REST have for the same open times."""

    opens_ms: Sequence[int]
    pairs: Sequence[Pair]


class _State(msgspec.Struct, forbid_unknown_fields=True):
    columns: dict[str, EvidenceState]
    last: list[Mismatch]


class SymbolDigits(NamedTuple):
    """What was learned about one symbol."""

    evidence: Mapping[Column, Evidence] = {}
    """By column; one without an entry was never compared."""
    last: Sequence[Mismatch] = ()
    """The mismatches found last, at most LAST_MAX, the newest at the end."""

    @property
    def pairs(self) -> int:
        """How many pairs of texts were looked at."""
        return sum(each.pairs for each in self.evidence.values())

    @property
    def mismatches(self) -> int:
        """How many of them no rule explained."""
        return sum(each.mismatches for each in self.evidence.values())

    def with_column(self, column: Column, evidence: Evidence, found: Sequence[Mismatch]) -> "SymbolDigits":
        """With new evidence of one column, and the mismatches found; those that were listed move to the end."""
        new = {mismatch[:3] for mismatch in found}
        last = [each for each in self.last if each[:3] not in new] + list(found)
        return SymbolDigits({**self.evidence, column: evidence}, tuple(last[-LAST_MAX:]))

    def prints_as(self, other: "SymbolDigits") -> bool:
        """Whether all rows get the same form by what `other` knows."""
        return all(_evidence(self, column).proven == _evidence(other, column).proven for column in COLUMNS)

    def to_json(self) -> bytes:
        """All of it as a document."""
        columns = {".".join(column): each.state() for column, each in self.evidence.items()}
        return msgspec.json.encode(_State(columns, list(self.last)))


def digits_of_json(text: bytes) -> SymbolDigits:
    """What SymbolDigits.to_json gave. Raises ValueError for anything else."""
    try:
        state = msgspec.json.decode(text, type=_State)
    except UNREADABLE as error:
        raise ValueError(f"no digits: {error}") from error
    names = {".".join(column): column for column in COLUMNS}
    if not state.columns.keys() <= names.keys():
        raise ValueError(f"unknown columns: {list(state.columns)!r:.200}")
    return SymbolDigits({names[name]: of_state(each) for name, each in state.columns.items()}, tuple(state.last))


def compared(endpoint: str, archived: Sequence[Any], rest: Sequence[Any]) -> Iterator[tuple[Column, Compared]]:
    """By column: the values that rows of an endpoint from the archive and from REST have for the same open times."""
    by_open = {row[0]: row for row in archived}
    rest = [row for row in rest if row[0] in by_open]
    mine, opens_ms = [by_open[row[0]] for row in rest], [row[0] for row in rest]
    if endpoint == OPEN_INTEREST:
        for column, at in ((INTEREST, 1), (VALUE, 2)):
            yield (endpoint, column), _known(opens_ms, [row[at] for row in mine], [row[at] for row in rest])
        return
    ratios, printed = [row[1] for row in mine], [row[1] for row in rest]
    yield (endpoint, TAKER_RATIO if endpoint == TAKERS else RATIO), _known(opens_ms, ratios, printed)
    if endpoint != TAKERS:
        exact = [ratio and long_share(ratio) for ratio in ratios]
        yield (endpoint, SHARES), _known(opens_ms, exact, [row[2] and _share(row[2], row[3]) for row in rest])


def _known(opens_ms: Sequence[int], mine: Sequence[str | None], rest: Sequence[str | None]) -> Compared:
    pairs = zip(mine, rest, strict=True)
    known = [(open_ms, (one, other)) for open_ms, (one, other) in zip(opens_ms, pairs, strict=True) if one and other]
    return Compared([open_ms for open_ms, _ in known], [pair for _, pair in known])


def _share(long: str, short: str | None) -> str | None:
    """The share of long if that of short is what it leaves; else both, which no rule explains. None without both."""
    if not short:
        return None
    try:
        is_rest = short_share(long) == short
    except ValueError:
        is_rest = False
    return long if is_rest else f"{long}+{short}"


def rest_form(endpoint: str, rows: Sequence[Any], digits: SymbolDigits) -> list[Row]:
    """Rows of an endpoint that came from the archive, in REST's form."""
    opens_ms = [row[0] for row in rows]
    if endpoint == OPEN_INTEREST:
        interests = _printed(_evidence(digits, (endpoint, INTEREST)), [row[1] for row in rows])
        values = _printed(_evidence(digits, (endpoint, VALUE)), [row[2] for row in rows])
        return _made(OpenInterestRow, opens_ms, interests, values, repeat(None))
    ratios = [row[1] for row in rows]
    if endpoint == TAKERS:
        printed = _printed(_evidence(digits, (endpoint, TAKER_RATIO)), ratios)
        return _made(TakerRow, opens_ms, printed, repeat(None), repeat(None))
    printed = _printed(_evidence(digits, (endpoint, RATIO)), ratios)
    return _made(RatioRow, opens_ms, printed, *_shares(_evidence(digits, (endpoint, SHARES)), ratios))


def _made(row: type[Any], *columns: Any) -> list[Row]:
    return list(map(partial(tuple.__new__, row), zip(*columns, strict=False)))  # some columns repeat without end


_UNKNOWN: Final = Evidence()


def _evidence(digits: SymbolDigits, column: Column) -> Evidence:
    return digits.evidence.get(column, _UNKNOWN)


def _printed(evidence: Evidence, texts: Sequence[str | None]) -> list[str | None]:
    """The texts in REST's form, or as they are where none is proven; None stays."""
    if not evidence.pairs:
        return list(texts)
    return [form or text for form, text in zip(_forms(evidence, texts), texts, strict=True)]


def _shares(evidence: Evidence, ratios: Sequence[str | None]) -> tuple[list[str | None], list[str | None]]:
    """The shares of long and short that follow from ratios; None where no form is proven."""
    if not evidence.pairs or not evidence.proven:
        return [None] * len(ratios), [None] * len(ratios)
    longs = _forms(evidence, [ratio and long_share(ratio) for ratio in ratios])
    return longs, [long and short_share(long) for long in longs]


def _forms(evidence: Evidence, texts: Sequence[str | None]) -> list[str | None]:
    """What is proven of each text's form, else None."""
    known = [text for text in texts if text]
    forms = evidence.apply_all(known)
    if len(known) == len(texts):
        return forms
    following = iter(forms)
    return [next(following) if text else None for text in texts]
