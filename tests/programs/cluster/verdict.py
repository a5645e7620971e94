"""The comparison of a whole database with the exchange."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from app.domain.span import Span
from app.holding.wish import CLOSE_GRACE_MS
from app.kinds.klines import KLINES
from app.node.stores import Reading, store_of
from infra.sandbox.exchange import Exchange

EVERYTHING = Span(0, 1 << 60)
ROWS_MAX = 1_000_000


@dataclass
class Verdict:
    """How many rows a database has, and how many of them are not as they should be."""

    rows: int = 0
    lost: int = 0
    """Rows of the exchange between the first one that is held and now, which the database lacks."""
    doubled: int = 0
    wrong: int = 0
    """Rows that are not the exchange's, or not in the ledger."""

    def add(self, mine: Iterable[tuple[int, bytes]], theirs: Iterable[tuple[int, bytes]]) -> None:
        """Count a series: rows of the database and of the exchange, each with open time (ms) and printed form."""
        held, due = list(mine), dict(theirs)
        counts = Counter(open_ms for open_ms, _ in held)
        self.rows += len(held)
        self.lost += len(due.keys() - counts.keys())
        self.doubled += counts.total() - len(counts)
        self.wrong += sum(due.get(open_ms) != printed for open_ms, printed in held)

    @property
    def is_good(self) -> bool:
        """Whether there are rows, and all of them are as they should be."""
        return self.rows > 0 and self.lost == self.doubled == self.wrong == 0


async def compare(db_url: str, exchange: Exchange) -> Verdict:
    """Compare all klines in the database with the exchange's, which no node writes any more or lacks any of."""
    verdict = Verdict()
    reader = store_of(db_url).reader(Reading(db_url))
    try:
        for series in await reader.ledgers():
            found = await reader.read(series, EVERYTHING, ROWS_MAX)
            grid = series.interval.grid
            end_ms = grid.floor(exchange.clock.now_ms() - CLOSE_GRACE_MS)
            rows = [row for row in found.rows if row.open_ms < end_ms]
            verdict.wrong += sum(found.ledger.held.span_at(row.open_ms) is None for row in rows)
            theirs = exchange.rows(series.symbol, series.interval.code, rows[0].open_ms, end_ms) if rows else []
            verdict.add(
                ((row.open_ms, KLINES.encode(row, grid.shift(row.open_ms, 1) - 1)) for row in rows),
                ((int(row[0]), orjson.dumps(row)) for row in theirs),
            )
    finally:
        await reader.close()
    return verdict
