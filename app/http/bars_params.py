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
from app.kinds.registry import BAR_KINDS
from app.querying.bars import BARS_DEFAULT, BARS_MAX, ROWS_MAX, BarsQuery, can_thin

PARAMETERS: Final = ("symbol", "interval", "kind", "startTime", "endTime", "bars", "step")
_KNOWN: Final = frozenset(PARAMETERS)
_WORDS: Final = {kind.suffix: word for word, kind in PRICES.items()}


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
    kind = BAR_KINDS.get(text_of(sent, "kind") or KLINES.name)
    if kind is None:
        raise ApiError(400, f"There are no bars of that kind; there are {', '.join(BAR_KINDS)}.")
    if "@" in sent["symbol"]:
        raise ApiError(400, _with_suffix(sent["symbol"]))
    symbol = symbol_of(sent["symbol"])
    if symbol is None:
        raise ApiError(400, unlisted(sent["symbol"]))
    start_ms, end_ms = (integer(sent, name, 0, INTEGER_MAX) for name in ("startTime", "endTime"))
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise start_after_end()
    start_ms, end_ms = (None if each is None else min(each, TIME_MS_MAX) for each in (start_ms, end_ms))
    bars = integer(sent, "bars", 1, BARS_MAX) or BARS_DEFAULT
    series = Series(kind, kind.whose(symbol), interval)
    return BarsQuery(series, start_ms, end_ms, bars, _stride(integer(sent, "step", 1, INTEGER_MAX), series))


def _with_suffix(text: str) -> str:
    """The error text for a name of a series, such as `BTCUSDT@markPrice`, where a symbol is to stand."""
    symbol, _, suffix = text.partition("@")
    if suffix in _WORDS:
        return f"Name the symbol without @ and the prices by kind: symbol={symbol[:40]}&kind={_WORDS[suffix]}."
    return f"Name the symbol without @, and by kind what its bars show: {', '.join(BAR_KINDS)}."


def _stride(step_ms: int | None, series: Series) -> int:
    """How many klines bars of `step_ms` are made of. Raises ApiError unless they are a whole number of them."""
    length_ms = series.interval.grid.step_ms
    if step_ms is None or step_ms == length_ms:
        return 1
    if step_ms % length_ms or not can_thin(series) or step_ms // length_ms > ROWS_MAX:
        raise ApiError(
            400,
            f"step is a multiple of the interval, {length_ms} ms, at most {ROWS_MAX} times as long, for intervals of a "
            "day or less; leave it out for bars of single klines.",
        )
    return step_ms // length_ms
