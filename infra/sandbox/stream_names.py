"""The names of streams, with the route and the interval of each (binance-facts sections 5.1 and 5.4)."""

from typing import Final, NamedTuple

from infra.sandbox.answers.klines import CONTRACT_TYPES
from infra.sandbox.candles import QUANTUM_MS
from infra.sandbox.grid import INTERVALS, SECOND_MS
from infra.sandbox.params import lower as lower_case
from infra.sandbox.params import upper

MARKET: Final = "market"
PUBLIC: Final = "public"
SECONDS: Final = "1s"  # only streams of continuous klines have this interval
_CONTINUOUS: Final = "continuousKline_"
_KLINE: Final = "kline_"
_PRICES: Final = {"i": "indexKline", "p": "premiumKline"}


class StreamSpec(NamedTuple):
    """A stream: `kind` of its events, `symbol` ("" for all), `detail`: number of levels, or interval."""

    kind: str
    symbol: str
    route: str
    every_ms: int
    detail: str = ""
    rival: str = ""
    """A symbol whose kline stream has the same name, and takes precedence while the symbol is listed."""


_SPEEDS: Final = {"": QUANTUM_MS, "@250ms": QUANTUM_MS, "@500ms": 500, "@100ms": 100}
_OF_ONE: Final[dict[str, tuple[str, str, int, str]]] = {
    "aggTrade": ("aggTrade", MARKET, QUANTUM_MS, ""),
    "trade": ("trade", PUBLIC, QUANTUM_MS, ""),
    "markPrice": ("markPrice", MARKET, 3 * SECOND_MS, ""),
    "markPrice@1s": ("markPrice", MARKET, SECOND_MS, ""),
    "ticker": ("ticker", MARKET, 2 * SECOND_MS, ""),
    "miniTicker": ("miniTicker", MARKET, 2 * SECOND_MS, ""),
    "forceOrder": ("forceOrder", MARKET, SECOND_MS, ""),
    "bookTicker": ("bookTicker", PUBLIC, 100, ""),
    "rpiDepth@500ms": ("depth", PUBLIC, 500, ""),
    **{f"depth{speed}": ("depth", PUBLIC, every_ms, "") for speed, every_ms in _SPEEDS.items()},
    **{
        f"depth{levels}{speed}": ("partialDepth", PUBLIC, every_ms, levels)
        for levels in ("5", "10", "20")
        for speed, every_ms in _SPEEDS.items()
    },
}
_OF_ALL: Final[dict[str, StreamSpec]] = {
    "!markPrice@arr": StreamSpec("markPrice", "", MARKET, 3 * SECOND_MS),
    "!markPrice@arr@1s": StreamSpec("markPrice", "", MARKET, SECOND_MS),
    "!ticker@arr": StreamSpec("ticker", "", MARKET, SECOND_MS),
    "!miniTicker@arr": StreamSpec("miniTicker", "", MARKET, SECOND_MS),
    "!forceOrder@arr": StreamSpec("forceOrder", "", MARKET, SECOND_MS),
    "!bookTicker": StreamSpec("bookTicker", "", PUBLIC, 5 * SECOND_MS),
}


def parse_kline(name: str) -> tuple[str, str] | None:
    """Symbol and interval of a kline stream; None for other names, and for names in upper case."""
    lower, found, interval = name.partition("@kline_")
    if not found or interval not in INTERVALS or lower != lower_case(lower):
        return None
    return upper(lower), interval


def parse_stream(name: str) -> StreamSpec | None:
    """The stream called `name`; None for kline streams of trades and for unknown names, which stay silent."""
    if name in _OF_ALL:
        return _OF_ALL[name]
    lower, _, what = name.partition("@")
    if what.startswith(_KLINE):
        return _prices(lower, what.removeprefix(_KLINE))
    if not lower or lower != lower_case(lower):
        return None
    if what in _OF_ONE:
        kind, route, every_ms, detail = _OF_ONE[what]
        return StreamSpec(kind, upper(lower), route, every_ms, detail)
    pair, _, contract = lower.partition("_")
    interval = what.removeprefix(_CONTINUOUS)
    if interval != what and interval in (SECONDS, *INTERVALS) and upper(contract) in CONTRACT_TYPES:
        return StreamSpec("continuousKline", upper(f"{pair}_{contract}"), MARKET, QUANTUM_MS, interval)
    return None


def _prices(name: str, interval: str) -> StreamSpec | None:
    """Klines of a price: `iBTCUSDT`, `pBTCUSDT`, or all in lower case, which may also be the name of a symbol."""
    kind, pair = _PRICES.get(name[:1]), name[1:]
    if kind is None or interval not in INTERVALS or pair not in (upper(pair), lower_case(pair)):
        return None
    rival = upper(name) if pair != upper(pair) else ""
    return StreamSpec(kind, upper(pair), MARKET, QUANTUM_MS, interval, rival)


def route_of(name: str) -> str | None:
    """The route that delivers a stream; on others it is acknowledged and stays silent."""
    if parse_kline(name) is not None:
        return MARKET
    spec = parse_stream(name)
    return spec.route if spec is not None else None
