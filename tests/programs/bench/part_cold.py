"""Part 3: ranges that only the database has, against fetchall and orjson; also during a backfill."""

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Final, NamedTuple
from urllib.parse import quote

import httpx

from app.binance.archive_csv import ArchiveFile
from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.settings import Settings
from infra.net.tls import trusting_nobody
from infra.sqlite.library import sqlite3
from infra.sqlite.sqlite_store import SqliteReader
from tests.programs.bench.figures import Curve, alternating, compared
from tests.programs.bench.load import Load, Outcome, apply
from tests.programs.bench.part_http import add_rates
from tests.programs.bench.raw import bare_read, opened
from tests.programs.bench.stage import NOW_MS, Measured, Stage
from tests.stored import plain_copy
from tests.system.processes import Place, until

PART: Final = "cold"
ROWS: Final = 1_500
AT_ONCE: Final = (1, 8)
IN_PROCESS: Final = 200  # reads in each round
MONTH: Final = Span(1_790_812_800_000, 1_793_491_200_000)  # October 2026: the month before NOW_MS, one archive file
BACKFILL_SYMBOLS: Final = 8  # more than the node stores in one measurement
BACKFILL_ROUNDS_MAX: Final = 3  # making the exchange's files takes much longer than the measurement
BACKFILL_S_MAX: Final = 180.0
SEALED_S_MAX: Final = 180.0


class Range(NamedTuple):
    """ROWS minutes of a symbol, from `start_ms` on."""

    symbol: str
    start_ms: int

    @property
    def path(self) -> str:
        """The request for the range."""
        return f"/fapi/v1/klines?symbol={quote(self.symbol)}&interval=1m&startTime={self.start_ms}&limit={ROWS}"


