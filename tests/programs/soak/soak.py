"""A long run at many times the market's frame rate: does anything grow that should not?

`python -m tests.programs.soak.soak --minutes 20 --rate 10` starts an exchange, a node and readers on loopback, waits
until the node is whole and its memory is full, then samples its gauges every few seconds, prints their slopes and a
verdict, writes the same as JSON, and stops by itself. Exit status 1 when something grows.
"""

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from infra.net.tls import trusting_nobody
from tests.programs.soak.flood import MARKET_FRAMES_A_SECOND
from tests.programs.soak.scrape import scraped
from tests.programs.soak.trend import Trend, quantile_s, trend
from tests.system.processes import ROOT, Place, Program, Programs, free_port, pause, seconds, until

FLOOD: Final = (sys.executable, "-m", "tests.programs.soak.flood")
SAMPLE_S: Final = 5.0
WARM_UP_S_MIN: Final = 120.0
WARM_UP_S_MAX: Final = 1_200.0  # for 600 symbols from an empty database, on two cores that other processes use too
READERS: Final = 2
READ_EVERY_S: Final = 0.05
TAIL_BYTES: Final = 64 << 20  # so small that the tails are full when sampling begins: 600 × 7 times 99 rows
TAIL_ROWS: Final = (99, 111)  # a tail grows by up to an eighth before it is trimmed; each starts somewhere in between
CACHE_BYTES: Final = 8 << 20
ROWS_ASKED: Final = (1, 10, 60, 100)
A_DAY: Final = {"1m": 1_000, "3m": 480, "5m": 288, "15m": 96, "1h": 24, "4h": 6, "1d": 1}
"""By interval: the most klines that a reader requests. The node holds that many, so no reader causes a fetch."""
MIB: Final = float(1 << 20)

GAUGES: Final = {
    "resident_bytes": 16 * MIB,
    "open_files": 6.0,
    "threads": 6.0,
    "wal_bytes": 8 * MIB,
    "write_queue": 200.0,
    "intake_queue": 200.0,
    "page_cache_bytes": 2 * MIB,
    "tail_rows": 2_000.0,
}
"""The gauges that must not grow, each with the growth an hour (in its unit) that counts as noise."""
METRICS: Final = {
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_cpu_seconds_total",
    "klinenode_wal_bytes",
    "klinenode_database_bytes",
    "klinenode_write_queue_depth",
    "klinenode_intake_queue_depth",
    "klinenode_page_cache_bytes",
    "klinenode_tail_rows",
    "klinenode_frames_total",
    "klinenode_rows_written_total",
    "klinenode_sockets_lost_total",
    "klinenode_close_lag_seconds",
}
SHOWN: Final = {"ping_ms": float("inf")}
"""Gauges that are shown without a verdict: response time depends on the load of the machine, not only on the node."""


@dataclass(slots=True)
class Sample:
    """The node's gauges at one moment."""

    at_s: float
    gauges: dict[str, float]
    frames: float
    cpu_s: float
    database_bytes: float
    rows: float
    lag: dict[float, float]
    lost_sockets: float


@dataclass
class Readers:
    """Clients that send requests all the time."""

    place: Place
    rng: random.Random
    symbols: list[str]
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0

    async def ask_for_ever(self) -> None:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.place.port}", trust_env=False, verify=trusting_nobody()
        ) as client:
            while True:
                symbol, code = self.rng.choice(self.symbols), self.rng.choice(list(A_DAY))
                limit = min(self.rng.choice(ROWS_ASKED), A_DAY[code])
                path = f"/fapi/v1/klines?symbol={symbol}&interval={code}&limit={limit}"
                if self.rng.random() < 0.1:
                    path += "&only_final=false"
                asked_s = seconds()
                try:
                    self.statuses[(await client.get(path, timeout=30)).status_code] += 1
                except httpx.HTTPError:
                    self.statuses[0] += 1
                self.slowest_s = max(self.slowest_s, seconds() - asked_s)
                await pause(READ_EVERY_S)


