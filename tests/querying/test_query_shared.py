"""One upstream request serves all clients that ask the same question at the same time."""

import asyncio
from pathlib import Path

from app.domain.interval import MINUTE_MS
from app.querying.answer import Answer
from tests.fakes import Asked, unavailable
from tests.querying.query_desk import CLOSED_MS, Desk, desk, opens, refused


class Gate:
    """Holds the exchange's answers back until the test opens the gate."""

    def __init__(self, at: Desk) -> None:
        self.opened = asyncio.Event()
        self.entered = asyncio.Event()
        at.rig.exchange.gate = self
        self._at = at

    async def __call__(self, _asked: Asked) -> None:
        self.entered.set()
        await self.opened.wait()

    def ask(self, group: asyncio.TaskGroup, number: int) -> list[asyncio.Task[Answer]]:
        """Start `number` equal queries."""
        return [group.create_task(self._at.answer(start_ms=CLOSED_MS - 9 * MINUTE_MS)) for _ in range(number)]

    async def all_wait(self) -> None:
        """Wait until one query has sent its request and all others wait for it."""
        await self.entered.wait()
        await self._at.rig.store.settled()


async def test_many_who_miss_the_same_share_one_request(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        gate = Gate(at)
        async with asyncio.TaskGroup() as group:
            tasks = gate.ask(group, 50)
            await gate.all_wait()
            gate.opened.set()
        assert len({task.result().body for task in tasks}) == 1
        assert len(at.rig.exchange.windows()) == 1


async def test_when_the_one_who_asked_goes_away_another_asks(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        gate = Gate(at)
        async with asyncio.TaskGroup() as group:
            (first,) = gate.ask(group, 1)
            await gate.entered.wait()
            others = gate.ask(group, 9)
            await at.rig.store.settled()
            first.cancel()
            await at.rig.store.settled()
            gate.opened.set()
        assert all(len(opens(task.result())) == 5 for task in others)
        assert len(at.rig.exchange.windows()) == 2


async def test_when_all_go_away_at_once_nobody_asks_again(tmp_path: Path) -> None:
    """A shutdown cancels the query that sends the request and those that wait; no query confuses the cancellations."""
    async with desk(tmp_path) as at:
        gate = Gate(at)
        async with asyncio.TaskGroup() as group:
            tasks = gate.ask(group, 5)
            await gate.all_wait()
            for task in tasks:
                task.cancel()
            await at.rig.store.settled()
            assert all(task.cancelled() for task in tasks)
            assert len(at.rig.exchange.windows()) == 1


async def test_a_failure_reaches_all_who_wait_and_is_not_remembered(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        gate = Gate(at)
        at.rig.exchange.error = unavailable()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(refused(at, start_ms=CLOSED_MS - 9 * MINUTE_MS)) for _ in range(9)]
            await gate.all_wait()
            gate.opened.set()
        assert {task.result().status for task in tasks} == {503}
        assert len(at.rig.exchange.windows()) == 1
        at.rig.exchange.error = None
        assert len(opens(await at.answer(start_ms=CLOSED_MS - 9 * MINUTE_MS))) == 5


async def test_read_throughs_are_bounded(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        gate = Gate(at)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(at.answer(start_ms=CLOSED_MS - back * MINUTE_MS)) for back in range(10, 74)]
            await gate.all_wait()
            assert len(at.rig.exchange.asked) == 64
            assert (await refused(at, start_ms=CLOSED_MS - 99 * MINUTE_MS)).status == 503
            gate.opened.set()
        assert all(opens(task.result()) for task in tasks)
