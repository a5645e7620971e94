"""Part 9: the store on Postgres against asyncpg alone, on a server of its own with the durability of a real one."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from time import perf_counter, process_time
from typing import Any, Final

import asyncpg
import orjson

from app.domain.columns import Columns
from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from infra.blocks.block import Packed
from infra.blocks.sealed_columns import BlockBuilder, SealedColumns
from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from tests.postgres_server import PostgresServer
from tests.programs.bench.figures import alternating, compared
from tests.programs.bench.market import Market
from tests.programs.bench.pinned import PinnedClock
from tests.programs.bench.stage import NOW_MS, Run
from tests.sqlite.material import FixedClock

PART: Final = "postgres"
REAL: Final = ("fsync=on", "full_page_writes=on", "synchronous_commit=on", "autovacuum=on", "shared_buffers=256MB")
LOOSE_ROWS: Final = 5_000  # of each bulk batch, after its whole days, as recent ones that are not sealed yet
LIVE_SERIES: Final = 600
READS: Final = 100  # in each round
ROWS: Final = 1_500
BATCHES: Final = 4  # symbols in a round of bulk loading

_NAMES: Final = ("symbol", *(name for name, _ in KLINES.columns))
_BLOCK: Final = ("symbol", "interval", "start_ms", "rows", "first_ms", "last_ms", "sha256", "body")
_BARE_READ: Final = (
    "SELECT open_time, open, high, low, close, volume, open_time + 59999, quote_volume, trades, taker_buy_volume, "
    "taker_buy_quote_volume, '0' FROM bare_kline WHERE symbol = $1 AND open_time >= $2 ORDER BY open_time LIMIT $3"
)
_BARE_UPSERT: Final = (
    f"INSERT INTO bare_kline VALUES ({', '.join(f'${number}' for number in range(1, len(_NAMES) + 1))}) "
    f"ON CONFLICT (symbol, open_time) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES[2:])}"
)


class _Both:
    """The store, and bare tables with the same columns and keys in the same database."""

    def __init__(self, writer: PostgresWriter, reader: PostgresReader, bare: asyncpg.Connection) -> None:
        self.writer = writer
        self.reader = reader
        self.bare = bare
        self.names = (f"S{number}USDT" for number in count())


async def measure(run: Run) -> None:
    """Measure bulk loading, a closing minute, and reads of sealed and unsealed rows."""
    market = Market(PinnedClock.made(run.folder / "postgres-clock", NOW_MS), 4, run.size.material_rows + LOOSE_ROWS)
    with PostgresServer(settings=REAL) as server:
        url = server.url()
        writer, reader = await PostgresWriter.open(url, FixedClock()), PostgresReader(url)
        bare = await asyncpg.connect(url, server_settings={"jit": "off"})
        await bare.execute("CREATE TABLE bare_kline (LIKE kline_1m INCLUDING ALL)")
        await bare.execute("CREATE TABLE bare_block (LIKE block INCLUDING ALL)")
        both = _Both(writer, reader, bare)
        try:
            await _bulk(run, both, market.material)
            await _live(run, both, market.material)
            await _reads(run, both, market.material)
        finally:
            await bare.close()
            await reader.close()
            await writer.close()


async def _bulk(run: Run, both: _Both, material: Sequence[Kline]) -> None:
    """Whole days as blocks, and LOOSE_ROWS rows after them, for some symbols."""
    end_ms = material[-1].open_ms // DAY_MS * DAY_MS - LOOSE_ROWS * MINUTE_MS // DAY_MS * DAY_MS
    first_ms = -(-material[0].open_ms // DAY_MS) * DAY_MS
    old = [row for row in material if first_ms <= row.open_ms < end_ms]
    loose = Columns.of([row for row in material if row.open_ms >= end_ms][:LOOSE_ROWS])
    builder = BlockBuilder(KLINES, M1)
    builder.take(Columns.of(old))
    blocks = builder.found()
    assert isinstance(blocks, SealedColumns)
    rows = SealedColumns([*blocks.parts, loose], KLINES, M1.grid)
    span = Spans([Span(rows.opens_ms[0], rows.opens_ms[-1] + MINUTE_MS)])
    packed = [part for part in blocks.parts if isinstance(part, Packed)]

    async def ours() -> float:
        since = perf_counter()
        for _ in range(BATCHES):
            series = Series(KLINES, next(both.names), M1)
            [committed] = await both.writer.commit([Batch(series, Source.ARCHIVE, span, rows)])
            assert committed.granted == span
        return BATCHES * len(rows) / (perf_counter() - since)

    async def limit() -> float:
        since = perf_counter()
        for _ in range(BATCHES):
            name = next(both.names)
            async with both.bare.transaction():
                records = [(name, M1.code, each.span.start_ms, *each[1:]) for each in packed]
                await both.bare.copy_records_to_table("bare_block", records=records, columns=_BLOCK)
                records = list(zip([name] * len(loose), *loose.columns, strict=True))
                await both.bare.copy_records_to_table("bare_kline", records=records, columns=_NAMES)
        return BATCHES * len(rows) / (perf_counter() - since)

    pairs = await alternating(run.size.rounds, ours, limit)
    note = f"{len(packed)} blocks and {len(loose)} rows in a transaction"
    run.figures.append(compared(PART, "bulk load / bare COPY of the same", "rows/s", pairs, floor=0.8, note=note))


async def _live(run: Run, both: _Both, material: Sequence[Kline]) -> None:
    """A minute that closes: one row of each of LIVE_SERIES series."""
    names = [f"L{number}USDT" for number in range(LIVE_SERIES)]
    minutes = iter(material)

    async def ours() -> float:
        row = next(minutes)
        spans = Spans([Span(row.open_ms, row.open_ms + MINUTE_MS)])
        batches = [Batch(Series(KLINES, name, M1), Source.WS, spans, [row]) for name in names]
        return await _ms(lambda: both.writer.commit(batches))

    async def limit() -> float:
        row = next(minutes)

        async def work() -> None:
            async with both.bare.transaction():
                await both.bare.executemany(_BARE_UPSERT, [(name, *row) for name in names])

        return await _ms(work)

    pairs = await alternating(10 * run.size.rounds, ours, limit)
    note = f"{LIVE_SERIES} batches of one row, with ledger and journal; the limit is executemany of the rows"
    run.figures.append(compared(PART, "a minute that closes", "ms", pairs[2:] or pairs, is_cost=True, note=note))


async def _reads(run: Run, both: _Both, material: Sequence[Kline]) -> None:
    """ROWS rows of one series, sealed and then unsealed, as an answer's body."""
    end_ms = material[-1].open_ms // DAY_MS * DAY_MS
    first_ms = -(-material[0].open_ms // DAY_MS) * DAY_MS
    rows = [row for row in material if first_ms <= row.open_ms < end_ms]
    series = Series(KLINES, "READUSDT", M1)
    await both.writer.commit([Batch(series, Source.REST, Spans([Span(first_ms, end_ms)]), rows)])
    records = [(series.name, *row) for row in rows]
    await both.bare.copy_records_to_table("bare_kline", records=records, columns=_NAMES)
    reads = [rows[at].open_ms for at in range(0, max(1, len(rows) - ROWS), max(1, (len(rows) - ROWS) // READS))]

    async def ours() -> tuple[float, float]:
        async def work() -> None:
            for start_ms in reads:
                window = Span(start_ms, start_ms + ROWS * MINUTE_MS)
                await both.reader.read_encoded(series, window, ROWS)

        return await _clocked(work, len(reads))

    async def limit() -> tuple[float, float]:
        async def work() -> None:
            for start_ms in reads:
                orjson.dumps(list(map(tuple, await both.bare.fetch(_BARE_READ, series.name, start_ms, ROWS))))

        return await _clocked(work, len(reads))

    for name, floor in (("unsealed", None), ("sealed", 0.3)):
        if name == "sealed":
            next_ms: int | None = 0
            while next_ms is not None:
                next_ms = (await both.writer.seal(series, Span(next_ms, end_ms))).next_ms
        probe = (await both.reader.read_encoded(series, Span(first_ms, end_ms), ROWS))[1]
        assert orjson.loads(probe) == [
            list(row) for row in await both.bare.fetch(_BARE_READ, series.name, first_ms, ROWS)
        ]
        pairs = await alternating(run.size.rounds, ours, limit)
        for number, unit in enumerate(("ms", "ms of this process's CPU")):
            each = [(mine[number], theirs[number]) for mine, theirs in pairs]
            what = f"{ROWS:,} {name} rows, read and printed"
            asked = floor if unit == "ms" else None
            run.figures.append(
                compared(
                    PART, what, unit, each, floor=asked, is_cost=True, note="asyncpg's fetch + orjson, plain table"
                )
            )


async def _ms(work: Callable[[], Awaitable[Any]]) -> float:
    since = perf_counter()
    await work()
    return (perf_counter() - since) * 1000


async def _clocked(work: Callable[[], Awaitable[None]], number: int) -> tuple[float, float]:
    """Time and processor time of this process for each of so many, in ms."""
    since, cpu = perf_counter(), process_time()
    await work()
    return (perf_counter() - since) * 1000 / number, (process_time() - cpu) * 1000 / number
