"""Recorded exchange rows through the whole node: decoded, stored and served over HTTP, byte for byte the same."""

import gzip
import json
from pathlib import Path

import httpx

from app.binance import archive_csv, rest_rows
from app.domain.interval import INTERVALS
from app.domain.kline import Kline, Precision
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from app.node.node import Node
from app.node.parts import Parts
from app.settings import load
from infra.sqlite.sqlite_store import SqliteWriter

NOW_MS = 1_771_000_000_000 + 20 * 86_400_000  # later than everything that was recorded


class StandingClock:
    def now_ms(self) -> int:
        return NOW_MS

    def steady_ms(self) -> int:
        return NOW_MS

    def boot(self) -> str:
        return ""

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("nothing here waits")


async def served(folder: Path, recorded: dict[Series, tuple[Source, list[Kline]]]) -> dict[Series, bytes]:
    """Store `recorded` and page through each series at a node without an exchange; return the bodies."""
    url = f"sqlite:///{folder}/klinenode.db"
    writer = await SqliteWriter.open(url, StandingClock())
    for series, (source, rows) in recorded.items():
        grid = series.interval.grid
        spans = Spans(Span(row.open_ms, grid.shift(row.open_ms, 1)) for row in rows)
        await writer.commit([Batch(series, source, spans, rows)])
    await writer.close()
    node = Node(Parts(load({"db_url": url, "read_through": False, "log_level": "ERROR"}, None), StandingClock()))
    await node.parts.load_for_reading()
    answers = {}
    transport = httpx.ASGITransport(app=node.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        for series, (_, rows) in recorded.items():
            pages = []
            for at in range(0, len(rows), 1500):
                page = rows[at : at + 1500]
                answer = await client.get(
                    "/fapi/v1/klines",
                    params={
                        "symbol": series.symbol, "interval": series.interval.code, "limit": 1500,
                        "startTime": page[0].open_ms, "endTime": page[-1].open_ms,
                    },
                )  # fmt: skip
                assert answer.status_code == 200, answer.text
                pages.append(answer.content[1:-1])
            answers[series] = b"[" + b",".join(pages) + b"]"
    await node.close()
    return answers


async def test_every_recorded_rest_answer_is_served_as_it_was_received(realdata: Path, tmp_path: Path) -> None:
    day = INTERVALS["1d"]
    answers = json.loads((realdata / "rest" / "fapi_klines_1d_519sym_2025-06.json").read_bytes())
    bodies = {
        Series(KLINES, symbol, day): json.dumps(rows, separators=(",", ":")).encode()
        for symbol, rows in answers.items()
        if rows
    }
    recorded = {series: (Source.REST, rest_rows.decode(body, day.grid)) for series, body in bodies.items()}
    assert await served(tmp_path, recorded) == bodies


async def test_a_recorded_month_of_minutes_is_served_as_the_archive_has_it(realdata: Path, tmp_path: Path) -> None:
    series = Series(KLINES, "ALGOUSDT", INTERVALS["1m"])
    with gzip.open(realdata / "klines_vision_1m" / "ALGOUSDT-1m-2026-02.csv.gz", "rt") as file:
        text = file.read()
    rows = list(archive_csv.parse(text, series.interval.grid, Precision(4, 1)))
    quoted = [
        ",".join(field if number in (0, 6, 8) else f'"{field}"' for number, field in enumerate(line.split(",")))
        for line in text.splitlines()[1:]
    ]
    body = f"[[{'],['.join(quoted)}]]".encode()
    assert await served(tmp_path, {series: (Source.ARCHIVE, rows)}) == {series: body}
