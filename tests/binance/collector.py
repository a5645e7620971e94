"""Frames and answers of Binance for the collector's tests."""

import json

from app.binance.collector_venue import BinanceVenue
from app.domain.instrument import Instrument, Market

SWAP = Instrument("binance", Market.SWAP, "BTC-USDT", "BTCUSDT")
FUTURE = Instrument("binance", Market.FUTURE, "BTC-USDT-261225", "BTCUSDT_261225")
CHINESE = Instrument("binance", Market.SWAP, "币安人生-USDT", "币安人生USDT")
ALL = (SWAP, FUTURE, CHINESE)
AT_MS = 1_798_000_000_000


def venue() -> BinanceVenue:
    binance = BinanceVenue()
    binance.learn(ALL)
    return binance


def frame(stream: str, **event: object) -> bytes:
    text = json.dumps({"stream": stream, "data": event}, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def trade(number: int, **other: object) -> dict[str, object]:
    ids = {"a": number, "f": number, "l": number, "T": AT_MS + number}
    return {"p": "62500.10", "q": "0.120", "nq": "0.100", **ids, "m": True, **other}


def event(kind: str, symbol: str = "BTCUSDT", **more: object) -> dict[str, object]:
    return {"e": kind, "E": AT_MS, "s": symbol, **more}
