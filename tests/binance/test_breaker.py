"""The exchange is away: it is probed, by one process at a time and ever more seldom, and asked nothing else."""

import asyncio
from pathlib import Path

import pytest

from app.binance.rate_state import PAUSE_MS_MAX, SILENCE_MAX, RateState
from app.events import ExchangeAnswers, ExchangeSilent
from app.ports.errors import StandDown, UpstreamAway, UpstreamError, UpstreamUnavailable
from app.ports.exchange import Priority
from infra.binance.breaker import PAUSE_S_FIRST, PROBE_MS_MAX, WATCH_S
from infra.binance.budget import RECHECK_S
from infra.net.http import NoAnswer
from tests.binance.upstream import Upstream
from tests.clocks import START_MS, VirtualClock

MIDDLE_MS = START_MS + 5_000


def fail(state: RateState) -> None:
    state.failures = SILENCE_MAX


class Line:
    """The way to an exchange that can be away."""

    def __init__(self, clock: VirtualClock, *processes: Upstream) -> None:
        self.clock = clock
        self.processes = processes
        self.is_up = False
        self.takes_s = 0.0
        self.at_once = self.at_once_max = 0
        self.asked_ms: list[int] = []

    async def ask(self, process: Upstream, *, is_probe: bool = False, priority: Priority = Priority.TAIL) -> None:
        async with process.budget.spend(1, priority, is_probe=is_probe) as ticket:
            self.asked_ms.append(self.clock.now_ms())
            self.at_once += 1
            self.at_once_max = max(self.at_once, self.at_once_max)
            try:
                if self.takes_s:
                    await self.clock.sleep(self.takes_s)
            finally:
                self.at_once -= 1
            if not self.is_up:
                raise NoAnswer("/fapi/v1/time: ConnectError")
            ticket.answered(3, is_success=True)

    async def fall_silent(self) -> None:
        for _ in range(SILENCE_MAX):
            with pytest.raises(NoAnswer):
                await self.ask(self.processes[0])
        self.asked_ms.clear()
        self.at_once_max = 0

    def watch(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        def start(process: Upstream) -> asyncio.Task[None]:
            return tasks.create_task(process.breaker.run(lambda: self.ask(process, is_probe=True)))

        return [start(process) for process in self.processes]


def line(path: Path, processes: int = 3) -> Line:
    clock = VirtualClock(MIDDLE_MS)
    return Line(clock, *(Upstream(clock, path=path / "weight", seed=seed) for seed in range(processes)))


async def test_after_some_failures_in_a_row_everybody_is_refused_at_once(tmp_path: Path) -> None:
    away = line(tmp_path)
    await away.fall_silent()
    (event,) = away.processes[0].witness.of(ExchangeSilent)
    assert event.failures == SILENCE_MAX
    for process in away.processes:
        for priority in Priority:
            with pytest.raises(UpstreamAway, match="ConnectError"):
                await away.ask(process, priority=priority)
        (complaint,) = process.budget.complaints()
        assert "has not answered" in complaint
        assert process.budget.is_silent
    assert away.asked_ms == []


async def test_one_answer_in_between_is_enough_to_go_on_asking(tmp_path: Path) -> None:
    away = line(tmp_path, processes=1)
    for attempt in range(4 * SILENCE_MAX):
        away.is_up = attempt % SILENCE_MAX == 0
        try:
            await away.ask(away.processes[0])
        except NoAnswer:
            continue
    assert len(away.asked_ms) == 4 * SILENCE_MAX
    assert not away.processes[0].budget.is_silent


async def test_who_waits_for_weight_is_refused_when_the_exchange_falls_silent(tmp_path: Path) -> None:
    away = line(tmp_path, processes=2)
    one, other = away.processes

    async def refused() -> None:
        with pytest.raises(UpstreamAway):
            await away.ask(other, priority=Priority.VERIFY)

    async with one.budget.spend(1_300, Priority.USER) as ticket:
        ticket.answered(1_300, is_success=True)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(refused())
        await away.clock.advance(1_000)
        assert not waiting.done()
        await away.fall_silent()
        await away.clock.advance(int(RECHECK_S * 1_000))
        assert waiting.done()


async def test_all_processes_together_probe_once_at_a_time_and_ever_more_seldom(tmp_path: Path) -> None:
    away = line(tmp_path)
    away.takes_s = 4.0
    async with asyncio.TaskGroup() as tasks:
        falling = tasks.create_task(away.fall_silent())
        await away.clock.advance(SILENCE_MAX * 4_000)
        assert falling.done()
        watching = away.watch(tasks)
        await away.clock.advance(3_600_000)
        for task in watching:
            task.cancel()
    assert away.at_once_max == 1
    pauses_s = [(b - a) / 1_000 - away.takes_s for a, b in zip(away.asked_ms, away.asked_ms[1:], strict=False)]
    assert max(pauses_s) <= PAUSE_MS_MAX / 1_000 + WATCH_S
    assert sum(pauses_s) / len(pauses_s) > 4 * PAUSE_S_FIRST, "full jitter below 15 s: 7.5 s on average"
    assert 3_600 / (4 + PAUSE_MS_MAX / 1_000 + WATCH_S) < len(away.asked_ms) < 3_600 / 8


async def test_the_first_answer_opens_the_way_for_all(tmp_path: Path) -> None:
    away = line(tmp_path)
    async with asyncio.TaskGroup() as tasks:
        await away.fall_silent()
        watching = away.watch(tasks)
        await away.clock.advance(600_000)
        away.is_up = True
        await away.clock.advance(PAUSE_MS_MAX + int(WATCH_S * 1_000))
        for process in away.processes:
            assert not process.budget.is_silent
            assert process.budget.complaints() == []
            await away.ask(process)
        for task in watching:
            task.cancel()
    assert sum(len(process.witness.of(ExchangeAnswers)) for process in away.processes) == 1


async def test_a_request_that_was_under_way_when_silence_was_declared_may_end_it(tmp_path: Path) -> None:
    away = line(tmp_path, processes=1)
    (process,) = away.processes
    async with process.budget.spend(1, Priority.USER) as ticket:
        ticket.answered(1, is_success=True)
    async with process.budget.spend(1, Priority.USER) as slow:
        await away.fall_silent()
        slow.answered(9, is_success=True)
    assert not process.budget.is_silent


async def test_whoever_dies_while_probing_is_replaced(tmp_path: Path) -> None:
    away = line(tmp_path, processes=2)
    dead, living = away.processes
    away.takes_s = 3_600.0
    async with asyncio.TaskGroup() as tasks:
        await dead.keeper.update(fail)
        first = tasks.create_task(dead.breaker.run(lambda: away.ask(dead, is_probe=True)))
        await away.clock.advance(5_000)
        assert len(away.asked_ms) == 1
        second = tasks.create_task(living.breaker.run(lambda: away.ask(living, is_probe=True)))
        dead.dies()
        await away.clock.advance(PROBE_MS_MAX)
        assert len(away.asked_ms) == 2
        first.cancel()
        second.cancel()


async def test_silence_survives_a_restart_and_a_clock_put_right(tmp_path: Path) -> None:
    away = line(tmp_path, processes=1)
    await away.fall_silent()
    away.processes[0].dies()
    away.clock.time_ms -= 6 * 3_600_000
    away.is_up = True
    again = Upstream(away.clock, path=tmp_path / "weight")
    with pytest.raises(UpstreamAway) as refusal:
        await away.ask(again)
    assert refusal.value.until_ms - away.clock.now_ms() <= PAUSE_MS_MAX
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(again.breaker.run(lambda: away.ask(again, is_probe=True)))
        await away.clock.advance(PAUSE_MS_MAX)
        watching.cancel()
    await away.ask(again)


async def test_who_starts_while_the_exchange_is_silent_reports_it_once(tmp_path: Path) -> None:
    away = line(tmp_path, processes=1)
    await away.fall_silent()
    again = Upstream(away.clock, path=tmp_path / "weight")
    for _ in range(2):
        await away.clock.advance(PAUSE_MS_MAX)
        with pytest.raises(NoAnswer):
            await away.ask(again, is_probe=True)
    (event,) = again.witness.of(ExchangeSilent)
    assert event.failures == SILENCE_MAX + 1


async def test_not_even_a_probe_leaves_during_a_stand_down(tmp_path: Path) -> None:
    away = line(tmp_path, processes=1)
    (process,) = away.processes
    await away.fall_silent()
    stands = await process.budget.stand_down(418, "600", "", away.clock.now_ms())
    async with asyncio.TaskGroup() as tasks:
        watching = away.watch(tasks)
        await away.clock.advance(stands.until_ms - away.clock.now_ms() - 1)
        assert away.asked_ms == []
        with pytest.raises(StandDown):
            await away.ask(process, is_probe=True)
        await away.clock.advance(PAUSE_MS_MAX)
        assert away.asked_ms
        for task in watching:
            task.cancel()


async def test_a_probe_waits_for_no_weight() -> None:
    process = Upstream(VirtualClock(MIDDLE_MS), 10)
    async with process.budget.spend(9, Priority.USER) as ticket:
        ticket.answered(9, is_success=True)
    with pytest.raises(UpstreamUnavailable, match="room"):
        async with process.budget.spend(1, Priority.USER, is_probe=True):
            pass


async def test_an_error_that_is_an_answer_is_no_silence() -> None:
    process = Upstream(VirtualClock(MIDDLE_MS))

    async def rejected() -> None:
        async with process.budget.spend(1, Priority.USER) as ticket:
            ticket.answered(1, is_success=False)
            raise UpstreamError("rejected")

    for _ in range(3 * SILENCE_MAX):
        with pytest.raises(UpstreamError, match="rejected"):
            await rejected()
    assert not process.budget.is_silent
