"""`klinenode replay` as a real process at 1,000 times, beside the holder of the writer lease."""

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from app.binance import rest_rows
from app.domain.interval import HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.node.stores import Reading, store_of
from tests.patience import PATIENCE_S
from tests.replaying.material import DAY, SYMBOLS, filled
from tests.system.processes import Place, Programs, until

SPAN: Final = Span(DAY, DAY + 12 * HOUR_MS)
BEGIN_MS: Final = DAY + 6 * HOUR_MS
MINUTES: Final = 30
CODES: Final = ("1m", "5m", "1h")


async def test_a_day_is_replayed_through_sockets_and_rest(tmp_path: Path) -> None:
    url = await filled(tmp_path / "klinenode.db", SPAN)
    lease = store_of(url).lease(url)
    assert await lease.try_acquire("http://writer")
    async with Programs(tmp_path) as programs:
        place = Place(programs, upstream_port=9)
        bounds = (
            "--start",
            str(SPAN.start_ms),
            "--end",
            str(SPAN.end_ms),
            "--speed",
            "1000",
            "--port",
            str(place.port),
        )
        program = programs.start("replay", *bounds, env=place.env)
        await until(place.is_up, "the replay answers")
        sent = await asyncio.wait_for(receive(place), PATIENCE_S)
        async with place.operator() as client:
            report = (await client.get("/v1/replay")).json()
        print(f"lag at 1,000 times: {report['lag']}, {report['stood_ms']} ms lost")
        assert report["trouble"] == []
        program.process.terminate()
        assert await program.ended() == 0
        assert not program.events("TaskEnded")
    assert lease.is_held()
    await lease.release()
    await check(url, sent)


async def receive(place: Place) -> dict[Series, list[Kline]]:
    """The closing klines of all streams for MINUTES; REST is asked meanwhile and never lacks one that was sent."""
    sent: dict[Series, list[Kline]] = defaultdict(list)
    streams = [f"{symbol.lower()}@kline_{code}" for symbol in SYMBOLS for code in CODES]
    address = f"ws://127.0.0.1:{place.port}/market/stream?streams={'/'.join(streams)}"
    async with place.operator() as client:
        set_to = {"pause": True, "seek": BEGIN_MS, "loop": True}
        (await client.post("/v1/replay", json=set_to)).raise_for_status()
        async with connect(address, proxy=None) as socket:
            (await client.post("/v1/replay", json={"pause": False})).raise_for_status()
            await follow(client, socket, sent)
    return sent


async def follow(client: Any, socket: ClientConnection, sent: dict[Series, list[Kline]]) -> None:
    """Collect the closing klines, and ask REST at every tenth of the first symbol's minutes."""
    begun = Series(KLINES, SYMBOLS[0], M1)
    while len(sent[begun]) < MINUTES:
        event = json.loads(await socket.recv())["data"]
        series, kline = closed(event)
        if kline is None:
            continue
        sent[series].append(kline)
        if len(sent[begun]) % 10 == 0 and series == begun:
            await agrees(client, series, kline)


async def agrees(client: Any, series: Series, kline: Kline) -> None:
    """Assert that REST has a kline that was sent, and nothing that closes after the replay's time."""
    query = {"symbol": series.symbol, "interval": series.interval.code, "limit": "30"}
    rows = rest_rows.decode((await client.get("/fapi/v1/klines", params=query)).content, M1.grid, series.symbol)
    now_ms = (await client.get("/fapi/v1/time")).json()["serverTime"]
    assert kline in rows
    assert rows[-1].open_ms + MINUTE_MS <= now_ms


def closed(event: dict[str, Any]) -> tuple[Series, Kline | None]:
    k = event["k"]
    series = Series(KLINES, k["s"], INTERVALS[k["i"]])
    return series, Kline(*(k[name] for name in "tohlcvqnVQ")) if k["x"] else None


async def check(url: str, sent: dict[Series, list[Kline]]) -> None:
    """Assert that each series was sent from its first close on, each kline once and in order, as it is stored."""
    reader = store_of(url).reader(Reading(url))
    end_ms = BEGIN_MS + MINUTES * MINUTE_MS
    for code in CODES:
        for symbol in SYMBOLS:
            series = Series(KLINES, symbol, INTERVALS[code])
            stored = await reader.read_spans({series: Span(BEGIN_MS, end_ms)})
            due = [row for row in stored.get(series, ()) if row.open_ms + series.interval.grid.step_ms < end_ms]
            assert sent.get(series, [])[: len(due)] == due, series
            assert len(due) == max(0, MINUTES * MINUTE_MS // series.interval.grid.step_ms - 1)
    await reader.close()
