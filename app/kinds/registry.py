"""The registry of all kinds of series. A new kind is a file in this folder and an entry in `KINDS`."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from app.domain import letters
from app.domain.interval import INTERVALS, Interval
from app.domain.kind import Kind
from app.domain.series import Series
from app.kinds.funding import FUNDING
from app.kinds.klines import KLINES
from app.kinds.metrics import METRICS
from app.kinds.price_klines import PRICES

KINDS: Final[dict[str, Kind]] = {kind.suffix: kind for kind in (KLINES, *PRICES.values(), *METRICS.values(), FUNDING)}
"""By `Kind.suffix`, which follows the symbol in the name of a series."""
BAR_KINDS: Final[dict[str, Kind]] = {"klines": KLINES, KLINES.name: KLINES} | PRICES
"""The kinds of klines, by what a client may call them: the name, which answers have; those of trades also `klines`."""
BY_WORD: Final[dict[str, Kind]] = BAR_KINDS | {kind.name: kind for kind in KINDS.values()}
"""All kinds, by what a client may call them."""


def named(name: str, interval: Interval) -> Series:
    """The series with `name`, such as `BTCUSDT@markPrice`. Raises KeyError when no kind has its suffix."""
    symbol, _, suffix = name.partition("@")
    kind = KINDS[suffix]
    return Series(kind, kind.whose(symbol), interval)


def spelt(text: str) -> str | None:
    """`text`, a user's spelling of a series name, with the symbol in upper case; None when no kind has its suffix."""
    symbol, at, suffix = text.partition("@")
    return None if suffix not in KINDS or bool(at) != bool(suffix) else letters.upper(symbol) + at + suffix


def held_beside(words: Iterable[str], symbols: Sequence[str]) -> dict[Kind, tuple[str, ...]]:
    """By kind of price klines in `words`: the symbols, or pairs, of its series for `symbols`, without duplicates."""
    return {kind: tuple(dict.fromkeys(map(kind.whose, symbols))) for kind in (PRICES[word] for word in words)}


def metrics_of(symbols: Collection[str]) -> dict[Kind, Collection[str]]:
    """By kind of metrics: `symbols`."""
    return dict.fromkeys(METRICS.values(), symbols)


def funding_of(symbols: Collection[str]) -> dict[Kind, Collection[str]]:
    """`symbols`, by the kind of fundings."""
    return {FUNDING: symbols}


def series_of(symbol: str) -> Iterator[Series]:
    """Every possible series of a listed symbol, kind by kind."""
    for kind in KINDS.values():
        for interval in kind.intervals or INTERVALS.values():
            yield Series(kind, kind.whose(symbol), interval)
