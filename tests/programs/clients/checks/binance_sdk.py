"""Checks of Binance's own SDK, whose models reject wrong JSON types: REST, and a kline stream across a close."""

import asyncio
from typing import Any

from tests.programs.clients.raw import Raw

ID = "BTCUSDT"
CLOSE_S = 75.0


def check(page: dict[str, Any], raw: Raw) -> None:
    """Compare what the page's client received with the node's own answers."""
    rest = page["new_client"]().rest_api
    rest.test_connectivity()
    info = rest.exchange_information().data()
    told = raw.get("/fapi/v1/exchangeInfo")["symbols"]
    assert [each.symbol for each in info.symbols] == [each["symbol"] for each in told]
    rows = raw.closed(ID, "5m", 20)
    mine = rest.kline_candlestick_data(symbol=ID, interval="5m", start_time=rows[0][0], limit=20).data()
    assert [[str(value) for value in row] for row in mine] == [[str(value) for value in row] for row in rows]
    book, depth = raw.still("/fapi/v1/depth", lambda: rest.order_book(symbol=ID, limit=10).data(), symbol=ID, limit=10)
    assert (depth.last_update_id, depth.bids, depth.asks) == (book["lastUpdateId"], book["bids"], book["asks"])
    ticker, mine = raw.still(
        "/fapi/v1/ticker/24hr",
        lambda: rest.ticker24hr_price_change_statistics(symbol=ID).data().actual_instance,
        symbol=ID,
    )
    assert (mine.last_price, mine.volume, mine.count) == (ticker["lastPrice"], ticker["volume"], ticker["count"])
    events = raw.get("/fapi/v1/fundingRate", symbol=ID, limit=10)
    mine = rest.get_funding_rate_history(symbol=ID, limit=10).data()
    assert [(each.funding_time, each.funding_rate, each.mark_price) for each in mine] == [
        (each["fundingTime"], each["fundingRate"], each["markPrice"]) for each in events
    ]
    mark = rest.mark_price(symbol=ID).data().actual_instance
    assert mark.next_funding_time == raw.get("/fapi/v1/premiumIndex", symbol=ID)["nextFundingTime"]
    asyncio.run(across_a_close(page["new_client"](), raw))


async def across_a_close(client: Any, raw: Raw) -> None:
    closed = asyncio.get_running_loop().create_future()

    def listen(event: Any) -> None:
        if event.k.x and not closed.done():
            closed.set_result(event.k)

    await client.websocket_streams.create_connection()
    try:
        stream = await client.websocket_streams.kline_candlestick_streams(symbol=ID.lower(), interval="1m")
        stream.on("message", listen)
        kline = await asyncio.wait_for(closed, CLOSE_S)
    finally:
        await client.websocket_streams.close_connection(close_session=True)
    assert raw.comes_to_serve([kline.t, kline.o, kline.h, kline.l, kline.c, kline.v, kline.T], ID, "1m")
