"""A machine with a wrong clock: what has closed is decided by the exchange's time, not by the machine's."""

from pathlib import Path

import pytest

from app.domain.interval import MINUTE_MS
from app.events import GapsCounted, GarbageDropped
from app.node.exchange_clock import KeptTime
from app.node.parts import KEPT_TIME
from infra.sqlite.lease import WriterLease
from infra.sqlite.sqlite_store import SqliteWriter
from tests.system.world import HeldClock, world


class WrongClock:
    """A machine's clock that is wrong by `off_ms` and may jump while the node runs."""

    def __init__(self, true: HeldClock, off_ms: int) -> None:
        self._true = true
        self.off_ms = off_ms

    def now_ms(self) -> int:
        return self._true.now_ms() + self.off_ms

    def steady_ms(self) -> int:
        return self._true.now_ms()

    def boot(self) -> str:
        return "the only one"

    async def sleep(self, delay_s: float) -> None:
        await self._true.sleep(delay_s)


@pytest.mark.parametrize("off_ms", [7 * MINUTE_MS, -7 * MINUTE_MS, 90_000, -400])
async def test_a_clock_that_is_wrong_from_the_start(tmp_path: Path, off_ms: int) -> None:
    async with world(tmp_path, speed=60.0, symbols=3) as here:
        clock = WrongClock(here.clock, off_ms)
        async with here.node(machine_clock=clock, backfill_days=1) as watched:
            await watched.until_whole()
            end_ms = here.clock.now_ms() + 2 * MINUTE_MS
            await watched.until(lambda event: isinstance(event, GapsCounted) and here.clock.now_ms() > end_ms)
            await here.hold_whole(watched)
            assert abs(watched.node.parts.clock.offset_ms + off_ms) < 2_000
            assert await here.differing(watched) == []
            assert watched.count(GarbageDropped) == 0


@pytest.mark.parametrize("jump_ms", [5 * MINUTE_MS, -5 * MINUTE_MS])
async def test_a_clock_that_jumps_while_the_node_runs(tmp_path: Path, jump_ms: int) -> None:
    async with world(tmp_path, speed=60.0, symbols=3) as here:
        clock = WrongClock(here.clock, 0)
        async with here.node(machine_clock=clock, backfill_days=1) as watched:
            await watched.until_whole()
            clock.off_ms = jump_ms
            end_ms = here.clock.now_ms() + 3 * MINUTE_MS
            await watched.until(lambda event: isinstance(event, GapsCounted) and here.clock.now_ms() > end_ms)
            await watched.node.parts.clock.measure(watched.node.parts.rest)
            await here.hold_whole(watched)
            assert await here.differing(watched) == []


@pytest.mark.parametrize("is_writer", [True, False])
async def test_a_start_with_a_clock_that_is_ahead_forgets_no_stand_down(tmp_path: Path, *, is_writer: bool) -> None:
    """Found by the simulation: by a fast clock the ban was over, and a reader sent requests before it read of it."""
    async with world(tmp_path, speed=60.0, symbols=3) as here:
        url = here.settings().db_url
        lease = WriterLease(url)
        writer = await SqliteWriter.open(url, here.clock)
        kept = KeptTime(-7 * MINUTE_MS, 0, "an earlier boot")
        await writer.save_stand_down(here.clock.now_ms() + 5 * MINUTE_MS, "banned")
        await writer.save_document(KEPT_TIME, kept.encoded(), here.clock.now_ms())
        await writer.close()
        if not is_writer:
            assert await lease.try_acquire("http://another.node")
        async with here.node(machine_clock=WrongClock(here.clock, 7 * MINUTE_MS), backfill_days=1) as watched:
            assert (watched.node.writer is not None) is is_writer
            for _ in range(10):
                await here.clock.sleep(20)
            assert [entry for entry in here.sandbox.journal.since(0) if entry.kind == "rest"] == []
        await lease.release()
