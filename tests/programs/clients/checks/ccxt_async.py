"""Checks of ccxt with asyncio: klines of many symbols and other market data, requested concurrently."""

import asyncio
from typing import Any

from tests.programs.clients.raw import Raw, floats

NAMES = {"BTC/USDT:USDT": "BTCUSDT", "ETH/USDT:USDT": "ETHUSDT", "XRP/USDT:USDT": "XRPUSDT"}
INTERVALS = ("1m", "5m", "1h")


def check(page: dict[str, Any], raw: Raw) -> None:
    """Compare what the page's client received with the node's own answers."""
    asyncio.run(_check(page["new_exchange"](), raw))


async def _check(exchange: Any, raw: Raw) -> None:
    try:
        await exchange.load_markets()
        wanted = [(name, interval) for name in NAMES for interval in INTERVALS]
        rows = {key: raw.closed(NAMES[key[0]], key[1], 50) for key in wanted}
        async with asyncio.TaskGroup() as group:
            asked = {
                key: group.create_task(exchange.fetch_ohlcv(*key, since=rows[key][0][0], limit=50)) for key in wanted
            }
        for key, task in asked.items():
            assert task.result() == [floats(row) for row in rows[key]], key
        tickers = await exchange.fetch_tickers(list(NAMES))
        assert tickers.keys() == NAMES.keys()
        rates = await exchange.fetch_funding_rates(list(NAMES))
        for name, symbol in NAMES.items():
            told = raw.get("/fapi/v1/premiumIndex", symbol=symbol)["lastFundingRate"]
            assert rates[name]["fundingRate"] == float(told)
    finally:
        await exchange.close()
