"""The query string of a market-data request, understood or refused as Binance does it, before it costs anything.

What it means is brought into one form, so that requests which mean the same are one question: parameters that the
exchange ignores are left out, names are in upper case, numbers without leading zeros, defaults are stated. Checked here
is what has a known error (binance-facts section 1.3), in the order of app/http/params.py; the rest is the exchange's to
judge.
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
TRADES_KEPT_MS: Final = 48 * HOUR_MS
DATA_KEPT_MS: Final = 35 * 24 * HOUR_MS  # 30 days are fine, 35 refused (measured); between them the exchange judges
CLOCKS_MS: Final = MINUTE_MS  # so much the exchange's idea of now may differ when it judges
WORD_MAX: Final = 32  # characters; the longest contract type has 17

_NAME: Final = re.compile(r"\w{1,32}")  # what a symbol may look like, for as long as nobody knows the list
_WORD: Final = re.compile(r"[\w .-]+", re.ASCII)


class Names(Protocol):
    """Knows what the exchange lists, or that this is not known yet."""

    def is_known(self) -> bool:
        """Whether the exchange's list was ever read."""
        ...

    def symbol(self, text: str) -> str | None:
        """The listed name of a symbol as a client wrote it, None when there is none."""
        ...


def question_of(endpoint: Endpoint, query_string: bytes, names: Names, now_ms: int) -> Question:
    """The question that a raw query string states. Raises BinanceError."""
    try:
        sent = sent_parameters(query_string, [parameter.name for parameter in endpoint.parameters])
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
    """The parameter as it is sent on; None when it is not. Raises BinanceError."""
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
    if question.path.startswith(DATA) and start_ms < now_ms - DATA_KEPT_MS:
        raise BinanceError(400, -1130, "parameter 'startTime' is invalid.")
