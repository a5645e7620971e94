"""The parser of the query string of /v1/klines/rolling."""

import re
from collections.abc import Mapping
from typing import Final

from app.binance.error_body import missing_parameter, start_after_end
from app.domain.interval import DAY_MS, HOUR_MS, MINUTE_MS
from app.http.errors import ApiError, unlisted
from app.http.params import INTEGER_MAX, TIME_MS_MAX, integer, refuse_as_of, sent_parameters, text_of
from app.http.services import SymbolOf
from app.querying.answer import LIMIT_MAX
from app.querying.rolling_query import MINUTES_MAX, RollingQuery

PARAMETERS: Final = ("symbol", "window", "step", "startTime", "endTime", "limit")
WINDOW_MS_MAX: Final = 7 * DAY_MS  # 10,080 minutes; longer windows are better made of stored intervals
LENGTH_PATTERN: Final = "[1-9][0-9]{0,4}[mhd]"
_LENGTH: Final = re.compile(LENGTH_PATTERN)
_UNITS_MS: Final = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_KNOWN: Final = frozenset(PARAMETERS)


def rolling_query(query_string: bytes, symbol_of: SymbolOf) -> RollingQuery:
    """The query that a raw query string states. Raises BinanceError, and ApiError for what Binance does not know."""
    refuse_as_of(query_string)
    sent = sent_parameters(query_string, _KNOWN)
    for name in ("symbol", "window"):
        if not sent.get(name):
            raise missing_parameter(name)
    symbol = symbol_of(sent["symbol"])
    if symbol is None and "@" in sent["symbol"]:
        raise ApiError(400, "Windows are made of klines alone: name a symbol such as BTCUSDT, without @.")
    if symbol is None:
        raise ApiError(400, unlisted(sent["symbol"]))
    length_ms = _length_ms(sent, "window")
    step_ms = _length_ms(sent, "step") if "step" in sent else MINUTE_MS
    if step_ms > length_ms:
        raise ApiError(400, "The step is longer than the window: minutes would be left out; make it at most as long.")
    start_ms, end_ms = (integer(sent, name, 0, INTEGER_MAX) for name in ("startTime", "endTime"))
    limit = integer(sent, "limit", 1, LIMIT_MAX)
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise start_after_end()
    start_ms, end_ms = (None if each is None else min(each, TIME_MS_MAX) for each in (start_ms, end_ms))
    query = RollingQuery(symbol, length_ms, step_ms, start_ms, end_ms, limit)
    if limit is not None and limit > query.windows_max:
        raise ApiError(
            400,
            f"{limit} such windows need more than {MINUTES_MAX} minutes; a limit of {query.windows_max} fits.",
        )
    return query


def _length_ms(sent: Mapping[str, str], name: str) -> int:
    text = text_of(sent, name) or ""
    length_ms = int(text[:-1]) * _UNITS_MS[text[-1]] if _LENGTH.fullmatch(text) else 0
    if not MINUTE_MS <= length_ms <= WINDOW_MS_MAX:
        raise ApiError(400, f"{name} is a length from 1m to 7d, in minutes, hours or days: 90m, 4h, 7d.")
    return length_ms
