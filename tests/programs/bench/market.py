"""A market of realistic klines, written directly into a node's database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from app.domain.interval import DAY_MS, INTERVALS, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from app.ports.clock import Clock
from infra.postgres.postgres_store import PostgresWriter
from infra.sandbox.exchange import Exchange
from infra.sandbox.universe import NEVER_MS, Instrument, Universe
from infra.sqlite.sqlite_store import SqliteWriter
from tests.system.processes import START_MS

MATERIAL: Final = "ETHUSDT"  # 125 bytes a row in REST's form: neither the longest nor the shortest
MATERIAL_ROWS: Final = 43_200
BATCHES: Final = 24  # in one transaction
LEDGER_BATCH_ROWS: Final = 5_000


@dataclass
class Market:
    """The sandbox's market with `symbols` symbols, and realistic klines for them."""

    clock: Clock
    symbols: int
    rows: int = MATERIAL_ROWS

    @cached_property
    def followed(self) -> list[Instrument]:
        """The perpetuals that a node follows by default."""
        now_ms = self.clock.now_ms()
        return [
            item
            for item in self.exchange.universe.at(now_ms)
            if (item.contract_type, item.quote_asset, item.status(now_ms)) == ("PERPETUAL", "USDT", "TRADING")
        ]

    @cached_property
    def names(self) -> list[str]:
        """The names of the followed symbols without a delivery date."""
        return [item.symbol for item in self.followed if item.delivery_ms == NEVER_MS]

    @cached_property
    def exchange(self) -> Exchange:
        """The sandbox's own klines."""
        return Exchange(self.clock, Universe(1, self.symbols))

    @cached_property
    def material(self) -> list[Kline]:
        """Minutes of MATERIAL, which are repeated in every series."""
        start_ms = START_MS - self.rows * MINUTE_MS
        return self.real(MATERIAL, "1m", Span(start_ms, START_MS))

    def real(self, symbol: str, code: str, span: Span) -> list[Kline]:
        """The sandbox's own klines that open in `span`."""
        return [
            Kline(int(at), str(o), str(h), str(low), str(c), str(v), str(q), int(trades), str(taker), str(taker_quote))
            for at, o, h, low, c, v, _close_ms, q, trades, taker, taker_quote, _ in self.exchange.rows(
                symbol, code, *span
            )
        ]

    def klines(self, series: Series, span: Span) -> Iterable[Kline]:
        """A kline for every open time of `span`, repeated from `material`."""
        material, size = self.material, len(self.material)
        for number, open_ms in enumerate(series.interval.grid.opens(*span)):
            yield material[number % size]._replace(open_ms=open_ms)

    def before_listings(self, codes: Sequence[str]) -> list[Batch]:
        """Batches that record absence before each listing, which a node cannot prove while a pinned clock stands."""
        return [
            Batch(
                Series(KLINES, item.symbol, interval),
                Source.ABSENT,
                Spans([Span(0, interval.grid.floor(item.onboard_ms))]),
                [],
            )
            for interval in map(INTERVALS.__getitem__, codes)
            for item in self.followed
        ]

    async def write(self, database: str, spans: dict[Series, Span]) -> int:
        """Write klines and ledger of `spans`; return the number of klines."""
        store = PostgresWriter if database.startswith("postgresql") else SqliteWriter
        writer = await store.open(database, self.clock)
        written = 0
        pending = self.before_listings(sorted({series.interval.code for series in spans}))
        try:
            for series, span in spans.items():
                batch = Batch(series, Source.REST, Spans([span]), list(self.klines(series, span)))
                written += len(batch.rows)
                pending.append(batch)
                if sum(len(each.rows) for each in pending) > BATCHES * LEDGER_BATCH_ROWS:
                    await writer.commit(pending)
                    pending = []
            await writer.commit(pending)
        finally:
            await writer.close()
        return written

    def spans(self, days: int, codes: Sequence[str], now_ms: int, rows_min: int = 0) -> dict[Series, Span]:
        """The spans that a node with a wish of `days` for `codes` holds at `now_ms`.

        Each has at least `rows_min` rows, unless the symbol was listed later.
        """
        begin_ms = now_ms // DAY_MS * DAY_MS - days * DAY_MS
        found = {}
        for interval in [INTERVALS[code] for code in codes]:
            end_ms = interval.grid.floor(now_ms)
            span = Span(min(interval.grid.ceil(begin_ms), interval.grid.shift(end_ms, -rows_min)), end_ms)
            for item in self.followed:
                if item.delivery_ms == NEVER_MS:
                    start_ms = max(span.start_ms, interval.grid.ceil(item.onboard_ms))
                    found[Series(KLINES, item.symbol, interval)] = span._replace(start_ms=start_ms)
        return found
