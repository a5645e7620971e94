"""A database with past minutes to replay, and the machine's clock of a replay that a test controls."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from app.domain.interval import DAY_MS, INTERVALS, M1
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.rollup import roll_up
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.symbol_sync import DOCUMENT
from app.kinds.klines import KLINES
from infra.process.clock import SystemClock
from infra.sqlite.migrate import upgrade
from infra.sqlite.sqlite_store import SqliteWriter
from tests.clocks import VirtualClock

DAY = 20_776 * DAY_MS  # 2026-11-19
NEVER_MS = 4_133_404_800_000
LONGER = ("5m", "1h")
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def series(code: str = "1m", symbol: str = "BTCUSDT") -> Series:
    return Series(KLINES, symbol, INTERVALS[code])


def minutes(span: Span, symbol: str = "BTCUSDT") -> list[Kline]:
    """Minutes of a price that wanders; a minute in twenty has no trades."""
    random, price, made = Random(symbol), 1_000_000, []
    for open_ms in M1.grid.opens(*span):
        first, price = price, price + random.randint(-300, 300)
        o, h, low, c = (
            f"{each // 100}.{each % 100:02}" for each in (first, max(first, price), min(first, price), price)
        )
        traded = 0 if random.random() < 0.05 else random.randint(1, 99_999)
        volume, quote = (f"{traded / 1_000:.3f}", f"{traded}.10000") if traded else ("0", "0")
        trades = traded % 500 + 1 if traded else 0
        made.append(Kline(open_ms, o, h, low, c, volume, quote, trades, volume, quote))
    return made


def exchange_info(**dates: tuple[int, int]) -> bytes:
    """exchangeInfo of today that lists symbols with these onboard and delivery dates."""
    listed: list[dict[str, object]] = [
        {
            "symbol": name, "pair": name, "contractType": "PERPETUAL", "deliveryDate": end_ms, "onboardDate": start_ms,
            "status": "TRADING" if end_ms == NEVER_MS else "SETTLING", "baseAsset": name[:-4], "quoteAsset": "USDT",
            "marginAsset": "USDT", "pricePrecision": 2, "quantityPrecision": 3, "filters": [],
        }
        for name, (start_ms, end_ms) in dates.items()
    ]  # fmt: skip
    return json.dumps({"timezone": "UTC", "serverTime": 1, "symbols": listed}, separators=(",", ":")).encode()


def batches_of(span: Span, symbol: str, lacking: Span | None = None) -> list[Batch]:
    """Minutes of a symbol and the longer klines made of them; minutes of `lacking` are left out."""
    rows = minutes(span, symbol)
    held = Spans([span]) - Spans([lacking] if lacking else [])
    kept = [row for row in rows if held.span_at(row.open_ms) is not None]
    longer = [
        Batch(series(code, symbol), Source.ROLLUP, Spans([span]), roll_up(rows, INTERVALS[code].grid))
        for code in LONGER
    ]
    return [Batch(series("1m", symbol), Source.REST, held, kept), *longer]


async def filled(path: Path, span: Span, *more: Batch, info: bytes | None = None, lacking: Span | None = None) -> str:
    """Make a database with the minutes of SYMBOLS in `span` and `more`; returns its URL."""
    url = f"sqlite:///{path}"
    upgrade(url)
    writer = await SqliteWriter.open(url, SystemClock())
    for symbol in SYMBOLS:
        await writer.commit(batches_of(span, symbol, lacking))
    if more:
        await writer.commit(more)
    dates = dict.fromkeys(SYMBOLS, (0, NEVER_MS))
    await writer.save_document(DOCUMENT, info or exchange_info(**dates), 1)
    await writer.close()
    return url


class Machine(VirtualClock):
    """A virtual machine clock, whose steady time is its wall time."""

    def steady_ms(self) -> int:
        return self.time_ms

    def boot(self) -> str:
        return ""


class HeldRows:
    """Rows in memory in the place of a store. While `gate` is cleared, reads wait."""

    def __init__(self, rows: Mapping[Series, Sequence[Kline]]) -> None:
        self._rows = rows
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads: list[Mapping[Series, Span]] = []

    async def read_spans(self, wanted: Mapping[Series, Span]) -> dict[Series, list[Any]]:
        self.reads.append(wanted)
        await self.gate.wait()
        return {
            each: [row for row in self._rows.get(each, ()) if span.start_ms <= row.open_ms < span.end_ms]
            for each, span in wanted.items()
        }
