"""Checks of python-binance: klines, history, tickers, book, funding, and kline streams of both kinds across a close."""

import asyncio
from functools import partial
from typing import Any

from tests.programs.clients.raw import Raw

ID = "BTCUSDT"
CLOSE_S = 75.0


def check(page: dict[str, Any], raw: Raw) -> None:
    """Compare what the page's client received with the node's own answers."""
    client = page["client"]
    rows = raw.closed(ID, "1m", 700)
    assert client.futures_klines(symbol=ID, interval="1m", startTime=rows[0][0], limit=700) == rows
    history = client.futures_historical_klines(ID, "1m", rows[0][0], rows[-1][0])
    assert history == rows
    told = {each["symbol"] for each in raw.get("/fapi/v1/exchangeInfo")["symbols"]}
    assert {each["symbol"] for each in client.futures_exchange_info()["symbols"]} == told
    asks: list[tuple[str, Any, dict[str, Any]]] = [
        ("/fapi/v1/ticker/24hr", client.futures_ticker, {"symbol": ID}),
        ("/fapi/v1/depth", client.futures_order_book, {"symbol": ID, "limit": 10}),
        ("/fapi/v1/premiumIndex", client.futures_mark_price, {"symbol": "XRPUSDT"}),
        ("/fapi/v1/fundingRate", client.futures_funding_rate, {"symbol": ID, "limit": 20}),
        ("/fapi/v1/openInterest", client.futures_open_interest, {"symbol": ID}),
    ]
    for path, ask, query in asks:
        theirs, mine = raw.still(path, partial(ask, **query), **query)
        same = {name: value for name, value in mine.items() if name in theirs} if isinstance(mine, dict) else mine
        assert same == theirs, path
    asyncio.run(streams(page, raw))


async def streams(page: dict[str, Any], raw: Raw) -> None:
    client = page["AsyncClient"]()
    sockets = page["BinanceSocketManager"](client)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(across_a_close(sockets.futures_multiplex_socket([f"{ID.lower()}@kline_1m"]), raw))
            group.create_task(across_a_close(sockets.kline_futures_socket(ID, interval="1m"), raw))
    finally:
        await client.close_connection()


async def across_a_close(socket: Any, raw: Raw) -> None:
    async with asyncio.timeout(CLOSE_S), socket as stream:
        while True:
            message = await stream.recv()
            kline = message.get("data", message)["k"]
            if kline["x"]:
                break
        assert raw.comes_to_serve([kline[name] for name in "tohlcvTqnVQ"], ID, "1m")
