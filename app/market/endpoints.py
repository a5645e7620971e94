"""The table of market data endpoints other than klines: parameters, weight, how each is answered and for how long."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from app.binance.weights import depth_limits, depth_weight, klines_weight
from app.domain.interval import HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.kind import Bucket, Kind
from app.kinds.funding import FUNDING
from app.kinds.metrics import METRICS
from app.kinds.price_klines import INDEX, MARK, PREMIUM

# How long answers stay valid, in ms.
HELD_MS: Final = 250  # an answer made from memory; frames come once a second
NOW_MS: Final = 0  # a held book, which changes at any time
BOOK_MS: Final = 250  # the default update interval of the exchange's depth stream
MOVING_MS: Final = 1_000  # the update interval of its mark prices and tickers
SLOW_MS: Final = 5_000  # prices and weights inside an index
DATA_MS: Final = 15_000  # statistics that get a row every five minutes
FUNDING_MS_MIN: Final = 5_000  # rates are added on the hour: an answer is valid for a tenth of the time since then
FUNDING_MS_MAX: Final = 5 * MINUTE_MS
SELDOM_MS: Final = MINUTE_MS  # what the exchange recomputes every half hour or hour
LISTED_MS: Final = 5 * MINUTE_MS  # what changes only with an announcement
PAST_MS: Final = 5 * MINUTE_MS  # closed rows; they change only when the exchange corrects them
REFUSED_MS: Final = 5_000  # a symbol that is refused may be listed a moment later
SETTLED_MS: Final = MINUTE_MS  # a row this old is final
THRIFT_MS_PER_WEIGHT: Final = 100
"""ms per weight for which an answer is still served while more than half of the minute's weight is used: a request of
weight 40 is repeated every 4 s at most, which costs 600 of the minute's 2,400."""


class Mode(Enum):
    """How an endpoint is answered."""

    HELD = "held"
    STORED = "held where wished"
    CACHED = "pass-through"


class ParameterType(Enum):
    """What a parameter means, and therefore how it is checked."""

    SYMBOL = "symbol"
    PAIR = "pair"
    INTERVAL = "interval"
    TIME = "time"
    NUMBER = "number"
    WORD = "word"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. The exchange, not the node, checks words, and numbers without `most`."""

    name: str
    kind: ParameterType
    help: str
    is_required: bool = False
    default: int | None = None
    most: int | None = None
    values: tuple[str, ...] = ()


class Question(NamedTuple):
    """A parsed request: two requests that mean the same compare equal."""

    path: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def params(self) -> Mapping[str, str]:
        """The parameters as they are sent to the exchange."""
        return dict(self.pairs)

    @property
    def query_string(self) -> str:
        """The parameters as the query string of a URL."""
        return urlencode(self.pairs)

    def number(self, name: str) -> int | None:
        """The value of a number or time parameter, its default where it has one; None when it was not sent."""
        text = dict(self.pairs).get(name)
        return None if text is None else int(text)


class _Row(msgspec.Struct, array_like=True):
    """The first seven fields of a klines row: `close_ms` is needed, the fields before it are skipped."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_ms: int


_rows: Final = msgspec.json.Decoder(list[_Row])
_things: Final = msgspec.json.Decoder(list[msgspec.Raw])

Weight = Callable[[Question], int]
Holds = Callable[[Question, bytes, int], int]
"""For how many ms an answer received now is valid: takes question, body and the time (ms). Raises UNREADABLE."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint. `holds_text` is what docs/endpoints.md says about the validity that `holds` computes."""

    path: str
    summary: str
    parameters: tuple[Parameter, ...]
    weight: Weight
    holds: Holds
    holds_text: str
    mode: Mode = Mode.CACHED
    is_row_of_all: bool = False
    """Whether the answer about one symbol is a row of the answer about all symbols."""
    bucket: Bucket | None = None
    held_ms: int = HELD_MS
    """For how many ms an answer made from memory is valid."""
    kind: Kind | None = None
    """The kind of series that the endpoint's rows belong to, if the node can store them."""

    def thrifty_ms(self, question: Question, fresh_ms: int) -> int:
        """For how many ms an answer may still be served while weight is short; at least `fresh_ms`."""
        return max(fresh_ms, self.weight(question) * THRIFT_MS_PER_WEIGHT)


