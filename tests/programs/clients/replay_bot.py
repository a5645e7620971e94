"""A bot on a replayed day, by the page of its client alone: it trades on closes, and prints its decisions as JSON.

    python -m tests.programs.clients.replay_bot <page> <address of the replay, host:port> <closes>

It runs under the client's interpreter (.clients/), and knows nothing of the database.
"""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.programs.clients.bot_rule import WINDOW, Bot
from tests.programs.clients.pages import blocks

PAGES = Path(__file__).parents[3] / "docs/clients"
BTC, ID = "BTC/USDT:USDT", "BTCUSDT"


def main(page: str, address: str, closes: int) -> None:
    """Run the page's code, then the bot with the objects that it made."""
    made: dict[str, Any] = {"__name__": "page"}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks(PAGES / f"{page}.md", "python"):
            exec(compile(block.replace("127.0.0.1:8000", address), f"{page}.md", "exec"), made)
    closed = {"ccxt-pro": by_ccxt, "python-binance": by_python_binance}[page](made)
    print(json.dumps(asyncio.run(decisions(closed, closes))))


async def decisions(closed: AsyncIterator[tuple[int, float]], closes: int) -> list[tuple[int, str]]:
    """What the bot decides at each of so many closes, the first WINDOW of which only warm it up."""
    bot, made = Bot(), []
    async with contextlib.aclosing(closed):  # type: ignore[type-var]
        async for open_ms, close in closed:
            if (decision := bot.closed(close)) is not None:
                made.append((open_ms, decision))
            if len(made) == closes:
                break
    return made


async def by_ccxt(made: dict[str, Any]) -> AsyncIterator[tuple[int, float]]:
    """Closed minutes: history by fetch_ohlcv, then each candle of watch_ohlcv; of a replay every one is closed."""
    exchange = made["new_exchange"]()
    try:
        await exchange.load_markets()
        await exchange.watch_ohlcv(BTC, "1m")
        last_ms = 0
        for open_ms, *_, close, _ in await exchange.fetch_ohlcv(BTC, "1m", limit=WINDOW):
            last_ms = open_ms
            yield open_ms, close
        while True:
            for open_ms, *_, close, _ in list(exchange.ohlcvs[BTC]["1m"]):
                if open_ms > last_ms:
                    last_ms = open_ms
                    yield open_ms, close
            await exchange.watch_ohlcv(BTC, "1m")
    finally:
        await exchange.close()


async def by_python_binance(made: dict[str, Any]) -> AsyncIterator[tuple[int, float]]:
    """Closed minutes: history by futures_klines, then the closing events of a socket that is open before."""
    client = made["AsyncClient"]()
    sockets = made["BinanceSocketManager"](client)
    try:
        async with sockets.kline_futures_socket(ID, interval="1m") as stream:
            last_ms = 0
            for row in await client.futures_klines(symbol=ID, interval="1m", limit=WINDOW):
                last_ms = row[0]
                yield row[0], float(row[4])
            while True:
                kline = (await stream.recv())["k"]
                if kline["x"] and kline["t"] > last_ms:
                    last_ms = kline["t"]
                    yield kline["t"], float(kline["c"])
    finally:
        await client.close_connection()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
