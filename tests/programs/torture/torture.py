"""Kill nodes under load at moments drawn from a seed; after each kill look for lost, duplicate and wrong rows.

Acknowledged is what the ledger was seen to hold, in the database or in /v1/coverage. A kline served from memory before
its commit is not acknowledged: a kill may lose it. It was the exchange's own, so it is served with the same bytes again
later. Klines that the node fetched for a user's request are committed before the answer, if the database is there.

As a program (`python -m tests.programs.torture.torture --kills 100 --seed 1`, and perhaps `--store postgres`) it prints
a line for each kill and a summary.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import linear_regression, median
from typing import Final

from app.domain.interval import MINUTE_MS
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from infra.sandbox.universe import NEVER_MS, Instrument
from tests.postgres_server import SAFE, PostgresServer
from tests.programs.torture.kill import Kill
from tests.programs.torture.load import CODES, Load
from tests.programs.torture.on_postgres import PostgresTorture, postgres_database
from tests.programs.torture.on_sqlite import SqliteTorture
from tests.programs.torture.run import Torture
from tests.system.processes import Place, Programs

DAYS_MIN: Final = 15
DAYS_A_KILL: Final = 1.5  # enough history that the node is still writing at the last kill
READERS: Final = 2
SYMBOLS: Final = 6


def _is_followed(item: Instrument, now_ms: int) -> bool:
    kind = (item.contract_type, item.quote_asset, item.status(now_ms))
    return kind == ("PERPETUAL", "USDT", "TRADING") and item.delivery_date(now_ms) == NEVER_MS


@asynccontextmanager
async def torture(
    folder: Path, *, seed: int, kills: int, told: Callable[[Kill], None], store: str = "sqlite"
) -> AsyncIterator[Torture]:
    """Start an exchange with a slow archive and a load; yield the run, which starts and kills the nodes.

    `store`: sqlite, or postgres for a database of a server of the run's own.
    """
    if store == "sqlite":
        async with _load(folder, seed, kills, "") as (programs, sandbox, rng, places, load):
            yield SqliteTorture(programs, sandbox, rng, places, load, told)
        return
    with PostgresServer(settings=SAFE) as server:
        try:
            url = await postgres_database(server)
            async with _load(folder, seed, kills, url) as (programs, sandbox, rng, places, load):
                yield PostgresTorture(programs, sandbox, rng, places, load, told, server=server, url=url)
        finally:
            (folder / "postgres.log").write_text(server.log())


@asynccontextmanager
async def _load(
    folder: Path, seed: int, kills: int, server_url: str
) -> AsyncIterator[tuple[Programs, SandboxServer, random.Random, tuple[Place, Place], Load]]:
    days = max(DAYS_MIN, int(kills * DAYS_A_KILL))
    async with SandboxServer(SystemClock(), symbols=SYMBOLS) as sandbox, Programs(folder) as programs:
        sandbox.inject(kind="archive_slow", delay_s=0.3)
        sandbox.inject(kind="slow", delay_s=0.05)
        settings = {"BACKFILL_DAYS": str(days), "FETCH_CONCURRENCY": "2", "INTERVALS": ",".join(CODES)}
        first, second = (Place(programs, sandbox.port, settings=settings, server_url=server_url) for _ in range(2))
        now_ms = sandbox.exchange.clock.now_ms()
        listed = [item.symbol for item in sandbox.exchange.universe.at(now_ms) if _is_followed(item, now_ms)]
        rng = random.Random(seed)
        load = Load(sandbox, random.Random(f"{seed}:load"), tuple(listed), now_ms - days * 1440 * MINUTE_MS)
        async with asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(load.ask_for_ever()) for _ in range(READERS)]
            try:
                yield programs, sandbox, rng, (first, second), load
            finally:
                for user in users:
                    user.cancel()


# --- the program -----------------------------------------------------------------------------------------------------


def table(done: Torture) -> str:
    """Format the findings of a run as a table for people."""
    starts = done.start_s
    moments = Counter(kill.moment for kill in done.kills)
    answers = done.load.statuses
    facts = {
        "kills": f"{len(done.kills)}: " + ", ".join(f"{number} {name}" for name, number in sorted(moments.items())),
        **done.facts(),
        "answers compared": f"{answers[200]} whole and the exchange's, {answers[503]} refused (503)",
        "rows in the end": f"{done.last.rows} in {done.last.lines} ledger lines",
        "lost, doubled, wrong": "0, 0, 0 (a run ends at the first)",
        "served, not acknowledged": f"{sum(kill.unacknowledged for kill in done.kills)} klines; they came back alike",
        "start to first answer": f"{_course(starts)} by the clock",
        "… processor time": _course(done.start_cpu_s),
        done.log_fact: f"{max(kill.wal_bytes for kill in done.kills) / 1e6:.1f} MB at most",
    }
    return "\n".join(f"{name:26}{fact}" for name, fact in facts.items())


def _course(starts_s: Sequence[float]) -> str:
    half = max(1, len(starts_s) // 2)
    slope_ms = 1000 * linear_regression(range(len(starts_s)), starts_s).slope
    return (
        f"first {starts_s[0]:.2f} s, median {median(starts_s):.2f} s, last {starts_s[-1]:.2f} s; halves "
        f"{median(starts_s[:half]):.2f} s and {median(starts_s[half:]):.2f} s; {slope_ms:+.1f} ms a start"
    )


def _line(kill: Kill) -> None:
    print(
        f"{kill.number:4} {kill.moment:10} after {kill.after_s:5.2f} s  rows {kill.rows:8} (+{kill.new_rows})  "
        f"lines {kill.lines:4}  WAL {kill.wal_bytes / 1e6:5.1f} MB  unacknowledged {kill.unacknowledged}  {kill.note}",
        flush=True,
    )


async def _main(kills: int, seed: int, store: str, folder: Path) -> None:
    on = "" if store == "sqlite" else f" STORE={store}"
    print(f"seed {seed}; again: make torture KILLS={kills} SEED={seed}{on}", flush=True)
    async with torture(folder, seed=seed, kills=kills, told=_line, store=store) as run:
        await run.run(kills)
        result = table(run)
        run.programs.forget()
    print(result)


def main(arguments: Sequence[str]) -> None:
    """Run from the command line, in a temporary folder that is kept only if something broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    wish = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="klinenode-torture-"))
    try:
        asyncio.run(_main(wish.kills, wish.seed, wish.store, folder))
    except BaseException:
        print(f"the files are in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
