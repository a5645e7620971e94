"""The parser of the query string of /v1/bars."""

from typing import Final

from app.binance.error_body import invalid_interval, missing_parameter, start_after_end
from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.http.errors import ApiError, unlisted
from app.http.params import INTEGER_MAX, TIME_MS_MAX, integer, refuse_as_of, sent_parameters, text_of
from app.http.services import SymbolOf
from app.kinds.klines import KLINES
from app.kinds.price_klines import PRICES
from app.querying.bars import BARS_DEFAULT, BARS_MAX, BarsQuery

PARAMETERS: Final = ("symbol", "interval", "kind", "startTime", "endTime", "bars")
BAR_KINDS: Final = {"klines": KLINES} | PRICES
"""By the name that the parameter kind has for it."""
_KNOWN: Final = frozenset(PARAMETERS)


def bars_query(query_string: bytes, symbol_of: SymbolOf) -> BarsQuery:
    """The query that a raw query string states. Raises BinanceError, and ApiError for what Binance does not know."""
    refuse_as_of(query_string)
    sent = sent_parameters(query_string, _KNOWN)
    for name in ("symbol", "interval"):
        if not sent.get(name):
            raise missing_parameter(name)
    interval = INTERVALS.get(sent["interval"])
    if interval is None:
        raise invalid_interval()
    kind = BAR_KINDS.get(text_of(sent, "kind") or "klines")
    if kind is None:
        raise ApiError(400, f"There are no bars of that kind; there are {', '.join(BAR_KINDS)}.")
    symbol = symbol_of(sent["symbol"])
    if symbol is None:
        raise ApiError(400, unlisted(sent["symbol"]))
    start_ms, end_ms = (integer(sent, name, 0, INTEGER_MAX) for name in ("startTime", "endTime"))
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise start_after_end()
    start_ms, end_ms = (None if each is None else min(each, TIME_MS_MAX) for each in (start_ms, end_ms))
    bars = integer(sent, "bars", 1, BARS_MAX) or BARS_DEFAULT
    return BarsQuery(Series(kind, kind.whose(symbol), interval), start_ms, end_ms, bars)