async def sample(place: Place, node: Program) -> Sample:
    """Read the gauges of the node from /metrics, its threads from /proc, and time a ping."""
    async with place.http() as client:
        asked_s = seconds()
        await client.get("/fapi/v1/ping")
        ping_ms = (seconds() - asked_s) * 1000
    found = await scraped(place)
    values = found.values
    assert found.names >= METRICS, f"the node has no metric {METRICS - found.names}"
    status = (Path("/proc") / str(node.pid) / "status").read_text()
    threads = next(line.split()[1] for line in status.splitlines() if line.startswith("Threads:"))
    return Sample(
        seconds(),
        {
            "resident_bytes": values["process_resident_memory_bytes"],
            "open_files": values["process_open_fds"],
            "threads": float(threads),
            "wal_bytes": values["klinenode_wal_bytes"],
            "write_queue": values["klinenode_write_queue_depth"],
            "intake_queue": values["klinenode_intake_queue_depth"],
            "page_cache_bytes": values["klinenode_page_cache_bytes"],
            "tail_rows": values["klinenode_tail_rows"],
            "ping_ms": ping_ms,
        },
        values["klinenode_frames_total"],
        values["process_cpu_seconds_total"],
        values["klinenode_database_bytes"],
        values["klinenode_rows_written_total"],
        found.lag.get("1m", {}),
        values["klinenode_sockets_lost_total"],
    )


@dataclass
class Soak:
    """One run of the soak."""

    minutes: float
    rate: float
    symbols: int
    place: Place
    exchange: Program
    node: Program
    readers: Readers
    samples: list[Sample] = field(default_factory=list)
    warm_up_s: float = 0.0
    warm_up_min_s: float = WARM_UP_S_MIN

    async def warm_up(self) -> None:
        """Wait until the node holds its whole wish, its tails and pages are full, and `warm_up_min_s` has passed."""
        began_s = seconds()
        await until(self.place.is_whole, "the node holds everything", WARM_UP_S_MAX, every_s=2.0)
        print(f"whole after {seconds() - began_s:.0f} s; now the flood, and filling its memory", flush=True)
        self.exchange.signal(signal.SIGUSR1)
        async with self.place.http() as client:
            for symbol in self.readers.symbols:
                for code in A_DAY:
                    rows = min(A_DAY[code], self.readers.rng.randint(*TAIL_ROWS))
                    answer = await client.get(f"/fapi/v1/klines?symbol={symbol}&interval={code}&limit={rows}")
                    self.readers.statuses[answer.status_code] += 1
        await pause(self.warm_up_min_s)
        self.warm_up_s = seconds() - began_s
        self.readers.statuses.clear()
        self.readers.slowest_s = 0.0

    async def watch(self) -> None:
        """Take samples until `minutes` have passed, and print the gauges once a minute."""
        end_s, told_s = seconds() + self.minutes * 60, 0.0
        while seconds() < end_s or len(self.samples) < 3:
            now = await sample(self.place, self.node)
            self.samples.append(now)
            if now.at_s - told_s >= 60:
                told_s = now.at_s
                gauges = ", ".join(f"{name} {value:.0f}" for name, value in now.gauges.items())
                print(f"{(end_s - now.at_s) / 60:5.1f} min to go: {gauges}", flush=True)
            await pause(SAMPLE_S)

    def result(self) -> dict[str, Any]:
        """The trends of all gauges, the verdict and the totals, ready for JSON."""
        first, last = self.samples[0], self.samples[-1]
        elapsed_s = last.at_s - first.at_s
        times_s = [each.at_s - first.at_s for each in self.samples]
        trends = [
            trend(name, times_s, [each.gauges[name] for each in self.samples], noise_an_hour=noise)
            for name, noise in {**GAUGES, **SHOWN}.items()
        ]
        lag = {bound: count - first.lag.get(bound, 0.0) for bound, count in last.lag.items()}
        wanted = MARKET_FRAMES_A_SECOND * self.rate * self.symbols
        frames = (last.frames - first.frames) / elapsed_s
        return {
            "minutes": elapsed_s / 60,
            "warm_up_s": self.warm_up_s,
            "samples": len(self.samples),
            "symbols": self.symbols,
            "intervals": len(A_DAY),
            "frames_a_second": frames,
            "frames_a_second_wanted": wanted,
            "times_the_market": frames / (MARKET_FRAMES_A_SECOND * self.symbols),
            "cpu_share": (last.cpu_s - first.cpu_s) / elapsed_s,
            "close_lag_p50_s": quantile_s(lag, 0.5),
            "close_lag_p99_s": quantile_s(lag, 0.99),
            "closed_klines": max(lag.values(), default=0.0),
            "rows_written": last.rows - first.rows,
            "database_bytes": last.database_bytes,
            "database_bytes_an_hour": (last.database_bytes - first.database_bytes) / elapsed_s * 3600,
            "sockets_lost": last.lost_sockets - first.lost_sockets,
            "answers": {str(status): count for status, count in self.readers.statuses.items()},
            "slowest_answer_s": self.readers.slowest_s,
            "trends": [asdict(each) for each in trends],
            "verdict": "growing" if any(each.grows for each in trends) else "flat",
        }


