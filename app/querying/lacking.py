"""What of a series is known here, and how a request for the rest is refused."""

from app.binance.error_body import BinanceError, never_held, service_unavailable
from app.domain.interval import Grid
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.ledger_cache import LedgerCache
from app.holding.tail import Tail
from app.holding.wish import Wish
from app.querying.refusal import RETRY_AFTER_S


def held_of(ledgers: LedgerCache, tails: Tail, series: Series) -> Spans:
    """The open times of `series` that are held, those in the tail included."""
    held, tail = ledgers.ledger(series).held, tails.get(series)
    return held | Spans([Span(tail.start_ms, tail.end_ms)]) if tail is not None and tail.rows else held


def known_of(ledgers: LedgerCache, tails: Tail, series: Series) -> Spans:
    """The open times of `series` that are held or proven absent, those in the tail included."""
    return ledgers.ledger(series).absent | held_of(ledgers, tails, series)


def refusal_of_lacking(wish: Wish, series: Series, grid: Grid, lacking: Spans, now_ms: int) -> BinanceError:
    """The 503 for a request that needs `lacking`, with Retry-After where the node will hold some of it."""
    if wish.may_come(series, grid, lacking, now_ms):
        return service_unavailable(RETRY_AFTER_S, Reason.NOT_HELD)
    return never_comes(series)


def never_comes(series: Series) -> BinanceError:
    """The 503 for klines of `series` that nobody will fetch."""
    return never_held(
        f"The klines of {series} that were asked for are not held and not wished, so waiting does not help. Ask for "
        "others, or let the node hold these: SYMBOLS, INTERVALS, BACKFILL_DAYS, or klinenode backfill."
    )
