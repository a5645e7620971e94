"""What trades, books, fundings and open interest of any venue really were, with which tests compare.

Computed from whole minutes and whole books, not by the ways that REST and sockets take. Numbers are texts without
trailing zeros; `size` is the venue's own, `coins` the same in coins.
"""

from collections.abc import Iterator
from typing import Any

from infra.sandbox.book import STEP_MS, step_at, update_id
from infra.sandbox.funding import full_hours_ms, funding_rate
from infra.sandbox.grid import HOUR_MS, MINUTE_MS
from infra.sandbox.listings import COIN_PLACES, SWAP, Listing
from infra.sandbox.marks import PLACES
from infra.sandbox.render import trimmed
from infra.sandbox.tape import Trade
from infra.sandbox.venue import Venue
from infra.sandbox.venues import Venues

ROWS_MAX = 20_000  # of one answer
Json = dict[str, Any]


class VenueTruth:
    """Answers for `venue` "binance", "okx" or "deribit" and one of its symbols. Raises ValueError for unknown ones."""

    def __init__(self, venues: Venues) -> None:
        self._venues, self._exchange = venues, venues.exchange

    def trades(self, venue: str, symbol: str, first: int, last: int, now_ms: int) -> list[Json]:
        """The trades numbered `first` to `last` that were published by `now_ms`, at most the first ROWS_MAX.

        `number` is tradeId of OKX, trade_seq of Deribit, and `t` of Binance's trades.
        """
        listing = self._listing(venue, symbol, now_ms)
        found: list[Json] = []
        for trade in self._trades(listing, first, now_ms):
            if trade.number > last or len(found) == ROWS_MAX:
                break
            if trade.number >= first:
                found.append(_trade(listing, trade))
        return found

    def aggregates(self, symbol: str, first: int, last: int, now_ms: int) -> list[Json]:
        """The same of Binance's aggregates, with their `first` and `last` trade."""
        listing, tape = self._listing("binance", symbol, now_ms), self._exchange.tape
        item = listing.item
        open_ms = tape.minute_of(item, first, item.onboard_ms, now_ms, aggregate=True)
        found: list[Json] = []
        for minute_ms in range(open_ms, now_ms + 1, MINUTE_MS):
            for each in tape.aggregates(item, minute_ms, now_ms):
                if each.number > last or len(found) == ROWS_MAX:
                    return found
                if each.number >= first:
                    trade = Trade(each.number, each.price, each.lots, each.time_ms, each.maker)
                    found.append({**_trade(listing, trade), "first": each.first, "last": each.last})
        return found

    def newest_trade(self, venue: str, symbol: str, now_ms: int) -> int:
        """The number of the newest trade that was published by `now_ms`."""
        return self._exchange.tape.newest_number(self._listing(venue, symbol, now_ms).item, now_ms)

    def book(self, venue: str, symbol: str, sequence: int, levels: int, now_ms: int) -> Json:
        """The best levels, [price, size], of the book with this seqId, change_id or update id."""
        listing = self._listing(venue, symbol, now_ms)
        step = self._step(venue, listing, sequence, now_ms)
        snapshot = self._exchange.book.snapshot(listing.item, levels, step * STEP_MS)
        sides = {"bids": snapshot.bids, "asks": snapshot.asks}
        texts = {
            name: [[listing.price(price), listing.size(lots)] for price, lots in side] for name, side in sides.items()
        }
        return {"sequence": sequence, "time_ms": step * STEP_MS, **texts}

    def fundings(self, venue: str, symbol: str, start_ms: int, end_ms: int, now_ms: int) -> list[Json]:
        """The time and rate of the fundings in [start_ms, end_ms) until now; of Deribit every hour's rate for eight."""
        item, end_ms = self._listing(venue, symbol, now_ms).item, min(end_ms, now_ms + 1)
        hours = (
            range(-(-start_ms // HOUR_MS) * HOUR_MS, end_ms, HOUR_MS)
            if venue == "deribit"
            else full_hours_ms(item, start_ms, end_ms - 1)
        )
        return [{"time_ms": hour_ms, "rate": trimmed(funding_rate(item, hour_ms), PLACES)} for hour_ms in hours][
            :ROWS_MAX
        ]

    def open_interest(self, venue: str, symbol: str, time_ms: int) -> Json:
        """The open interest at a time."""
        listing = self._listing(venue, symbol, time_ms)
        lots = self._exchange.marks.open_interest(listing.item, time_ms)
        return {"time_ms": time_ms, "size": listing.size(lots)}

    def _trades(self, listing: Listing, first: int, now_ms: int) -> Iterator[Trade]:
        item, tape = listing.item, self._exchange.tape
        open_ms = tape.minute_of(item, first, item.onboard_ms, now_ms, aggregate=False)
        for part in tape.forwards(item, open_ms, now_ms):
            yield from part

    def _step(self, venue: str, listing: Listing, sequence: int, now_ms: int) -> int:
        known = self._venue(venue)
        if known is None:
            step = sequence // update_id(1) if sequence % update_id(1) == 0 else None
        else:
            step = known.step_of(listing, sequence, now_ms)
        if step is None or step > step_at(now_ms):
            raise ValueError(f"{listing.name} has had no book with the sequence number {sequence}")
        return step

    def _venue(self, venue: str) -> Venue | None:
        """The venue; None for Binance."""
        known = {"okx": self._venues.okx, "deribit": self._venues.deribit, "binance": None}
        if venue not in known:
            raise ValueError(f"venue must be one of {', '.join(known)}")
        return known[venue]

    def _listing(self, venue: str, symbol: str, now_ms: int) -> Listing:
        known = self._venue(venue)
        if known is None:
            item = self._exchange.universe.find(symbol, now_ms)
            places = item.quantity_precision if item else 0
            found = Listing(symbol, SWAP, item, item.base_asset, item.quote_asset, "", places) if item else None
        else:
            found = known.listings.find(symbol, now_ms)
        if found is None:
            raise ValueError(f"{venue} has no symbol {symbol}")
        return found


def _trade(listing: Listing, trade: Trade) -> Json:
    return {
        "number": trade.number,
        "price": listing.price(trade.price),
        "size": listing.size(trade.lots),
        "coins": trimmed(listing.coins(trade.lots, trade.price), COIN_PLACES),
        "time_ms": trade.time_ms,
        "side": "sell" if trade.maker else "buy",
    }
