"""Every kind of series there is. A new kind is a file beside this one and a line in `KINDS`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from app.domain import letters
from app.domain.interval import INTERVALS, Interval
from app.domain.kind import Kind
from app.domain.series import Series
from app.kinds.klines import KLINES
from app.kinds.price_klines import PRICES

KINDS: Final[dict[str, Kind]] = {kind.suffix: kind for kind in (KLINES, *PRICES.values())}
"""By the suffix that follows a symbol in the name of a series."""


def named(name: str, interval: Interval) -> Series:
    """The series of a name (see Series.name). Raises KeyError when no kind has its suffix."""
    symbol, _, suffix = name.partition("@")
    kind = KINDS[suffix]
    return Series(kind, kind.whose(symbol), interval)


def spelt(text: str) -> str | None:
    """The name of a series as somebody wrote it, its symbol in any case; None when no kind has its suffix."""
    symbol, at, suffix = text.partition("@")
    return None if suffix not in KINDS or bool(at) != bool(suffix) else letters.upper(symbol) + at + suffix


def held_beside(words: Iterable[str], symbols: Sequence[str]) -> dict[Kind, tuple[str, ...]]:
    """By kind of price klines, named by its word: whose are held when those of `symbols` are, each once."""
    return {kind: tuple(dict.fromkeys(map(kind.whose, symbols))) for kind in (PRICES[word] for word in words)}


def series_of(symbol: str) -> Iterator[Series]:
    """Every series there can be of a listed symbol, kind by kind."""
    for kind in KINDS.values():
        for interval in kind.intervals or INTERVALS.values():
            yield Series(kind, kind.whose(symbol), interval)
