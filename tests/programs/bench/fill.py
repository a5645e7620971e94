"""Two programs that store archive files and print how long it took: a node, and the least code that does it.

`python -m tests.programs.bench.fill node CLOCK SYMBOLS CODES START_MS END_MS` runs a node (settings in the environment)
that fills the span by its own plan; `python -m tests.programs.bench.fill bare DATABASE ZIP…` only unpacks, splits and
inserts.
"""

import asyncio
import resource
import sys
import zipfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from time import perf_counter, process_time
from typing import Final, NamedTuple

import orjson

from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.domain.span import Span
from app.events import Event, RowsCommitted
from app.kinds.klines import KLINES
from app.node.node import Node
from app.node.parts import Parts
from app.node.stores import set_up_libraries
from app.settings import load
from infra.process.malloc import return_large_blocks
from infra.sqlite.library import sqlite3
from tests.programs.bench.pinned import PinnedClock

FILL_S_MAX: Final = 600.0
TABLE: Final = (
    "CREATE TABLE kline_1m (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, open TEXT NOT NULL, high TEXT NOT NULL, "
    "low TEXT NOT NULL, close TEXT NOT NULL, volume TEXT NOT NULL, quote_volume TEXT NOT NULL, "
    "trades INTEGER NOT NULL, taker_buy_volume TEXT NOT NULL, taker_buy_quote_volume TEXT NOT NULL, "
    "PRIMARY KEY (symbol, open_time)) WITHOUT ROWID"
)


class Work(NamedTuple):
    """The time a fill took, without the start and end of the program."""

    seconds: float
    cpu_s: float
    """Processor time of all threads of this process, without the unpacking processes."""
    peak_mb: float
    """The peaks of resident memory of this process and of the unpacking processes, added up."""


async def by_node(clock: PinnedClock, symbols: Sequence[str], codes: Sequence[str], span: Span) -> Work:
    """Measure a node from the wish until everything is committed."""
    series = [Series(KLINES, symbol, INTERVALS[code]) for symbol in symbols for code in codes]
    lacking = sum(each.interval.grid.count(*span) for each in series)
    done = asyncio.Event()

    def observe(event: Event) -> None:
        nonlocal lacking
        if isinstance(event, RowsCommitted):
            lacking -= event.rows
            if lacking <= 0:
                done.set()

    node = Node(Parts(load(), clock, None, [observe], extra_wishes_only=True))
    async with node.running(), asyncio.timeout(FILL_S_MAX):
        await node.parts.clock.until_measured()
        await node.parts.symbols.refresh()
        began_s, began_cpu_s = perf_counter(), process_time()
        await node.parts.backfill.request(series, span)
        await done.wait()
        return Work(perf_counter() - began_s, process_time() - began_cpu_s, sum(map(_peak_mb, family())))


def by_bare_code(database: Path, files: Sequence[Path]) -> Work:
    """Measure unpacking, splitting and inserting, with one transaction for each file."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = normal")
    connection.execute(TABLE)
    began_s, began_cpu_s = perf_counter(), process_time()
    for file in files:
        symbol = file.name.partition("-")[0]
        with zipfile.ZipFile(file) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        rows = []
        for line in text.splitlines()[1:]:
            at, o, h, low, c, v, _, q, n, taker, taker_quote, _ = line.split(",")
            rows.append((symbol, int(at), o, h, low, c, v, q, int(n), taker, taker_quote))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"INSERT INTO kline_1m VALUES ({','.join('?' * 11)})", rows)
        connection.execute("COMMIT")
    work = Work(perf_counter() - began_s, process_time() - began_cpu_s, _peak_mb("self"))
    connection.close()
    return work


def family() -> list[str]:
    """This process and its children."""
    children = [each.read_text().split() for each in Path("/proc/self/task").glob("*/children")]
    return ["self", *chain.from_iterable(children)]


def _peak_mb(process: str) -> float:
    """The peak of resident memory of a process. ru_maxrss also counts that of its parent before it was started."""
    status = (Path("/proc") / process / "status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024


def main() -> None:
    """Run one of the two programs and print its time as JSON."""
    kind, first, *others = sys.argv[1:]
    if kind == "bare":
        work = by_bare_code(Path(first), [Path(each) for each in others])
    else:
        set_up_libraries()  # as app/commands/running.py and app/server.py do
        return_large_blocks()
        symbols, codes, start_ms, end_ms = others
        span = Span(int(start_ms), int(end_ms))
        work = asyncio.run(by_node(PinnedClock(Path(first)), symbols.split(","), codes.split(","), span))
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(each.ru_utime + each.ru_stime for each in spent)
    found = {"seconds": work.seconds, "work_cpu_s": work.cpu_s, "cpu_s": cpu_s, "peak_mb": work.peak_mb}
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
