"""OKX's REST rows of the past, newest first: trades, candles, fundings; `after` asks for older, `before` for newer."""

from typing import Final

from infra.sandbox.funding import full_hours_ms
from infra.sandbox.grid import DAY_MS, MINUTE_MS
from infra.sandbox.listings import Listing
from infra.sandbox.okx import rows
from infra.sandbox.okx.bars import BARS
from infra.sandbox.okx.query import OkxError, Query, count, listing_of, whole
from infra.sandbox.venue import Venue

TRADES_MAX: Final = 500
HISTORY_TRADES_MAX: Final = 100
CANDLES_MAX: Final = 300
FUNDINGS_MAX: Final = 400
_CANDLES_REACH: Final = 1_440  # candles of /market/candles; older ones are in history-candles
_MONTHS_MS: Final = 92 * DAY_MS  # reach of trades and fundings: three months
_BY_TIME: Final = "2"


def trades(venue: Venue, query: Query, now_ms: int) -> list[rows.Json]:
    """/market/trades: the newest."""
    listing = listing_of(venue, query, now_ms)
    newest = venue.exchange.tape.newest_number(listing.item, now_ms)
    return _trades(venue, listing, newest - count(query, "limit", 100, TRADES_MAX) + 1, newest, now_ms)


def history_trades(venue: Venue, query: Query, now_ms: int) -> list[rows.Json]:
    """/market/history-trades: the newest between two ids (type 1) or times (type 2), both exclusive."""
    listing = listing_of(venue, query, now_ms)
    tape, numbers, item = venue.exchange.tape, venue.exchange.market.numbers, listing.item
    limit, after, before = count(query, "limit", 100, HISTORY_TRADES_MAX), whole(query, "after"), whole(query, "before")
    newest = tape.newest_number(item, now_ms)
    oldest = numbers.first(item, max(item.onboard_ms, now_ms - _MONTHS_MS) // MINUTE_MS * MINUTE_MS)
    if query.get("type", "1") == _BY_TIME:
        if before is not None:
            raise OkxError("51000", "Parameter before error")
        newest = newest if after is None else _number_before(venue, listing, after, now_ms)
    else:
        newest = newest if after is None else min(newest, after - 1)
        oldest = oldest if before is None else max(oldest, before + 1)
    return _trades(venue, listing, max(oldest, newest - limit + 1), newest, now_ms)


def candles(venue: Venue, query: Query, now_ms: int) -> list[list[str]]:
    """/market/candles: of the newest 1,440."""
    return _candles(venue, query, now_ms, _CANDLES_REACH)


def history_candles(venue: Venue, query: Query, now_ms: int) -> list[list[str]]:
    """/market/history-candles: since the listing."""
    return _candles(venue, query, now_ms, None)


def fundings(listing: Listing, query: Query, now_ms: int) -> list[rows.Json]:
    """/public/funding-rate-history: of three months."""
    after, before = whole(query, "after"), whole(query, "before")
    start_ms = max(listing.item.onboard_ms, now_ms - _MONTHS_MS, 0 if before is None else before + 1)
    end_ms = now_ms if after is None else min(now_ms, after - 1)
    newest = full_hours_ms(listing.item, start_ms, end_ms)[::-1][: count(query, "limit", FUNDINGS_MAX, FUNDINGS_MAX)]
    return [rows.funding_history_row(listing, hour_ms) for hour_ms in newest]


def _trades(venue: Venue, listing: Listing, first: int, last: int, now_ms: int) -> list[rows.Json]:
    found = list(venue.exchange.tape.numbered(listing.item, first, last, now_ms)) if first <= last else []
    return [rows.trade_row(listing, trade) for trade in reversed(found)]


def _number_before(venue: Venue, listing: Listing, time_ms: int, now_ms: int) -> int:
    """The number of the last trade earlier than `time_ms`."""
    tape, item, time_ms = venue.exchange.tape, listing.item, min(time_ms, now_ms)
    open_ms = max(item.onboard_ms, time_ms // MINUTE_MS * MINUTE_MS)
    first = venue.exchange.market.numbers.first(item, open_ms)
    part = tape.part(item, open_ms, 0, tape.published(item, open_ms, now_ms))
    return first - 1 + sum(trade.time_ms < time_ms for trade in part)


def _candles(venue: Venue, query: Query, now_ms: int, reach: int | None) -> list[list[str]]:
    listing = listing_of(venue, query, now_ms)
    bar = BARS.get(query.get("bar", "1m"))
    if bar is None:
        raise OkxError("51000", "Parameter bar error")
    after, before = whole(query, "after"), whole(query, "before")
    last_ms = min(now_ms, listing.item.delivery_ms - 1)
    live_ms = bar.open_ms(last_ms)
    open_ms = live_ms if after is None else min(live_ms, bar.open_ms(after - 1))
    oldest_ms = max(listing.item.onboard_ms, 0 if before is None else before + 1)
    if reach is not None:
        usual_ms = bar.next_ms(live_ms) - live_ms
        oldest_ms = max(oldest_ms, live_ms - (reach - 1) * usual_ms)
    limit = count(query, "limit", 100, CANDLES_MAX)
    opens: list[int] = []
    while open_ms >= oldest_ms and len(opens) < limit:
        opens.append(open_ms)
        open_ms = bar.before_ms(open_ms)
    return [rows.candle_row(venue, listing, each, bar.next_ms(each), now_ms) for each in opens]
