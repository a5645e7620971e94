"""A sandbox, a NATS server and a collector as processes that can be killed, watched once a second."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.process.clock import SystemClock
from tests.nats_server import NatsServer
from tests.programs.collect_truth.mishaps import BOTH, COLLECTOR, NATS, Mishap
from tests.system.collect_place import CollectPlace
from tests.system.collected import Collected, read
from tests.system.exchange_truth import Truth, Verdict
from tests.system.processes import END_S_MAX, Program, Programs, free_port, pause, seconds, until

BINANCE_SYMBOLS: Final = 3
SYMBOLS: Final = "BTC-USDT,ETH-USDT,SOL-USDT,deribit:BTC-USD,deribit:ETH-USD,deribit:BTC-USDC"
WELL_S_MAX: Final = 120.0
CAUGHT_UP_S_MAX: Final = 600.0
WHOLE_S_MAX: Final = 240.0  # gaps of the end are fetched; a request that failed is made again within a minute
CALM_S: Final = 10.0  # trades that show what was lost at the end
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Outage:
    """One time without NATS."""

    away_s: float
    spilled_bytes: int
    caught_up_s: float


@dataclass
class Watched:
    """What was seen on the way."""

    rss_bytes: list[int] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    disturbed_ms: list[tuple[int, int]] = field(default_factory=list)
    """From when until when NATS or the collector was away or catching up."""
    mishaps: Counter[str] = field(default_factory=Counter)


class Stage:
    """The running processes."""

    def __init__(self, place: CollectPlace, nats: NatsServer, truth: Truth) -> None:
        self.place = place
        self.truth = truth
        self.watched = Watched()
        self._nats = nats
        self._clock = SystemClock()
        self._collector = place.collect()

    @property
    def collector(self) -> Program:
        """The collector's present process."""
        return self._collector

    async def well(self) -> None:
        """Wait until the collector follows everything."""
        await until(self._is_up, "the collector answers", WELL_S_MAX)
        await self.place.well()

    async def watch(self) -> None:
        """Note once a second how much memory the collector has; for ever."""
        while True:
            if rss_bytes := _rss_bytes(self._collector.pid):
                self.watched.rss_bytes.append(rss_bytes)
            await pause(1.0)

    async def suffer(self, mishap: Mishap) -> None:
        """Let a mishap happen, and wait until killed processes are there again and nothing waits for NATS."""
        self.watched.mishaps[mishap.name] += 1
        match mishap.kind:
            case "fault":
                await self.truth.inject(mishap.fault)
            case kind if kind == COLLECTOR:
                began_ms = self._clock.now_ms()
                await self._kill_collector(mishap.away_s)
                self.watched.disturbed_ms.append((began_ms, self._clock.now_ms()))
            case kind:
                assert kind in (NATS, BOTH), kind
                await self.outage(mishap.away_s, is_collector_killed=kind == BOTH)

    async def outage(self, away_s: float, *, is_collector_killed: bool = False) -> None:
        """Kill NATS for some time; return when what waited has been published."""
        began_ms = self._clock.now_ms()
        self._nats.kill()
        await pause(away_s / 2)
        if is_collector_killed:
            await self._kill_collector(1.0)
        await pause(away_s / 2)
        spilled_bytes = (await self.place.status())["outbox"]["spilled_bytes"]
        self._nats.start()
        started_s = seconds()
        await until(self._is_caught_up, "the spill is published", CAUGHT_UP_S_MAX, 0.1)
        self.watched.outages.append(Outage(away_s, spilled_bytes, seconds() - started_s))
        self.watched.disturbed_ms.append((began_ms, self._clock.now_ms()))

    async def end(self) -> tuple[Collected, Verdict]:
        """Calm down, wait until no gap is open, end the collector, and compare everything with the truth."""
        await self.truth.clear()
        await pause(CALM_S)
        late = ""
        try:
            await until(self.place.is_whole, "no gap is open and nothing waits", WHOLE_S_MAX, 0.5)
        except AssertionError:
            status = await self.place.status()
            late = f"after {WHOLE_S_MAX:g} s of calm gaps are open or records wait: {status}"
        self._collector.signal(signal.SIGTERM)
        assert await self._collector.ended(END_S_MAX) == 0, self._collector.said()[-3000:]
        collected = await read(self._nats.url)
        verdict = await self.truth.compare(collected)
        if late:
            verdict.blame(late)
        return collected, verdict

    async def _kill_collector(self, away_s: float) -> None:
        self._collector.kill()
        await pause(away_s)
        self._collector = self.place.collect()
        await until(self._is_up, "the collector answers again", WELL_S_MAX)

    async def _is_up(self) -> bool:
        assert self._collector.process.poll() is None, self._collector.said()[-3000:]
        return (await self.place.get("/v1/health")).status_code == 200

    async def _is_caught_up(self) -> bool:
        outbox = (await self.place.status())["outbox"]
        return outbox["fault"] is None and not outbox["spilled_bytes"]


def _rss_bytes(pid: int) -> int:
    """The resident memory of a process; 0 if it has been killed."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * _PAGE_BYTES if fields else 0


@contextlib.asynccontextmanager
async def staged(folder: Path, seed: int, rate: float) -> AsyncIterator[Stage]:
    """Start everything in an empty folder, and end it."""
    programs = Programs(folder)
    sandbox_port = free_port()
    truth = Truth(sandbox_port)
    with NatsServer(folder) as nats:
        try:
            options = {"--port": sandbox_port, "--symbols": BINANCE_SYMBOLS, "--seed": seed, "--rate": rate}
            programs.start("sandbox", *(str(each) for option in options.items() for each in option))
            place = CollectPlace(programs, sandbox_port, nats.url, settings={"COLLECT_SYMBOLS": SYMBOLS})
            stage = Stage(place, nats, truth)
            await stage.well()
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(stage.watch())
                yield stage
                watching.cancel()
        finally:
            await truth.aclose()
            programs.end()
