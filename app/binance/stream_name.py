"""The names of Binance's market streams, and the properties that follow from a name (binance-facts section 5)."""

import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from app.binance import coin_margined
from app.domain import letters
from app.domain.interval import INTERVALS

Route = Literal["market", "public"]

NAME_CHARS_MAX: Final = 80  # the longest there is has about 50
_PARSED_MAX: Final = 16_384  # cached names; twice the most that are subscribed upstream
_STEADY_S: Final = 30  # streams that send every few seconds in any case
_CHANGES_S: Final = 300  # streams that send when the price or the book of a symbol changes
_RARE_S: Final = 3_600  # streams of events that may be rare


class StreamName(NamedTuple):
    """A stream's name and what follows from it.

    `symbol` is in upper case; for continuousKline it is `<pair>_<contractType>`, for assetIndex an asset and USD, and
    "" for a stream of all symbols. `interval` is "" for streams that are not klines.
    """

    name: str
    kind: str
    route: Route
    symbol: str
    interval: str
    is_state: bool
    """Whether each frame is a complete state, so that a slow client needs only the newest one."""
    quiet_s: int
    """A stream that has delivered and then sends nothing for longer than this is considered dead."""

    @property
    def listed(self) -> tuple[str, ...]:
        """The symbols or pairs of which at least one must be listed for the stream to exist; empty: no such condition.

        Example with two: `ibtcusdt@kline_1m` may be klines of BTCUSDT's price index, or of a symbol IBTCUSDT, as
        `iotausdt@kline_1m` is klines of IOTAUSDT.
        """
        match self.kind:
            case "continuousKline":
                return (self.symbol.partition("_")[0],)
            case "kline" if self.symbol[0] in _PRICE_PREFIXES and len(self.symbol) > 1:
                return (self.symbol, self.symbol[1:])
            case "assetIndex":
                return ()
        return (self.symbol,) if self.symbol else ()


class _Kind(NamedTuple):
    route: Route
    is_state: bool
    quiet_s: int


_KINDS: Final[dict[str, _Kind]] = {
    "aggTrade": _Kind("market", False, _CHANGES_S),
    "trade": _Kind("public", False, _CHANGES_S),
    "markPrice": _Kind("market", True, _STEADY_S),
    "kline": _Kind("market", True, _RARE_S),
    "priceKline": _Kind("market", True, _RARE_S),
    "continuousKline": _Kind("market", True, _RARE_S),
    "miniTicker": _Kind("market", True, _CHANGES_S),
    "ticker": _Kind("market", True, _CHANGES_S),
    "bookTicker": _Kind("public", True, _CHANGES_S),
    "partialDepth": _Kind("public", True, _CHANGES_S),
    "depth": _Kind("public", False, _CHANGES_S),
    "rpiDepth": _Kind("public", False, _CHANGES_S),
    "forceOrder": _Kind("market", False, 24 * _RARE_S),
    "compositeIndex": _Kind("market", True, _STEADY_S),
    "assetIndex": _Kind("market", True, _STEADY_S),
    "!markPrice@arr": _Kind("market", False, _STEADY_S),  # one moment is sent as two frames with different symbols
    "!miniTicker@arr": _Kind("market", False, _STEADY_S),  # only symbols that changed
    "!ticker@arr": _Kind("market", False, _STEADY_S),
    "!bookTicker": _Kind("public", False, _STEADY_S),  # one frame for each symbol
    "!forceOrder@arr": _Kind("market", False, _RARE_S),
    "!contractInfo": _Kind("market", False, 24 * _RARE_S),
    "!assetIndex@arr": _Kind("market", True, _STEADY_S),
    "tradingSession": _Kind("market", False, _RARE_S),
}
"""By `StreamName.kind`; routes from binance-facts section 5.1. `trade` is undocumented and was measured on /public."""

_ALL: Final = re.compile(
    r"(?:(!markPrice@arr)(?:@1s)?|(!miniTicker@arr|!ticker@arr|!bookTicker|!forceOrder@arr|!contractInfo"
    r"|!assetIndex@arr|tradingSession))"
)
_ONE: Final = re.compile(
    r"([^@/!\s\x00-\x1f\"\\]{1,50})@(?:"
    r"(aggTrade|trade|miniTicker|ticker|bookTicker|forceOrder|compositeIndex|assetIndex)"
    r"|(markPrice)(?:@1s)?"
    r"|(kline|continuousKline)_(\w{2,3})"
    r"|depth(?:5|10|20)(?:@(?:100|250|500)ms)?"
    r"|(depth)(?:@(?:100|250|500)ms)?"
    r"|(rpiDepth)@500ms)"
)
_PRICE_PREFIXES: Final = ("I", "P")
_PRICE: Final = re.compile(r"[ip]([^a-z@]+)@kline_\w+")
"""Klines of the price index and the premium index: names of klines with a letter before the symbol, which is in upper
case: `iBTCUSDT@kline_1m`, `pBTCUSDT@kline_1m`. Undocumented (binance-facts section 5.1)."""
_SECONDS: Final = "1s"  # only streams of continuous klines have it; REST does not
_GRACE_S: Final = 15  # a closing frame is sent up to 2 s after the close, and a socket may be slow


def parse(name: str) -> StreamName | None:
    """Parse a stream's name; None if no stream has it. The exchange acknowledges such a name and stays silent."""
    return None if len(name) > NAME_CHARS_MAX else _parse(name)  # bounds the memory of the cache


def is_uncertain(name: StreamName) -> bool:
    """Whether no list of the exchange tells if the stream exists: asset indexes and coin-margined contracts."""
    return bool(name.symbol) and (not name.listed or any(map(_is_coin_margined, name.listed)))


def _is_coin_margined(name: str) -> bool:
    return coin_margined.is_symbol(name) or coin_margined.is_pair(name)


@lru_cache(_PARSED_MAX)
def _parse(name: str) -> StreamName | None:
    if (found := _ALL.fullmatch(name)) is not None:
        kind = next(group for group in found.groups() if group)
        every = _KINDS[kind]
        return StreamName(name, kind, every.route, "", "", every.is_state, every.quiet_s)
    found = _ONE.fullmatch(name)
    if found is None:
        return None
    kind = found[2] or found[3] or found[4] or found[6] or found[7] or "partialDepth"
    interval, symbol = found[5] or "", letters.upper(found[1])
    if (price := _PRICE.fullmatch(name)) is not None:
        kind, symbol = "priceKline", price[1]
    elif found[1] != letters.lower(found[1]):
        return None
    route, is_state, quiet_s = _KINDS[kind]
    if interval == _SECONDS and kind == "continuousKline":
        quiet_s = _CHANGES_S  # unconfirmed: whether a second without trades has a kline
    elif interval in INTERVALS:
        quiet_s = min(quiet_s, INTERVALS[interval].grid.step_ms // 1_000 + _GRACE_S)
    elif interval:
        return None
    return StreamName(name, kind, route, symbol, interval, is_state, quiet_s)


def is_closing(payload: bytes) -> bool:
    """Whether a kline event is the closing one of its kline (`"x":true`)."""
    return b'"x":true' in payload
