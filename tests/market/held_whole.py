"""Ledgers that hold a whole wish."""

from app.domain.interval import INTERVALS, M1
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Spans
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish
from tests.fakes import NOW_MS, listing

CLOSED_MS = NOW_MS - 30_000
NOTHING = Spans()


def wish_of(*codes: str, days: int = 2, symbols: tuple[str, ...] = ("BTCUSDT",)) -> Wish:
    chosen = tuple(interval for code, interval in INTERVALS.items() if code in codes)
    return Wish(symbols, chosen, days, {symbol: listing(symbol) for symbol in symbols}, {})


def whole(wish: Wish, *, but: Spans = NOTHING) -> dict[Series, Ledger]:
    """By series: a ledger in which nothing of the wish is missing, except the spans `but` of 1m."""
    made = {}
    for series in wish.series():
        spans = Spans(wish.spans(series, series.interval.grid, NOW_MS))
        made[series] = Ledger().record(spans - (but if series.interval == M1 else Spans()), Source.ARCHIVE)
    return made


def holding(ledgers: dict[Series, Ledger]) -> LedgerCache:
    holdings = LedgerCache()
    holdings.load(ledgers, {}, {})
    return holdings