def ranges(stage: Stage) -> list[Range]:
    """Ranges of the symbols with deep history, all different, none of which reaches the tail."""
    rng = random.Random(2)
    end_ms = NOW_MS // DAY_MS * DAY_MS - 2 * DAY_MS
    starts = range(NOW_MS // MINUTE_MS * MINUTE_MS - (stage.run.size.deep_days - 1) * DAY_MS, end_ms, MINUTE_MS)
    found = [Range(symbol, start_ms) for symbol in stage.deep for start_ms in starts]
    rng.shuffle(found)
    return found


async def measure(stage: Stage) -> None:
    """Measure reads in process, over HTTP with one and with eight readers, and during a backfill."""
    wanted = ranges(stage)
    plain = stage.run.folder / "plain.db"
    plain_copy(_database(stage), plain)
    bare_ms = await _in_process(stage, wanted, plain)
    raw, port = await stage.raw("rows", plain)
    probe = wanted[0].path
    mine, theirs = await stage.place.get(probe), await Place(stage.programs, 0, port=port).get(probe)
    assert mine.content == theirs.content, "the limit answers something else"
    taken = 0

    def next_paths() -> list[str]:
        nonlocal taken
        taken = (taken + len(wanted) // 7) % len(wanted)
        return [each.path for each in wanted[taken:] + wanted[:taken]]

    for readers in AT_ONCE:

        async def ours(readers: int = readers) -> Measured:
            return await stage.measure(stage.node, stage.place.port, next_paths(), connections=readers)

        async def limit(readers: int = readers) -> Measured:
            return await stage.measure(raw, port, next_paths(), connections=readers)

        pairs = await alternating(stage.run.size.rounds, ours, limit)
        add_rates(stage, PART, f"{readers} at once, over HTTP", pairs, None, limit_name="bare ASGI in 4 threads")
        times = [(1000 / each.outcome.rate, bare_ms) for each, _ in pairs]
        name = f"{readers} at once: time of one over HTTP / bare in process"
        stage.run.figures.append(compared(PART, name, "ms", times, floor=0.5, is_cost=True))
    raw.kill()
    await _beside_backfill(stage, next_paths)


async def until_sealed(stage: Stage) -> None:
    """Wait until the node has sealed what it will seal: meanwhile sealing takes a quarter of the writer's time."""
    await until(partial(_is_sealed, stage), "old rows are sealed", SEALED_S_MAX)


def _database(stage: Stage) -> Path:
    return Path(stage.place.db_url.removeprefix("sqlite:///"))


async def _is_sealed(stage: Stage) -> bool:
    """Whether the node has sealed every day of the symbols with deep history that is old enough."""
    after_days: float = Settings.model_fields["seal_after_days"].default
    until_ms = (NOW_MS - int(after_days * DAY_MS)) // DAY_MS * DAY_MS
    select = "SELECT count(*) FROM kline_1m WHERE symbol = ? AND open_time >= ? AND open_time < ?"
    first_ms = NOW_MS // DAY_MS * DAY_MS - (stage.run.size.deep_days - 1) * DAY_MS
    with closing(sqlite3.connect(_database(stage))) as connection:
        return not any(connection.execute(select, (name, first_ms, until_ms)).fetchone()[0] for name in stage.deep)


async def _in_process(stage: Stage, wanted: Sequence[Range], database: Path) -> float:
    """Compare the store's read with the bare read, without HTTP; return the bare read's time in ms."""
    reader, connection = SqliteReader(stage.place.db_url), opened(database)
    reads = wanted[: min(IN_PROCESS, len(wanted))]

    def spent(since: tuple[float, float]) -> tuple[float, float]:
        elapsed, cpu = _clocks()
        return (elapsed - since[0]) / len(reads) * 1000, (cpu - since[1]) / len(reads) * 1000

    async def ours() -> tuple[float, float]:
        since = _clocks()
        for symbol, start_ms in reads:
            window = Span(start_ms, start_ms + ROWS * MINUTE_MS)
            found, _ = await reader.read_encoded(Series(KLINES, symbol, M1), window, ROWS)
            assert found == ROWS
        return spent(since)

    async def limit() -> tuple[float, float]:
        since = _clocks()
        for symbol, start_ms in reads:
            assert bare_read(connection, symbol, start_ms, ROWS)
        return spent(since)

    try:
        pairs = await alternating(stage.run.size.rounds, ours, limit)
    finally:
        connection.close()
        await reader.close()
    for number, unit in enumerate(("ms", "ms of CPU")):
        each = [(mine[number], theirs[number]) for mine, theirs in pairs]
        name = "the store's read, in process"
        stage.run.figures.append(compared(PART, name, unit, each, floor=0.25, is_cost=True, note="fetchall + orjson"))
    return median(theirs[0] for _, theirs in pairs)


def _clocks() -> tuple[float, float]:
    """The wall clock and this process's processor time on all threads, in seconds."""
    return perf_counter(), process_time()


async def _beside_backfill(stage: Stage, next_paths: Callable[[], list[str]]) -> None:
    """Measure the 99th percentile of reads while the node fetches and writes a month of other symbols."""
    size = stage.run.size
    others = iter(stage.market.names[size.deep_symbols :])
    pairs, written = [], 0.0

    async def reads() -> Outcome:
        return await apply(Load(stage.place.port, next_paths(), 8, size.seconds), stage.run.folder)

    for _ in range(min(size.rounds, BACKFILL_ROUNDS_MAX)):
        symbols = list(islice(others, min(BACKFILL_SYMBOLS, size.deep_symbols)))
        await prepare_archive(stage, symbols)
        quiet = await reads()
        before = await rows_written(stage)
        wish = {"symbols": symbols, "intervals": ["1m"], "start": MONTH.start_ms, "end": MONTH.end_ms}
        async with stage.place.operator() as client:
            (await client.post("/v1/admin/backfill", json=wish)).raise_for_status()
        busy = await reads()
        written += await rows_written(stage) - before
        pairs.append((busy, quiet))
        await until(stage.place.is_whole, "the backfill is done", BACKFILL_S_MAX)
    p99 = [(busy.quantile_ms(0.99), quiet.quantile_ms(0.99)) for busy, quiet in pairs]
    note = f"8 readers; {written:,.0f} rows were written meanwhile in {len(pairs)} × {size.seconds:g} s"
    stage.run.figures.append(
        compared(PART, "p99 while a backfill writes / quiet", "ms", p99, floor=3.0, is_cost=True, note=note)
    )
    stage.run.curves.append(Curve("cold: 8 readers", "while a backfill writes", pairs[-1][0].ms))
    stage.run.curves.append(Curve("cold: 8 readers", "quiet", pairs[-1][1].ms))


async def prepare_archive(stage: Stage, symbols: Sequence[str]) -> None:
    """Have the exchange make its files before the measurement: making a file takes longer than storing it."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{stage.place.upstream_port}", trust_env=False, verify=trusting_nobody()
    ) as client:
        for symbol in symbols:
            path = ArchiveFile(symbol, M1, MONTH, is_monthly=True).path
            (await client.get(path, timeout=60)).raise_for_status()


async def rows_written(stage: Stage) -> float:
    """The node's counter of written rows."""
    text = (await stage.place.get("/metrics")).text
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("klinenode_rows_written_total")
    )
