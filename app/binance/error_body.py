"""Binance's error bodies: `{"code":-1121,"msg":"Invalid symbol."}` (binance-facts section 1.3)."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from app.binance.unreadable import UNREADABLE
from app.domain.reason import Reason

CODE_MAX: Final = (1 << 31) - 1  # the exchange's codes have five digits at the most


@dataclass(eq=False)
class BinanceError(Exception):
    """An error as Binance states it: HTTP status, code and text. `retry_after_s` becomes a Retry-After header."""

    status: int
    code: int
    msg: str
    retry_after_s: int | None = None
    reason: Reason | None = None
    """Why the request is refused, if the status is 503."""
    is_msg_first: bool = False
    """Whether `msg` comes before `code`, as under /futures/data."""

    def body(self) -> bytes:
        """The JSON body."""
        if self.is_msg_first:
            return msgspec.json.encode({"msg": self.msg, "code": self.code})
        return msgspec.json.encode({"code": self.code, "msg": self.msg})


class UnknownSymbol(BinanceError):
    """exchangeInfo does not list the symbol `name` (in upper case)."""

    def __init__(self, name: str) -> None:
        super().__init__(400, -1121, "Invalid symbol.")
        self.name = name


class _Body(msgspec.Struct):
    code: Annotated[int, msgspec.Meta(ge=-CODE_MAX, le=CODE_MAX)]
    msg: str


_decoder: Final = msgspec.json.Decoder(_Body)
_BANNED_UNTIL: Final = re.compile(r"banned until (\d{13})", re.ASCII)


def decode(status: int, body: bytes) -> BinanceError | None:
    """The error in `body`, or None when the body does not have Binance's form."""
    try:
        error = _decoder.decode(body)
    except UNREADABLE:
        return None
    return BinanceError(status, error.code, error.msg)


def banned_until_ms(msg: str) -> int | None:
    """The end of the ban (ms) from an error text with `banned until <ms>`; None without one."""
    found = _BANNED_UNTIL.search(msg)
    return int(found[1]) if found else None


def invalid_symbol() -> BinanceError:
    """The symbol is not listed."""
    return BinanceError(400, -1121, "Invalid symbol.")


def invalid_interval() -> BinanceError:
    """The interval is not one of the 15."""
    return BinanceError(400, -1120, "Invalid interval.")


def invalid_parameter(name: str) -> BinanceError:
    """A parameter has the right type but is out of range."""
    return BinanceError(400, -1130, f"Data sent for parameter '{name}' is not valid.")


def missing_parameter(name: str) -> BinanceError:
    """A mandatory parameter is missing or empty, or a parameter has the wrong type."""
    return BinanceError(400, -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def duplicate_parameter() -> BinanceError:
    """A parameter was given more than once."""
    return BinanceError(400, -1101, "Duplicate values for a parameter detected.")


def invalid_depth_limit(limit: int) -> BinanceError:
    """The order book is not offered with `limit` levels."""
    return BinanceError(400, -4021, f"{limit} is not valid depth limit")


def window_too_old() -> BinanceError:
    """The window begins more than 48 hours ago, where the exchange has no aggTrades."""
    return BinanceError(400, -4166, "Search window is restricted to recent 2 days only.")


def key_malformed() -> BinanceError:
    """An endpoint that needs an API key was requested without one."""
    return BinanceError(401, -2014, "API-key format invalid.")


def key_refused() -> BinanceError:
    """The API key is unknown, or has no rights here."""
    return BinanceError(401, -2015, "Invalid API-key, IP, or permissions for action.")


def too_many_requests(per_minute: int, retry_after_s: int) -> BinanceError:
    """An API key has had the requests of this minute; the next one begins in `retry_after_s`."""
    text = (
        f"Too many requests; current limit of this API-key is {per_minute} requests per minute. "
        "Please use the websocket for live updates to avoid polling the API."
    )
    return BinanceError(429, -1003, text, retry_after_s)


def start_after_end() -> BinanceError:
    """StartTime is later than endTime."""
    return BinanceError(400, -1023, "Start time is greater than end time.")


def invalid_path(path: str, method: str) -> BinanceError:
    """No such route."""
    return BinanceError(404, -5000, f"Path {path}, Method {method} is invalid")


def service_unavailable(retry_after_s: int, reason: Reason) -> BinanceError:
    """The request cannot be answered completely at the moment, for `reason`."""
    text = "Internal error; unable to process your request. Please try again."
    return BinanceError(503, -1001, text, retry_after_s, reason)


def never_held(text: str) -> BinanceError:
    """The request cannot be answered completely, now or later: it is about what is held of a past time."""
    return BinanceError(503, -1001, text, reason=Reason.NOT_HELD)
