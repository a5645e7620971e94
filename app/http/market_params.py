"""The parser of market data query strings, which refuses what Binance refuses before a request costs weight.

Requests that mean the same become one question: parameters that the exchange ignores are left out, names are in upper
case, numbers have no leading zeros, defaults are added. Example: `symbol=btcusdt&x=1` and `limit=0500&symbol=BTCUSDT`
are the same question to /depth. Only errors that are known (binance-facts section 1.3) are raised here, in the order of
app/http/params.py; the exchange judges the rest.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from app.binance import coin_margined
from app.binance.error_body import (
    BinanceError,
    UnknownSymbol,
    invalid_depth_limit,
    invalid_interval,
    invalid_parameter,
    missing_parameter,
    start_after_end,
    window_too_old,
)
from app.domain import letters
from app.domain.interval import HOUR_MS, INTERVALS, MINUTE_MS
from app.http.params import INTEGER_MAX, TIME_MS_MAX, integer, sent_parameters, text_of
from app.market.endpoints import Endpoint, Parameter, ParameterType, Question

DATA: Final = "/futures/data/"
TRADES_KEPT_MS: Final = 48 * HOUR_MS  # how far back aggTrades reach (binance-facts section 2.1)
DATA_KEPT_MS: Final = 35 * 24 * HOUR_MS  # 30 days are served, 35 refused (measured); between them the exchange judges
CLOCKS_MS: Final = MINUTE_MS  # allowance for a difference between the exchange's clock and ours
WORD_MAX: Final = 32  # characters; the longest contract type has 17

_NAME: Final = re.compile(r"\w{1,32}")  # what a symbol may look like, used until the list of symbols has been read
_WORD: Final = re.compile(r"[\w .-]+", re.ASCII)


class Names(Protocol):
    """The exchange's list of symbols, which may not have been read yet."""

    def is_known(self) -> bool:
        """Whether the exchange's list of symbols has been read at least once."""
        ...

    def symbol(self, text: str) -> str | None:
        """The listed name of a symbol as a client wrote it (lower case accepted); None when it is not listed."""
        ...


def question_of(endpoint: Endpoint, query_string: bytes, names: Names, now_ms: int) -> Question:
    """The question that a raw query string asks of `endpoint`. Raises BinanceError, UnknownSymbol among them."""
    try:
        sent = sent_parameters(query_string, {parameter.name for parameter in endpoint.parameters})
        for parameter in endpoint.parameters:
            if parameter.is_required and not sent.get(parameter.name):
                raise missing_parameter(parameter.name)
        pairs = [
            (parameter.name, text)
            for parameter in endpoint.parameters
            if (text := _canonical(parameter, sent, names)) is not None
        ]
        question = Question(endpoint.path, tuple(pairs))
        _check_times(question, now_ms)
    except BinanceError as error:
        error.is_msg_first = endpoint.path.startswith(DATA)
        raise
    return question


def _canonical(parameter: Parameter, sent: Mapping[str, str], names: Names) -> str | None:
    """The parameter's text for the exchange; None when it was not sent and has no default. Raises BinanceError."""
    name, kind = parameter.name, parameter.kind
    if kind is ParameterType.TIME:
        time_ms = integer(sent, name, 0, INTEGER_MAX)
        return None if time_ms is None else str(min(time_ms, TIME_MS_MAX))
    if kind is ParameterType.NUMBER:
        return _number(parameter, sent)
    text = text_of(sent, name)
    if text is None:
        return None
    if kind is ParameterType.INTERVAL:
        if text not in INTERVALS:
            raise invalid_interval()
        return text
    if kind is ParameterType.WORD:
        if len(text) > WORD_MAX or not _WORD.fullmatch(text):
            raise invalid_parameter(name)
        return text
    return _listed(text, names, coin_margined.is_pair if kind is ParameterType.PAIR else coin_margined.is_symbol)


def _number(parameter: Parameter, sent: Mapping[str, str]) -> str | None:
    name = parameter.name
    most = INTEGER_MAX if parameter.most is None else parameter.most
    number = integer(sent, name, 0 if parameter.most is None else 1, most)
    if number is None:
        number = parameter.default
    if number is not None and parameter.values and str(number) not in parameter.values:
        raise invalid_depth_limit(number)
    return None if number is None else str(number)


def _listed(text: str, names: Names, is_coin_margined: Callable[[str], bool]) -> str:
    name = names.symbol(text)
    if name is None:
        name = letters.upper(text)
        if not (is_coin_margined(name) if names.is_known() else _NAME.fullmatch(name)):
            raise UnknownSymbol(name)
    return name


def _check_times(question: Question, now_ms: int) -> None:
    start_ms, end_ms = question.number("startTime"), question.number("endTime")
    if start_ms is None:
        return
    if end_ms is not None and start_ms > end_ms:
        raise start_after_end()
    if question.path == "/fapi/v1/aggTrades" and start_ms < now_ms - TRADES_KEPT_MS - CLOCKS_MS:
        raise window_too_old()


def refuse_too_old(question: Question, now_ms: int) -> None:
    """Raise BinanceError for a question about statistics that the exchange has no more, without asking it."""
    start_ms = question.number("startTime")
    if question.path.startswith(DATA) and start_ms is not None and start_ms < now_ms - DATA_KEPT_MS:
        error = BinanceError(400, -1130, "parameter 'startTime' is invalid.")
        error.is_msg_first = True
        raise error
