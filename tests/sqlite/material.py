"""Klines, batches and clocks for the tests of the store."""

import itertools
import pickle
from collections.abc import Iterable, Mapping, Sequence

from app.domain.columns import Columns
from app.domain.interval import M1, MINUTE_MS, Grid, Interval
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from app.ports.exchange import FileKlines
from infra.blocks.sealed_columns import BlockBuilder

T0_MS = 1_577_836_800_000  # 2020-01-01, a Wednesday
NOW_MS = 1_800_000_000_000
BTC_1M = Series(KLINES, "BTCUSDT", M1)


class FixedClock:
    """A clock that stands still."""

    def now_ms(self) -> int:
        return NOW_MS

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("the store does not wait")


def kline(open_ms: int, mark: int = 0) -> Kline:
    """A kline of which each text column depends on `open_ms` and `mark`."""
    seed = open_ms // MINUTE_MS % 1_000_003 + 7 * mark
    return Kline(
        open_ms,
        f"{seed}.10",
        f"{seed + 1}.20",
        f"0.{seed:08}",
        f"{seed}.00",
        "0" if seed % 5 == 0 else f"{seed}.500",
        "0" if seed % 5 == 0 else f"{seed * 3}.12300",
        seed % 1000,
        f"{seed % 97}.001",
        f"{seed % 89}.00001",
    )


def klines(spans: Iterable[Span], grid: Grid, mark: int = 0) -> list[Kline]:
    return [kline(open_ms, mark) for span in spans for open_ms in grid.opens(*span)]


def batch(series: Series, source: Source, spans: Spans, mark: int = 0) -> Batch:
    """A batch whose rows agree with its spans; `mark` chooses the version of the rows."""
    rows = [] if source is Source.ABSENT else klines(spans, series.interval.grid, mark)
    return Batch(series, source, spans, rows)


def sealed_of(rows: Sequence[Kline]) -> Columns:
    """Minutes as a process that unpacks sends them: with whole blocks packed, pickled and unpickled."""
    packed: FileKlines = pickle.loads(pickle.dumps(packed_of({BTC_1M.interval: rows})))
    return packed.rows


def packed_of(found: Mapping[Interval, Sequence[Kline]]) -> FileKlines:
    """The result of a process that unpacked these klines; the first interval is the file's own."""
    made = {}
    for interval, rows in found.items():
        builder = BlockBuilder(KLINES, interval)
        columns = Columns.of(rows)
        for at in range(0, len(columns), 50):  # in parts, as they are parsed
            builder.take(columns[at : at + 50])
        made[interval] = builder.found()
    return FileKlines(made.pop(next(iter(found))), made)


def minutes(*pairs: tuple[int, int]) -> Spans:
    """Spans from pairs of minutes after T0_MS."""
    return Spans((T0_MS + start * MINUTE_MS, T0_MS + end * MINUTE_MS) for start, end in pairs)


def everything() -> Span:
    return Span(0, 10**14)


def first_opens(interval: Interval, count: int) -> list[int]:
    """The first `count` open times of `interval` from T0_MS on."""
    return list(itertools.islice(interval.grid.opens(T0_MS, 10**13), count))
