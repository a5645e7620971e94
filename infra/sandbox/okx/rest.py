"""OKX's REST: the endpoints of market data, their envelope, errors and limits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import orjson

from infra.sandbox.book import step_at
from infra.sandbox.faults import Target
from infra.sandbox.grid import SECOND_MS
from infra.sandbox.limits import Pool
from infra.sandbox.listings import SPOT, SWAP, Listing
from infra.sandbox.okx import history, rows
from infra.sandbox.okx.query import OkxError, Query, count, listing_of
from infra.sandbox.rest_faults import spoiled, unavailable
from infra.sandbox.venue import Answer, Venue

PREFIX: Final = "/api/v5/"
_WINDOW_MS: Final = 2 * SECOND_MS  # of the limits
_CLIENTS_MAX: Final = 10_000  # IPs and paths whose requests are counted; then counting begins again
_DEPTH_FULL: Final = 5_000

Answering = Callable[[Venue, Query, int], object]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    answer: Answering
    limit: int
    """Requests in two seconds."""


@dataclass(slots=True)
class OkxRest:
    """Answers requests under /api/v5."""

    venue: Venue
    _pools: dict[tuple[str, str], Pool] = field(default_factory=dict)

    def answer(self, path: str, params: Query, now_ms: int, ip: str = "") -> Answer:
        """The answer to GET `path` with `params`. Errors are answers too."""
        symbol = params.get("instId", "")
        target = Target(symbol=symbol, interval=params.get("bar", ""), path=path, venue=self.venue.name)
        faults = self.venue.faults
        if (broken := unavailable(faults, target, now_ms)) is not None:
            return broken
        endpoint = _ENDPOINTS.get(path.removeprefix(PREFIX))
        if endpoint is None:
            return _enveloped(404, "404", "API endpoint does not exist")
        too_many = faults.take("http_429", target, now_ms) is not None
        if too_many or not self._admits(ip, path, endpoint.limit, now_ms):
            return _enveloped(429, "50011", "Too Many Requests")
        if (fault := faults.take("error_answer", target, now_ms)) is not None:
            return _enveloped(200, str(fault.code or 50026), "System error. Try again later.")
        try:
            data = endpoint.answer(self.venue, params, now_ms)
        except OkxError as error:
            return _enveloped(error.status, error.code, error.msg)
        return spoiled(faults, target, now_ms, _enveloped(200, "0", "", data))

    def _admits(self, ip: str, path: str, limit: int, now_ms: int) -> bool:
        if len(self._pools) >= _CLIENTS_MAX:
            self._pools.clear()
        pool = self._pools.setdefault((ip, path), Pool(limit, limit, _WINDOW_MS))
        return pool.take(1, now_ms)


def _time(venue: Venue, query: Query, now_ms: int) -> object:
    del venue, query
    return [{"ts": str(now_ms)}]


def _instruments(venue: Venue, query: Query, now_ms: int) -> object:
    return [rows.instrument(each) for each in _of_kind(venue, query, now_ms)]


def _tickers(venue: Venue, query: Query, now_ms: int) -> object:
    return [rows.ticker(venue, each, now_ms) for each in _of_kind(venue, query, now_ms)]


def _ticker(venue: Venue, query: Query, now_ms: int) -> object:
    return [rows.ticker(venue, listing_of(venue, query, now_ms), now_ms)]


def _books(venue: Venue, query: Query, now_ms: int) -> object:
    return _book(venue, query, now_ms, rows.DEPTH)


def _books_full(venue: Venue, query: Query, now_ms: int) -> object:
    return _book(venue, query, now_ms, _DEPTH_FULL)


def _book(venue: Venue, query: Query, now_ms: int, depth_max: int) -> object:
    listing, step = listing_of(venue, query, now_ms), step_at(now_ms)
    best = venue.ladders.best(listing.item, step, count(query, "sz", 1, depth_max))
    bids, asks = (orjson.Fragment(rows.levels(listing, side.items())) for side in best)
    return [{"asks": asks, "bids": bids, "ts": str(now_ms), "seqId": venue.sequence(listing, step)}]


def _funding_rate(venue: Venue, query: Query, now_ms: int) -> object:
    return [rows.funding(_swap(venue, query, now_ms), now_ms)]


def _funding_history(venue: Venue, query: Query, now_ms: int) -> object:
    return history.fundings(_swap(venue, query, now_ms), query, now_ms)


def _open_interest(venue: Venue, query: Query, now_ms: int) -> object:
    found = [each for each in _of_kind(venue, query, now_ms) if each.kind != SPOT]
    return [rows.open_interest(venue, each, now_ms) for each in found]


def _mark_price(venue: Venue, query: Query, now_ms: int) -> object:
    found = [each for each in _of_kind(venue, query, now_ms) if each.kind != SPOT]
    return [rows.mark_price(venue, each, now_ms) for each in found]


def _swap(venue: Venue, query: Query, now_ms: int) -> Listing:
    listing = listing_of(venue, query, now_ms)
    if listing.kind != SWAP:
        raise OkxError("51000", "Parameter instId error")
    return listing


def _of_kind(venue: Venue, query: Query, now_ms: int) -> list[Listing]:
    """The instruments of `instType`, which is needed, or the one called `instId` among them."""
    kind, name = query.get("instType", ""), query.get("instId", "")
    if not kind:
        raise OkxError("50014", "Parameter instType can not be empty.", 400)
    if kind not in {"SPOT", "SWAP", "FUTURES", "MARGIN", "OPTION"}:
        raise OkxError("51000", "Parameter instType error")
    found = [each for each in venue.listings.matching(name, now_ms) if each.kind == kind]
    if name and not found:
        raise OkxError("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
    return found


def _enveloped(status: int, code: str, msg: str, data: object = ()) -> Answer:
    body = orjson.dumps({"code": code, "msg": msg, "data": data})
    return Answer(status, {"Content-Type": "application/json"}, body)


_ENDPOINTS: Final[dict[str, _Endpoint]] = {
    "public/time": _Endpoint(_time, 10),
    "public/instruments": _Endpoint(_instruments, 20),
    "public/funding-rate": _Endpoint(_funding_rate, 10),
    "public/funding-rate-history": _Endpoint(_funding_history, 10),
    "public/open-interest": _Endpoint(_open_interest, 20),
    "public/mark-price": _Endpoint(_mark_price, 10),
    "market/tickers": _Endpoint(_tickers, 20),
    "market/ticker": _Endpoint(_ticker, 20),
    "market/books": _Endpoint(_books, 40),
    "market/books-full": _Endpoint(_books_full, 10),
    "market/trades": _Endpoint(history.trades, 100),
    "market/history-trades": _Endpoint(history.history_trades, 20),
    "market/candles": _Endpoint(history.candles, 40),
    "market/history-candles": _Endpoint(history.history_candles, 20),
}
