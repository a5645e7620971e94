"""Frames and rows as OKX writes them."""

import json

from app.domain.instrument import Instrument, Market, Unit
from app.okx.venue import OkxVenue

SPOT = Instrument("okx", Market.SPOT, "BTC-USDT", "BTC-USDT")
LINEAR = Instrument("okx", Market.SWAP, "BTC-USDT", "BTC-USDT-SWAP", Unit.CONTRACT, "0.01")
INVERSE = Instrument("okx", Market.SWAP, "BTC-USD", "BTC-USD-SWAP", Unit.CONTRACT, "100", is_inverse=True)
FUTURE = Instrument("okx", Market.FUTURE, "BTC-USD-261225", "BTC-USD-261225", Unit.CONTRACT, "100", is_inverse=True)
ALL = (SPOT, LINEAR, INVERSE, FUTURE)


def venue() -> OkxVenue:
    okx = OkxVenue()
    okx.learn(ALL)
    return okx


def push(channel: str, instrument: Instrument, *rows: object, **more: object) -> bytes:
    arg = {"channel": channel, "instId": instrument.native}
    return json.dumps({"arg": arg, **more, "data": rows}, separators=(",", ":")).encode()


def answer(*rows: object, code: str = "0") -> bytes:
    return json.dumps({"code": code, "msg": "", "data": rows}).encode()


def trade(number: int, price: str = "62500.1", amount: str = "3", side: str = "buy") -> dict[str, object]:
    times = {"ts": str(1_798_000_000_000 + number)}
    return {"instId": "", "tradeId": str(number), "px": price, "sz": amount, "side": side, "source": "0", **times}