# --- how long answers hold -------------------------------------------------------------------------------------------


def _steady(holds_ms: int) -> Holds:
    return lambda _question, _body, _now_ms: holds_ms


def _is_past(question: Question, now_ms: int) -> bool:
    end_ms = question.number("endTime")
    return end_ms is not None and end_ms < now_ms - SETTLED_MS


def _klines_hold(question: Question, body: bytes, now_ms: int) -> int:
    rows = _rows.decode(body)
    is_full = question.number("startTime") is not None and len(rows) == question.number("limit")
    if not is_full and not _is_past(question, now_ms):
        left_ms = rows[-1].close_ms + 1 - now_ms if rows else 0  # the next kline appears at this one's close
        return min(MOVING_MS, left_ms) if left_ms > 0 else MOVING_MS
    return PAST_MS if not rows or rows[-1].close_ms < now_ms - SETTLED_MS else MOVING_MS


def _trades_hold(question: Question, body: bytes, now_ms: int) -> int:
    is_from = question.number("fromId") is not None or question.number("startTime") is not None
    is_full = is_from and len(_things.decode(body)) == question.number("limit")
    return MINUTE_MS if is_full or _is_past(question, now_ms) else MOVING_MS


def _funding_holds(question: Question, _body: bytes, now_ms: int) -> int:
    if _is_past(question, now_ms):
        return PAST_MS
    since_ms = now_ms % HOUR_MS
    return min(max(FUNDING_MS_MIN, since_ms // 10), FUNDING_MS_MAX, HOUR_MS - since_ms)


def _data_holds(question: Question, _body: bytes, now_ms: int) -> int:
    return PAST_MS if _is_past(question, now_ms) else DATA_MS


# --- what they take and cost -----------------------------------------------------------------------------------------

_SYMBOL: Final = Parameter("symbol", ParameterType.SYMBOL, "In either case.", is_required=True)
_ANY_SYMBOL: Final = Parameter("symbol", ParameterType.SYMBOL, "In either case; all symbols without it.")
_PAIR: Final = Parameter("pair", ParameterType.PAIR, "In either case.", is_required=True)
_INTERVAL: Final = Parameter(
    "interval",
    ParameterType.INTERVAL,
    "Case matters: 1m is a minute, 1M a month.",
    is_required=True,
    values=tuple(INTERVALS),
)
_START: Final = Parameter("startTime", ParameterType.TIME, "From this time on (ms).")
_END: Final = Parameter("endTime", ParameterType.TIME, "Up to this time (ms).")
_CONTRACT: Final = Parameter(
    "contractType",
    ParameterType.WORD,
    "Which contract of the pair.",
    is_required=True,
    values=("PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER", "TRADIFI_PERPETUAL"),
)
_PERIOD: Final = Parameter(
    "period",
    ParameterType.WORD,
    "Of the statistics.",
    is_required=True,
    values=("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d"),
)


def _limit(default: int, most: int, *values: int) -> Parameter:
    return Parameter(
        "limit", ParameterType.NUMBER, "How many at most.", default=default, most=most, values=tuple(map(str, values))
    )


_KLINES: Final = (_INTERVAL, _START, _END, _limit(500, 1_500))
_STATISTICS: Final = (
    _PERIOD,
    Parameter("limit", ParameterType.NUMBER, "How many at most; 30 without it.", most=500),
    _START,
    _END,
)
_KLINES_TEXT: Final = "1 s; 5 min once all its rows have closed"
_PRICES_TEXT: Final = (
    f"of PRICE_KLINES: until a kline changes or closes, 1 s with the one in progress; else {_KLINES_TEXT}"
)
_DATA_TEXT: Final = "15 s; 5 min when endTime has passed"
_METRICS_TEXT: Final = f"of METRICS, with period=5m: 15 s, 1 min without the newest row; else {_DATA_TEXT}"


_FUNDING_TEXT: Final = (
    "of FUNDING, with a symbol: 1 min, but not into the minute before a full hour; else a tenth of the time since the "
    "full hour, between 5 s and 5 min; 5 min when endTime has passed"
)


def _costs(weight: int) -> Weight:
    return lambda _question: weight


def _by_symbol(one: int, every: int) -> Weight:
    return lambda question: one if "symbol" in question.params else every


def _klines_cost(question: Question) -> int:
    return klines_weight(question.number("limit") or 500)


def _depth_costs(question: Question) -> int:
    return depth_weight(question.number("limit") or 500)


def _klines(name: str, summary: str, *first: Parameter) -> Endpoint:
    return Endpoint(f"/fapi/v1/{name}", summary, (*first, *_KLINES), _klines_cost, _klines_hold, _KLINES_TEXT)


def _prices(kind: Kind, summary: str) -> Endpoint:
    first = _PAIR if kind.of_pair else _SYMBOL
    return Endpoint(
        kind.rest.path,
        summary,
        (first, *_KLINES),
        _klines_cost,
        _klines_hold,
        _PRICES_TEXT,
        Mode.STORED,
        kind=kind,
    )


def _moving(
    path: str, summary: str, one: int, every: int, holds_text: str = "1 s", mode: Mode = Mode.CACHED
) -> Endpoint:
    weight = _by_symbol(one, every)
    return Endpoint(path, summary, (_ANY_SYMBOL,), weight, _steady(MOVING_MS), holds_text, mode, is_row_of_all=True)


def _seldom(name: str, summary: str, weight: Weight, *parameters: Parameter) -> Endpoint:
    return Endpoint(f"/fapi/v1/{name}", summary, parameters, weight, _steady(SELDOM_MS), "1 min")


def _statistics(name: str, summary: str, *first: Parameter) -> Endpoint:
    kind = METRICS.get(name)
    return Endpoint(
        f"/futures/data/{name}",
        summary,
        (*(first or (_SYMBOL,)), *_STATISTICS),
        _costs(0),
        _data_holds,
        _DATA_TEXT if kind is None else _METRICS_TEXT,
        Mode.CACHED if kind is None else Mode.STORED,
        bucket=Bucket.BASIS if kind is None else kind.rest.bucket,
        kind=kind,
    )


_TABLE: Final = (
    Endpoint(
        "/fapi/v1/depth",
        "Order book",
        (_SYMBOL, _limit(500, 1_000, *depth_limits())),
        _depth_costs,
        _steady(BOOK_MS),
        "of a book that the collector holds, heard within 1 s: made for each request; else as pass-through 0.25 s",
        Mode.HELD,
        held_ms=NOW_MS,
    ),
    Endpoint(
        "/fapi/v1/rpiDepth",
        "Order book with retail price improvement orders",
        (_SYMBOL, _limit(1_000, 1_000, 1_000)),
        _costs(20),
        _steady(BOOK_MS),
        "0.25 s",
    ),
    Endpoint("/fapi/v1/trades", "Newest trades", (_SYMBOL, _limit(500, 1_000)), _costs(5), _steady(MOVING_MS), "1 s"),
    Endpoint(
        "/fapi/v1/aggTrades",
        "Trades of one order at one price, together; of the last 48 hours",
        (_SYMBOL, Parameter("fromId", ParameterType.NUMBER, "From this number on."), _START, _END, _limit(500, 1_000)),
        _costs(20),
        _trades_hold,
        "the newest: 0.25 s, of a stream heard within 10 s, for 32 symbols at a time; else as pass-through 1 s; "
        "1 min for a full page from fromId or startTime, or when endTime has passed",
        Mode.HELD,
    ),
    _klines("continuousKlines", "Klines of a pair's contract, whichever it is", _PAIR, _CONTRACT),
    _prices(INDEX, "Klines of the index price"),
    _prices(MARK, "Klines of the mark price"),
    _prices(PREMIUM, "Klines of the premium index"),
    _moving(
        "/fapi/v1/premiumIndex",
        "Mark price, index price and funding rate",
        1,
        10,
        "0.25 s; as pass-through 1 s, where the stream lacks a symbol or has been silent for 3 s",
        Mode.HELD,
    ),
    Endpoint(
        "/fapi/v1/fundingRate",
        "Funding rates of the past",
        (
            _ANY_SYMBOL,
            _START,
            _END,
            Parameter("limit", ParameterType.NUMBER, "How many at most; 100 without it.", most=1_000),
        ),
        _costs(0),
        _funding_holds,
        _FUNDING_TEXT,
        Mode.STORED,
        bucket=Bucket.FUNDING,
        kind=FUNDING,
    ),
    Endpoint(
        "/fapi/v1/fundingInfo",
        "Symbols whose funding differs: cap, floor, hours between",
        (),
        _costs(0),
        _steady(LISTED_MS),
        "5 min",
        bucket=Bucket.FUNDING,
    ),
    _moving("/fapi/v1/ticker/24hr", "Change of the last 24 hours", 1, 40),
    _moving("/fapi/v1/ticker/price", "Last price", 1, 2),
    _moving("/fapi/v2/ticker/price", "Last price", 1, 2),
    _moving(
        "/fapi/v1/ticker/bookTicker",
        "Best bid and ask",
        2,
        5,
        "one: 0.25 s, of a stream heard within 3 s, for 32 symbols at a time; else, and all: as pass-through 1 s",
        Mode.HELD,
    ),
    Endpoint("/fapi/v1/openInterest", "Open interest now", (_SYMBOL,), _costs(1), _steady(MOVING_MS), "1 s"),
    Endpoint("/fapi/v1/indexInfo", "What an index is made of", (_ANY_SYMBOL,), _costs(1), _steady(SLOW_MS), "5 s"),
    Endpoint(
        "/fapi/v1/constituents",
        "Where an index price comes from",
        (_SYMBOL,),
        _costs(2),
        _steady(SLOW_MS),
        "5 s",
    ),
    Endpoint(
        "/fapi/v1/assetIndex",
        "Rates of assets as margin",
        (Parameter("symbol", ParameterType.PAIR, "An asset and USD, such as BTCUSD; all without it."),),
        _by_symbol(1, 10),
        _steady(MOVING_MS),
        "1 s",
    ),
    _seldom("insuranceBalance", "The insurance fund", _costs(1), _ANY_SYMBOL),
    _seldom("symbolAdlRisk", "How near symbols are to auto-deleveraging", _costs(1), _ANY_SYMBOL),
    _seldom("tradingSchedule", "When traditional markets are open", _costs(5)),
    _statistics("openInterestHist", "Open interest"),
    _statistics("topLongShortAccountRatio", "Accounts of top traders, long to short"),
    _statistics("topLongShortPositionRatio", "Positions of top traders, long to short"),
    _statistics("globalLongShortAccountRatio", "Accounts of all, long to short"),
    _statistics("takerlongshortRatio", "Volume of takers, bought to sold"),
    _statistics("basis", "Futures price over index price", _PAIR, _CONTRACT),
    Endpoint(
        "/futures/data/delivery-price",
        "Prices at which quarterly contracts were delivered",
        (_PAIR,),
        _costs(0),
        _steady(LISTED_MS),
        "5 min",
        bucket=Bucket.DELIVERY,
    ),
)

ENDPOINTS: Final[Mapping[str, Endpoint]] = {endpoint.path: endpoint for endpoint in _TABLE}
