"""The final klines of one minute as the exchange's REST prints them, read without the collector's mappers."""

import json
from typing import Any, Final

from app.domain.instrument import Instrument, Market
from infra.sandbox.grid import MINUTE_MS
from tests.programs.collect_seeds.venue_world import VenueWorld

_NAMES: Final = ("open", "high", "low", "close", "volume")


def true_klines(world: VenueWorld, instrument: Instrument, first_ms: int) -> dict[int, dict[str, str]]:
    """By open time (ms), from `first_ms` until now: the texts of open, high, low, close and volume in coins."""
    native, until_ms = instrument.native, world.now_ms // MINUTE_MS * MINUTE_MS
    rows: list[list[str]]
    match world.plan.exchange:
        case "binance":
            found = _ask(world, "/fapi/v1/klines", symbol=native, interval="1m", startTime=first_ms, limit=1_000)
            rows = [row[:6] for row in found]
        case "okx":
            found = _ask(
                world, "/api/v5/market/history-candles", instId=native, bar="1m", before=first_ms - 1, limit=300
            )
            volume = 5 if instrument.market is Market.SPOT else 6
            rows = [[*row[:5], row[volume]] for row in found["data"] if row[8] == "1"]
        case _:
            found = _ask(
                world,
                "/api/v2/public/get_tradingview_chart_data",
                instrument_name=native,
                resolution="1",
                start_timestamp=first_ms,
                end_timestamp=until_ms - 1,
            )["result"]
            rows = [list(row) for row in zip(found["ticks"], *(found[name] for name in _NAMES), strict=True)]
    texts = {int(row[0]): dict(zip(_NAMES, row[1:], strict=True)) for row in rows}
    return {open_ms: row for open_ms, row in texts.items() if open_ms < until_ms}


def _ask(world: VenueWorld, path: str, **params: object) -> Any:
    body = world.ask(path, **params).body
    return json.loads(body, parse_float=str, parse_int=str)
