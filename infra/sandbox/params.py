"""Parsing of request parameters, with the errors for missing and wrong ones (binance-facts section 1.3)."""

import string
from collections.abc import Mapping
from typing import Final

from infra.sandbox.exchange import Exchange
from infra.sandbox.universe import Instrument

Query = Mapping[str, str]

INT64_MAX: Final = (1 << 63) - 1
END_OF_CALENDAR_MS: Final = 253_402_300_799_999  # the end of the year 9999, and of datetime's range


_UPPER: Final = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class ApiError(Exception):
    """The exchange refuses a request; `code` and `msg` are the body."""

    def __init__(self, code: int, msg: str, status: int = 400) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status = code, msg, status


def upper(text: str) -> str:
    """`text` with a–z in upper case. Other letters do not change, so that ſ does not become S."""
    return text.translate(_UPPER)


def lower(text: str) -> str:
    """`text` with A–Z in lower case, as in stream names."""
    return text.translate(_LOWER)


def mandatory(query: Query, name: str) -> str:
    """The parameter's text. Raises ApiError if it is missing or empty."""
    value = query.get(name, "")
    if not value:
        raise malformed(name)
    return value


def integer(query: Query, name: str) -> int | None:
    """The parameter's number; None if it was not sent. Raises ApiError if it is not an integer."""
    text = query.get(name)
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19 or int(digits) > INT64_MAX:
        raise malformed(name)
    return int(text)


def limit_of(query: Query, default: int, most: int) -> int:
    """The `limit` parameter or `default`. Raises ApiError if it is not in 1 to `most`."""
    limit = integer(query, "limit")
    if limit is not None and not 1 <= limit <= most:
        raise not_valid("limit")
    return limit or default


def window_of(query: Query) -> tuple[int | None, int | None]:
    """The startTime and endTime (None: not sent), at most END_OF_CALENDAR_MS. Raises ApiError if negative."""
    bounds: list[int | None] = []
    for name in ("startTime", "endTime"):
        value = integer(query, name)
        if value is not None and value < 0:
            raise not_valid(name)
        bounds.append(None if value is None else min(value, END_OF_CALENDAR_MS))
    start_ms, end_ms = bounds
    return start_ms, end_ms


def ordered(start_ms: int | None, end_ms: int | None) -> None:
    """Raise ApiError if the window ends before it begins."""
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise ApiError(-1023, "Start time is greater than end time.")


def instrument(exchange: Exchange, query: Query, now_ms: int, name: str = "symbol") -> Instrument:
    """The symbol of parameter `name`, in upper or lower case. Raises ApiError if it is missing or not listed."""
    return known(exchange, mandatory(query, name), now_ms)


def optional_instrument(exchange: Exchange, query: Query, now_ms: int) -> Instrument | None:
    """The symbol; None if the parameter was not sent. Raises ApiError if it is not listed."""
    symbol = query.get("symbol")
    if symbol is None:
        return None
    return known(exchange, symbol, now_ms)


def known(exchange: Exchange, symbol: str, now_ms: int) -> Instrument:
    """The symbol of that name as exchangeInfo shows it now."""
    item = exchange.universe.find(upper(symbol), now_ms)
    if item is None:
        raise ApiError(-1121, "Invalid symbol.")
    return item


def malformed(name: str) -> ApiError:
    """What is said of a parameter that is missing or unreadable."""
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def not_valid(name: str) -> ApiError:
    """What is said of a parameter that is out of range."""
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
