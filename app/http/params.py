"""The parser of klines query strings, which refuses what Binance refuses, with Binance's errors.

The checks run in this order, and the first failure is the answer:

1. a known parameter given twice: -1101 (unknown parameters are ignored, however often they come)
2. `symbol`, then `interval`, missing or empty: -1102
3. each parameter by itself, in the order symbol (-1121), interval (-1120), startTime, endTime, limit, only_final,
   allow_partial, as_of: empty -1105, not an integer -1102, out of range -1130
4. startTime later than endTime: -1023

Confirmed on the exchange (binance-facts section 1.3): -1121, -1120, -1130 for limit > 1500, -1023, -1102 for a missing
mandatory parameter and for a malformed number. Not confirmed, chosen by the wording of the exchange's error list: -1105
for an empty optional parameter, -1130 for numbers out of range, -1101 for duplicates. The order is our choice.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final
from urllib.parse import parse_qsl

from app.binance.error_body import (
    BinanceError,
    UnknownSymbol,
    duplicate_parameter,
    invalid_interval,
    invalid_parameter,
    missing_parameter,
    start_after_end,
)
from app.domain import letters
from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.http.services import SymbolOf
from app.kinds.klines import KLINES
from app.querying.answer import LIMIT_DEFAULT, LIMIT_MAX, KlineQuery

PARAMETERS: Final = ("symbol", "interval", "startTime", "endTime", "limit", "only_final", "allow_partial", "as_of")
_KNOWN: Final = frozenset(PARAMETERS)
AS_OF: Final = "as_of"
_AS_OF: Final = b"as_of"

INTEGER_MAX: Final = 2**53  # the largest integer that JSON clients write exactly; some send it for "no end"
TIME_MS_MAX: Final = 9_999_999_999_999  # year 2286; later times are clamped to it, no kline opens there either way
_DIGITS_MAX: Final = 16  # the digits of 2**53
_INTEGER: Final = re.compile(r"-?[0-9]+")  # ASCII digits only: int() alone would take ٣ and 1_000
_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}


def kline_query(query_string: bytes, symbol_of: SymbolOf, *, only_final_default: bool) -> KlineQuery:
    """The query that a raw query string states, with defaults filled in. Raises BinanceError."""
    sent = sent_parameters(query_string, _KNOWN)
    for name in ("symbol", "interval"):
        if not sent.get(name):
            raise missing_parameter(name)
    symbol = symbol_of(sent["symbol"])
    if symbol is None:
        raise UnknownSymbol(letters.upper(sent["symbol"]))
    interval = INTERVALS.get(sent["interval"])  # case matters: 1m is a minute, 1M a month
    if interval is None:
        raise invalid_interval()
    start_ms = integer(sent, "startTime", 0, INTEGER_MAX) if "startTime" in sent else None  # a call less: most lack it
    end_ms = integer(sent, "endTime", 0, INTEGER_MAX) if "endTime" in sent else None
    limit = integer(sent, "limit", 1, LIMIT_MAX)
    only_final = _truth(sent, "only_final") if "only_final" in sent else None
    allow_partial = _truth(sent, "allow_partial") if "allow_partial" in sent else None
    as_of_ms = integer(sent, AS_OF, 0, INTEGER_MAX) if AS_OF in sent else None
    if start_ms is not None:
        if end_ms is not None and start_ms > end_ms:
            raise start_after_end()
        start_ms = min(start_ms, TIME_MS_MAX)
    return KlineQuery(
        Series(KLINES, symbol, interval),
        start_ms,
        None if end_ms is None else min(end_ms, TIME_MS_MAX),
        LIMIT_DEFAULT if limit is None else limit,
        only_final_default if only_final is None else only_final,
        bool(allow_partial),
        as_of_ms,
    )


def as_of(query_string: bytes) -> int | None:
    """The past time (ms) that a query string of another endpoint asks for; None for now. Raises BinanceError."""
    return integer(sent_parameters(query_string, {AS_OF}), AS_OF, 0, INTEGER_MAX) if _AS_OF in query_string else None


def refuse_as_of(query_string: bytes) -> None:
    """Raise BinanceError if a route that answers only as of now is asked for a past time: it is not to be ignored."""
    if as_of(query_string) is not None:
        raise BinanceError(
            400,
            -1130,
            "as_of is not answered here, but by klines, price klines, metrics, fundingRate and /v1/coverage: "
            "leave it out for the answer of now.",
        )


def sent_parameters(query_string: bytes, known: AbstractSet[str]) -> dict[str, str]:
    """The known parameters that were sent, decoded. Raises BinanceError for a duplicate.

    Invalid UTF-8 becomes U+FFFD, which no symbol contains.
    """
    pairs = _pairs(query_string)
    sent: dict[str, str] = dict(pairs)
    if len(sent) == len(pairs) and sent.keys() <= known:
        return sent  # the usual case, in half the time
    sent = {}
    for name, value in pairs:
        if name not in known:
            continue
        if name in sent:
            raise duplicate_parameter()
        sent[name] = value
    return sent


def _pairs(query_string: bytes) -> Sequence[tuple[str, str]]:
    """Names and values. For the usual query string without encoding, parse_qsl would cost more than all other steps."""
    if b"%" in query_string or b"+" in query_string or not query_string.isascii():
        return parse_qsl(query_string.decode(errors="replace"), keep_blank_values=True)
    parts = [part.partition("=") for part in query_string.decode().split("&") if part]
    return [(name, value) for name, _, value in parts]


def integer(sent: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """An optional integer parameter; None if not sent. Raises BinanceError."""
    text = text_of(sent, name)
    if text is None:
        return None
    if not is_integer(text):
        raise missing_parameter(name)
    if len(text) > _DIGITS_MAX or not least <= int(text) <= most:
        raise invalid_parameter(name)
    return int(text)


def is_integer(text: str) -> bool:
    """Whether a text is an integer in plain digits: int() takes `1_000` and ` 1` too."""
    return _INTEGER.fullmatch(text) is not None


def is_truth(text: str) -> bool:
    """Whether a text is true, false, 1 or 0."""
    return letters.lower(text) in _TRUTHS


def _truth(sent: dict[str, str], name: str) -> bool | None:
    text = text_of(sent, name)
    if text is None:
        return None
    truth = _TRUTHS.get(letters.lower(text))  # Python clients send True and False
    if truth is None:
        raise invalid_parameter(name)
    return truth


def text_of(sent: Mapping[str, str], name: str) -> str | None:
    """An optional parameter's text; None if not sent. Raises BinanceError (-1105) if it is empty."""
    text = sent.get(name)
    if text == "":
        raise BinanceError(400, -1105, f"Parameter '{name}' was empty.")
    return text
