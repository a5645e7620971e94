"""Checks of ccxt.pro: klines across a close, order book, tickers, trades and mark prices as streams."""

import asyncio
from typing import Any

from tests.programs.clients.raw import Raw, floats, levels

BTC, ID = "BTC/USDT:USDT", "BTCUSDT"
CLOSE_S = 75.0  # a minute, and time for a busy machine
STREAM_S = 30.0


def check(page: dict[str, Any], raw: Raw) -> None:
    """Compare what the page's client received with the node's own answers."""
    asyncio.run(_check(page["new_exchange"](), raw, page["ccxt"].ChecksumError))


async def _check(exchange: Any, raw: Raw, begin_anew: type[Exception]) -> None:
    try:
        await exchange.load_markets()
        async with asyncio.TaskGroup() as group:
            for check_of in (across_a_close, trades, tickers):
                group.create_task(check_of(exchange, raw))
            group.create_task(order_book(exchange, raw, begin_anew))
        await asyncio.wait_for(exchange.un_watch_ohlcv(BTC, "1m"), STREAM_S)
    finally:
        await exchange.close()


async def across_a_close(exchange: Any, raw: Raw) -> None:
    async with asyncio.timeout(CLOSE_S):
        candles = await exchange.watch_ohlcv(BTC, "1m")
        open_ms = candles[-1][0]
        while candles[-1][0] == open_ms:
            candles = await exchange.watch_ohlcv(BTC, "1m")
        (closed,) = (each for each in exchange.ohlcvs[BTC]["1m"] if each[0] == open_ms)
        assert closed == floats(raw.klines(ID, "1m", startTime=open_ms, limit=1)[0])
        several = await exchange.watch_ohlcv_for_symbols([["ETH/USDT:USDT", "1m"], [BTC, "5m"]])
        assert several.keys() <= {BTC, "ETH/USDT:USDT"}


async def order_book(exchange: Any, raw: Raw, begin_anew: type[Exception]) -> None:
    """Check that the client's book equals the node's at the same update id.

    ccxt raises `begin_anew` when a snapshot is too old for the stream; watching the book again fetches another.
    """
    async with asyncio.timeout(STREAM_S):
        while True:
            try:
                book = await exchange.watch_order_book(BTC)
                told = raw.get("/fapi/v1/depth", symbol=ID, limit=20)
                while book["nonce"] < told["lastUpdateId"]:
                    book = await exchange.watch_order_book(BTC)
            except begin_anew:
                continue
            if book["nonce"] == told["lastUpdateId"]:
                assert [list(each) for each in book["bids"][:20]] == levels(told["bids"])
                assert [list(each) for each in book["asks"][:20]] == levels(told["asks"])
                return


async def trades(exchange: Any, raw: Raw) -> None:
    async with asyncio.timeout(STREAM_S):
        heard = list(await exchange.watch_trades(BTC))
        known = {str(each["id"]): each for each in raw.get("/fapi/v1/trades", symbol=ID, limit=1000)}
        known |= {str(each["a"]): each for each in raw.get("/fapi/v1/aggTrades", symbol=ID, limit=1000)}
        for each in heard:
            row = known.get(each["id"])
            assert row is None or each["price"] == float(row.get("price", row.get("p")))
        assert any(each["id"] in known for each in heard)


async def tickers(exchange: Any, raw: Raw) -> None:
    async with asyncio.timeout(STREAM_S):
        before = raw.get("/fapi/v1/ticker/24hr", symbol=ID)
        ticker = await exchange.watch_ticker(BTC)
        assert ticker["quoteVolume"] > 0
        assert ticker["timestamp"] >= before["openTime"]
        assert (await exchange.watch_bids_asks([BTC]))[BTC]["bid"] > 0
        mark = await exchange.watch_mark_price(BTC, {"use1sFreq": True})
        assert mark["markPrice"] > 0
