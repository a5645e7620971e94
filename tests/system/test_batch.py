"""Batches and rolling windows of a running node say exactly what single requests say, and never ask the exchange."""

import gzip
from pathlib import Path

import httpx
import orjson
import pyarrow as pa
import zstandard

from app.domain.interval import HOUR_MS, MINUTE_MS
from app.domain.kline import Kline
from app.domain.rollup import added_up
from app.kinds.klines import encode
from tests.system.world import World, world

HELD = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
IDENTITY = {"Accept-Encoding": "identity"}


async def test_batches_and_windows_equal_single_requests_and_ask_the_exchange_nothing(tmp_path: Path) -> None:
    async with (
        world(tmp_path, symbols=6) as here,
        here.node(backfill_days=1, auto_sync_symbols=False, symbols=",".join(HELD), intervals="1m,1h") as watched,
    ):
        now_ms = await here.hold_whole(watched)
        async with watched.http() as client:
            client.headers.update(IDENTITY)
            for window in ("limit=7", f"startTime={now_ms - HOUR_MS}", f"endTime={now_ms - HOUR_MS}&limit=20"):
                for interval in ("1m", "1h"):
                    await _batch_equals_singles(client, interval, window)
            asked = len(here.sandbox.journal.since(0))
            await _errors_are_named(client, here)
            await _codings_and_conditions(client)
            await _arrow(client)
            await _windows_equal_brute_force(client, now_ms)
            assert len(here.sandbox.journal.since(0)) == asked, "the exchange was asked"


async def _batch_equals_singles(client: httpx.AsyncClient, interval: str, window: str) -> None:
    answer = await client.get(f"/v1/klines/batch?symbols=all&interval={interval}&{window}")
    singles = [(await client.get(f"/fapi/v1/klines?symbol={each}&interval={interval}&{window}")).text for each in HELD]
    whole = ",".join(f'"{symbol}":{body}' for symbol, body in zip(HELD, singles, strict=True))
    assert answer.text == f"{{{whole}}}"
    assert answer.headers["x-klinenode-batch"] == "symbols=3; whole=3; errors=0; holed=0"


async def _errors_are_named(client: httpx.AsyncClient, here: World) -> None:
    other = next(each for each in here.sandbox.exchange.symbols() if each not in HELD)
    answer = await client.get(f"/v1/klines/batch?symbols=NOPE,{other},btcusdt,BTCUSDT&interval=1m&limit=2")
    found = answer.json()
    assert list(found) == ["NOPE", other, "BTCUSDT"]
    assert (found["NOPE"]["code"], found[other]["code"], len(found["BTCUSDT"])) == (-1121, -1001, 2)
    assert "not held" in found[other]["msg"]
    assert answer.headers["x-klinenode-batch"] == "symbols=3; whole=1; errors=2; holed=0"
    assert answer.headers["cache-control"] == "public, max-age=0, must-revalidate"
    nothing = await client.get(f"/v1/klines/batch?symbols=NOPE,{other}&interval=1m")
    assert (nothing.status_code, nothing.headers["x-klinenode-reason"]) == (503, "not-held")
    assert nothing.json()[other] == found[other]
    assert (await client.get("/v1/klines/batch?symbols=NOPE&interval=1m")).status_code == 400


async def _codings_and_conditions(client: httpx.AsyncClient) -> None:
    path = "/v1/klines/batch?symbols=all&interval=1m&limit=300"
    plain = await client.get(path)
    tags = {plain.headers["etag"]}
    for coding, unpack in (
        ("gzip", gzip.decompress),
        ("zstd", zstandard.ZstdDecompressor().decompressobj().decompress),
    ):
        async with client.stream("GET", path, headers={"Accept-Encoding": coding}) as answer:
            packed = b"".join([piece async for piece in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == coding
        assert int(answer.headers["content-length"]) == len(packed) < len(plain.content) / 2
        assert unpack(packed) == plain.content
        tags.add(answer.headers["etag"])
        again = await client.get(path, headers={"Accept-Encoding": coding, "If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert len(tags) == 3, "a coding with the ETag of another"
    head = await client.head(path)
    assert (head.headers["content-length"], head.content) == (str(len(plain.content)), b"")


async def _arrow(client: httpx.AsyncClient) -> None:
    path = "/v1/klines/batch?symbols=BTCUSDT,NOPE,ETHUSDT&interval=1m&limit=50"
    rows = (await client.get(path)).json()
    for answer in (
        await client.get(f"{path}&format=arrow"),
        await client.get(path, headers={"Accept": "application/vnd.apache.arrow.stream", "Accept-Encoding": "gzip"}),
    ):
        table = pa.ipc.open_stream(answer.content).read_all()
        assert orjson.loads(table.schema.metadata[b"errors"]) == {"NOPE": rows["NOPE"]}
        assert table.column("symbol").to_pylist() == ["BTCUSDT"] * 50 + ["ETHUSDT"] * 50
        nothing = await client.get("/v1/klines/batch?symbols=NOPE&interval=1m&format=arrow")
        assert (nothing.status_code, nothing.json()) == (400, {"NOPE": rows["NOPE"]})
        for name, place in (("open_time", 0), ("close", 4), ("volume", 5), ("trades", 8)):
            text = [
                type(value)(row[place])
                for row, value in zip(rows["BTCUSDT"] + rows["ETHUSDT"], table.column(name).to_pylist(), strict=True)
            ]
            assert table.column(name).to_pylist() == text, name


async def _windows_equal_brute_force(client: httpx.AsyncClient, now_ms: int) -> None:
    path = f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500&endTime={now_ms}"
    minutes = [Kline(*row[:6], *row[7:11]) for row in (await client.get(path)).json()]
    end_ms = minutes[-1].open_ms + MINUTE_MS
    for window, step, limit in ((90, 1, 500), (60, 60, 10), (1440, 7, 8)):
        length_ms, step_ms = window * MINUTE_MS, step * MINUTE_MS
        newest_ms = (end_ms - length_ms) // step_ms * step_ms
        begins = range(newest_ms - (limit - 1) * step_ms, newest_ms + 1, step_ms)
        naive = []
        for begin_ms in begins:
            parts = [each for each in minutes if begin_ms <= each.open_ms < begin_ms + length_ms]
            made = added_up(parts, begin_ms)
            assert made is not None
            naive.append(encode(made, begin_ms + length_ms - 1))
        answer = await client.get(f"/v1/klines/rolling?symbol=BTCUSDT&window={window}m&step={step}m&limit={limit}")
        assert answer.content == b"[" + b",".join(naive) + b"]"
        again = await client.get(answer.request.url, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    hour = (await client.get("/v1/klines/rolling?symbol=BTCUSDT&window=1h&step=1h&limit=5")).json()
    stored = (await client.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=5")).json()
    assert hour == stored, "a window that is a kline differs from it"
    unheld = await client.get(f"/v1/klines/rolling?symbol=BTCUSDT&window=1h&startTime={now_ms - 50 * HOUR_MS}")
    assert (unheld.status_code, unheld.headers["x-klinenode-reason"]) == (503, "not-held")
    assert f"{(now_ms - 50 * HOUR_MS) // MINUTE_MS * MINUTE_MS + MINUTE_MS}-" in unheld.json()["error"]
