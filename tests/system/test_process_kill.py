"""kill -9 at moments drawn from a seed: nothing is lost, stored twice, or fetched again."""

import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic_ns

from app.domain.interval import DAY_MS
from app.domain.ledger import Ledger
from app.domain.series import Series
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.system.processes import FAST_NODE, ROOT, SETTLED_S, Place, Programs, SharedClock, asked_again, pause, until

KILLS = 4
SPEED = 25.0  # a minute passes in 2.4 s


def forgotten(before: Mapping[Series, Ledger], after: Mapping[Series, Ledger]) -> list[Series]:
    """The series of which something known before is not known after."""
    return [series for series, ledger in before.items() if ledger.known - after.get(series, Ledger()).known]


def has_seen(sandbox: SandboxServer, number: int) -> Callable[[], Awaitable[bool]]:
    """A condition: the exchange has received `number` requests."""

    async def is_there() -> bool:
        return sandbox.journal.written >= number

    return is_there


async def test_killed_during_backfill(tmp_path: Path) -> None:
    seed = 1
    rng = random.Random(seed)
    async with SandboxServer(SystemClock(), symbols=6) as sandbox:
        sandbox.inject(kind="archive_slow", delay_s=0.1)
        sandbox.inject(kind="slow", delay_s=0.05)
        async with Programs(tmp_path) as programs:
            place = Place(programs, sandbox.port, settings={"BACKFILL_DAYS": "5", "FETCH_CONCURRENCY": "2"})
            moments = [rng.randint(4, 25) for _ in range(KILLS)]
            print(f"seed {seed}: killed after {moments} requests of each start")
            known: dict[Series, Ledger] = {}
            mark = 0
            days_held = []
            for requests in [*moments, None]:
                node = place.serve()
                if requests is None:
                    await until(place.is_whole, "everything is held in the end")
                else:
                    await until(has_seen(sandbox, mark + requests), f"{requests} requests have come in")
                    node.kill()
                    await pause(SETTLED_S)
                assert asked_again(sandbox.journal.since(mark), known) == []
                now_known = await place.ledgers()
                assert forgotten(known, now_known) == []
                known, mark = now_known, sandbox.journal.written
                days_held.append(round(sum(ledger.held.total_ms for ledger in known.values()) / DAY_MS, 1))
            print(f"held after each kill, in series-days: {days_held}")
            assert any(0 < days < days_held[-1] for days in days_held), "no kill came while history was being filled"
            assert await place.check_store(sandbox) > 6 * 5 * 1440


async def test_killed_during_ingest(tmp_path: Path) -> None:
    rng = random.Random(2)
    clock = SharedClock(monotonic_ns(), SPEED)
    async with SandboxServer(clock, symbols=6) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        known: dict[Series, Ledger] = {}
        mark = 0
        for number in range(KILLS + 1):
            node = programs.start(
                str(clock.origin_ns),
                str(SPEED),
                command=FAST_NODE,
                env={**place.env, "PYTHONPATH": str(ROOT)},
            )
            await until(place.is_whole, f"everything is held after {number} kills")
            if number < KILLS:
                await pause(rng.uniform(0.1, 60 / SPEED + 0.1))
                node.kill()
                await pause(SETTLED_S)
            assert asked_again(sandbox.journal.since(mark), known) == []
            now_known = await place.ledgers()
            assert forgotten(known, now_known) == []
            known, mark = now_known, sandbox.journal.written
        sources = {entry.source for ledger in known.values() for entry in ledger.entries}
        assert {source.value for source in sources} >= {"ws", "rollup"}, "nothing came from the sockets"
        assert await place.check_store(sandbox) > 6 * 1440
