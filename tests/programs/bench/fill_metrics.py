"""Two programs that store files of metrics and print how long it took: the node's own parts, and the least code for it.

`python -m tests.programs.bench.fill_metrics node DATABASE PROCESSES FOLDER` unpacks the ZIPs in a folder in so many
processes and commits what they give; `python -m tests.programs.bench.fill_metrics bare DATABASE FOLDER` only unpacks,
splits and inserts. Both write one transaction for each month of a symbol.
"""

import asyncio
import sys
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from time import perf_counter, process_time
from typing import Final, NamedTuple

import orjson

from app.binance.metrics_csv import MetricsDay
from app.domain.interval import INTERVALS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.store_rules import Batch
from app.events import Event
from app.kinds.metrics import METRICS
from app.node.stores import set_up_libraries, store_of
from infra.binance.unpackers import Unpackers
from infra.process.clock import SystemClock
from infra.sqlite.library import sqlite3
from tests.programs.bench.fill import family
from tests.programs.bench.stage import cpu_of

M5: Final = INTERVALS["5m"]
AT_ONCE: Final = 4  # months, as many as a node fetches at once by default
TABLE: Final = (
    "CREATE TABLE metrics (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, sum_open_interest TEXT, "
    "sum_open_interest_value TEXT, top_account_ratio TEXT, top_position_ratio TEXT, account_ratio TEXT, "
    "taker_ratio TEXT, PRIMARY KEY (symbol, open_time)) WITHOUT ROWID"
)


class Work(NamedTuple):
    """The time of a fill, without the start and end of the program."""

    seconds: float
    cpu_s: float
    """Processor time of all threads of this process, without the unpacking processes."""
    all_cpu_s: float
    """The same with them."""


Month = dict[MetricsDay, Path]
"""The files of a symbol's month, ascending."""


def months_in(folder: Path) -> list[Month]:
    """The months of which there are files."""
    found = {}
    for path in folder.glob("*.zip"):
        symbol, _, date = path.stem.partition("-metrics-")
        found[MetricsDay(symbol, int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * 1000)] = path
    months = groupby(sorted(found), key=lambda day: (day.symbol, day.name[: -len("-01")]))
    return [{day: found[day] for day in days} for _, days in months]


async def by_node(database: Path, months: Sequence[Month], processes: int) -> Work:
    """Measure from the first file until everything is committed; the processes have been started, as by downloads."""
    store = store_of(url := f"sqlite:///{database}")
    await store.prepare(url)
    writer = await store.writer(url, SystemClock(), lambda _: None, lambda _: None)
    unpackers = Unpackers(processes, _nothing, store.collect)
    waiting = list(months)

    async def work() -> None:
        while waiting:
            files = waiting.pop(0)
            found = await unpackers.read_metrics({day: path.read_bytes() for day, path in files.items()})
            assert not found.bad, f"{found.bad}"
            symbol = next(iter(files)).symbol
            await writer.commit(
                [
                    Batch(Series(METRICS[name], symbol, M5), Source.ARCHIVE, rows.spans(M5.grid), rows)
                    for name, rows in found.rows.items()
                ]
            )

    first = {day: path.read_bytes() for day, path in list(months[0].items())[:1]}
    async with asyncio.TaskGroup() as tasks:
        for _ in range(processes):
            tasks.create_task(unpackers.read_metrics(first))
    began_s, began_cpu_s, began_all_s = perf_counter(), process_time(), cpu_of_all_s()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(work())
    done = Work(perf_counter() - began_s, process_time() - began_cpu_s, cpu_of_all_s() - began_all_s)
    await unpackers.aclose()
    await writer.close()
    return done


def cpu_of_all_s() -> float:
    """Processor time of this process and its children so far."""
    return process_time() + sum(cpu_of(int(pid)) for pid in family()[1:])


def _nothing(event: Event) -> None:
    raise AssertionError(f"a process ended: {event}")


def by_bare_code(database: Path, months: Sequence[Month]) -> Work:
    """Measure unpacking, splitting and inserting."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = normal")
    connection.execute(TABLE)
    began_s, began_cpu_s = perf_counter(), process_time()
    for files in months:
        rows = []
        for path in files.values():
            with zipfile.ZipFile(path) as archive:
                text = archive.read(archive.namelist()[0]).decode()
            for line in text.splitlines()[1:]:
                at, symbol, interest, worth, top_accounts, top_positions, accounts, takers = line.split(",")
                open_ms = int(datetime.fromisoformat(at + "+00:00").timestamp()) * 1000
                rows.append((symbol, open_ms, interest, worth, top_accounts, top_positions, accounts, takers))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"INSERT INTO metrics VALUES ({','.join('?' * 8)})", rows)
        connection.execute("COMMIT")
    cpu_s = process_time() - began_cpu_s
    work = Work(perf_counter() - began_s, cpu_s, cpu_s)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return work


def main() -> None:
    """Run one of the two programs and print its time as JSON."""
    kind, database, *others = sys.argv[1:]
    months = months_in(Path(others[-1]))
    if kind == "bare":
        work = by_bare_code(Path(database), months)
    else:
        set_up_libraries()  # as app/commands/running.py and app/server.py do
        work = asyncio.run(by_node(Path(database), months, int(others[0])))
    print(orjson.dumps({"seconds": work.seconds, "work_cpu_s": work.cpu_s, "all_cpu_s": work.all_cpu_s}).decode())


if __name__ == "__main__":
    main()