def report(result: dict[str, Any]) -> str:
    """Format the result as a table for people."""
    lines = [f"{'gauge':18}{'first':>14}{'median':>14}{'highest':>14}{'last':>14}{'slope/h':>16}{'± error':>14}"]
    for each in (Trend(**fields) for fields in result["trends"]):
        numbers = f"{each.first:14,.0f}{each.median:14,.0f}{each.highest:14,.0f}{each.last:14,.0f}"
        slope = f"{each.slope_an_hour:+16,.1f}{each.error_an_hour:14,.1f}"
        lines.append(f"{each.name:18}{numbers}{slope}  {'GROWS' if each.grows else 'flat'}")
    lines += [
        f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}"
        for name, value in result.items()
        if name != "trends"
    ]
    return "\n".join(lines)


@asynccontextmanager
async def soak(
    folder: Path, *, minutes: float, rate: float, symbols: int, readers: int = READERS
) -> AsyncIterator[Soak]:
    """Start an exchange, a node and its readers; stop them all at the end."""
    async with Programs(folder) as programs:
        upstream = free_port()
        flood = ("--port", str(upstream), "--symbols", str(symbols), "--rate", str(rate))
        exchange = programs.start(*flood, command=FLOOD, env={"PYTHONPATH": str(ROOT)})
        settings = {
            "INTERVALS": ",".join(A_DAY),
            "WEIGHT_PER_MINUTE": "100000",
            "FETCH_CONCURRENCY": "8",
            "TAIL_BYTES_MAX": str(TAIL_BYTES),
            "CACHE_BYTES_MAX": str(CACHE_BYTES),
        }
        place = Place(programs, upstream, settings=settings)
        async with httpx.AsyncClient(trust_env=False, verify=trusting_nobody()) as client:

            async def listed() -> list[str]:
                body = (await client.get(f"http://127.0.0.1:{upstream}/fapi/v1/exchangeInfo")).json()
                return [each["symbol"] for each in body["symbols"] if each["contractType"] == "PERPETUAL"][:symbols]

            names = await until(listed, "the exchange answers")
        node = place.serve()
        await until(place.is_up, "the node answers")
        asking = Readers(place, random.Random(1), names)
        async with asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(asking.ask_for_ever()) for _ in range(readers)]
            try:
                yield Soak(minutes, rate, symbols, place, exchange, node, asking)
            finally:
                for user in users:
                    user.cancel()
        programs.end()


async def _main(minutes: float, rate: float, symbols: int, json: Path) -> int:
    market = MARKET_FRAMES_A_SECOND * symbols
    print(f"{symbols} symbols × {len(A_DAY)} intervals at {market * rate:.0f} frames/s: {rate:g} × {market:.0f}")
    with tempfile.TemporaryDirectory(prefix="klinenode-soak-") as folder:
        async with soak(Path(folder), minutes=minutes, rate=rate, symbols=symbols) as run:
            await run.warm_up()
            await run.watch()
            result = run.result()
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))  # noqa: ASYNC240
    print(report(result))
    return 0 if result["verdict"] == "flat" else 1


def main(arguments: Sequence[str]) -> int:
    """Run the soak from the command line; return 1 when a gauge grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--symbols", type=int, default=600)
    parser.add_argument("--json", type=Path, default=Path("bench/soak.json"))
    wish = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_main(wish.minutes, wish.rate, wish.symbols, wish.json))
    return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
