"""The parser of the query string of /v1/klines/batch, and its bounds."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from app.binance.error_body import invalid_interval, missing_parameter, start_after_end
from app.domain.interval import INTERVALS
from app.domain.reason import Reason
from app.http.errors import ApiError, unavailable
from app.http.headers import Header
from app.http.page import qualities
from app.http.params import INTEGER_MAX, TIME_MS_MAX, integer, refuse_as_of, sent_parameters, text_of
from app.querying.answer import LIMIT_DEFAULT, LIMIT_MAX
from app.querying.batch import BatchQuery
from app.querying.refusal import RETRY_AFTER_S

PARAMETERS: Final = ("symbols", "interval", "startTime", "endTime", "limit", "format")
ALL: Final = "all"
SYMBOLS_MAX: Final = 1_000  # the exchange lists about 600 perpetual contracts
ROWS_MAX: Final = 900_000  # 600 symbols × 1,500 klines: 117 MB of JSON
ARROW: Final = "arrow"
ARROW_TYPE: Final = b"application/vnd.apache.arrow.stream"
FORMATS: Final = ("json", ARROW)
_JSON_RANGES: Final = (b"application/json", b"application/*", b"*/*")
"""The media ranges that JSON lies in, the nearest first, which counts."""
_KNOWN: Final = frozenset(PARAMETERS)

AllSymbols = Callable[[], Sequence[str]]


class BatchRequest(NamedTuple):
    """A parsed request; `rows` is the greatest number of klines that its answer can have."""

    query: BatchQuery
    rows: int
    is_arrow: bool


def batch_request(query_string: bytes, headers: Sequence[Header], all_symbols: AllSymbols) -> BatchRequest:
    """The request that a raw query string and the headers state. Raises BinanceError, and ApiError beyond a bound."""
    refuse_as_of(query_string)
    sent = sent_parameters(query_string, _KNOWN)
    for name in ("symbols", "interval"):
        if not sent.get(name):
            raise missing_parameter(name)
    interval = INTERVALS.get(sent["interval"])
    if interval is None:
        raise invalid_interval()
    start_ms, end_ms = (integer(sent, name, 0, INTEGER_MAX) for name in ("startTime", "endTime"))
    limit = integer(sent, "limit", 1, LIMIT_MAX) or LIMIT_DEFAULT
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise start_after_end()
    start_ms, end_ms = (None if each is None else min(each, TIME_MS_MAX) for each in (start_ms, end_ms))
    form = text_of(sent, "format")
    if form is not None and form not in FORMATS:
        raise ApiError(400, f"There is no format {form[:20]}; there are {' and '.join(FORMATS)}.")
    is_arrow = form == ARROW or (form is None and _accepts_arrow(headers))
    symbols = _symbols(sent["symbols"], all_symbols)
    most = limit
    if start_ms is not None and end_ms is not None:
        most = min(limit, (end_ms - start_ms) // interval.grid.step_ms + 2)  # months differ in length
    rows = len(symbols) * most
    if rows > ROWS_MAX:
        fits = ROWS_MAX // len(symbols)
        raise ApiError(400, f"{len(symbols)} symbols × {most} klines are more than {ROWS_MAX}; a limit of {fits} fits.")
    return BatchRequest(BatchQuery(symbols, interval, start_ms, end_ms, limit), rows, is_arrow)


def _symbols(text: str, all_symbols: AllSymbols) -> Sequence[str]:
    if text == ALL:
        if not (symbols := all_symbols()):
            raise unavailable(
                "It is not known yet which symbols there are; try again.", Reason.NOT_SYNCED, RETRY_AFTER_S
            )
    else:
        symbols = [each for each in text.split(",") if each]
    if not symbols:
        raise missing_parameter("symbols")
    if len(symbols) > SYMBOLS_MAX:
        raise ApiError(400, f"{len(symbols)} symbols are more than {SYMBOLS_MAX}; ask for them in several requests.")
    return symbols


def _accepts_arrow(headers: Sequence[Header]) -> bool:
    """Whether an Accept header names Arrow, and likes it as well as JSON."""
    quality = qualities(b",".join(value for name, value in headers if name == b"accept"))
    wanted = quality.get(ARROW_TYPE, 0)
    return wanted > 0 and wanted >= next((quality[name] for name in _JSON_RANGES if name in quality), 0)
