"""One rate state for all processes: booked once, seen by all, outliving each, and changed by one task at a time."""

import asyncio
import random
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from app.binance.rate_state import FEELING_MS, RateState
from app.domain.interval import MINUTE_MS
from app.events import StandDownBegan
from app.ports.coordination import RateStateKeeper
from app.ports.errors import StandDown, StoreUnavailable
from app.ports.exchange import Priority
from infra.binance.budget import IN_FLIGHT_MAX, RECHECK_S, SHARES, Ticket
from tests.binance.upstream import Upstream
from tests.clocks import START_MS, VirtualClock
from tests.coordination.rate_states import RATE_STATES, RateStates

LIMIT = 100
MIDDLE_MS = START_MS + 5_000


@pytest.fixture(params=RATE_STATES.values(), ids=list(RATE_STATES))
def states(request: pytest.FixtureRequest, tmp_path: Path) -> RateStates:
    kind: type[RateStates] = request.param
    return kind.made(tmp_path)


# --- the port itself --------------------------------------------------------------------------------------------------


def keepers(states: RateStates, number: int) -> list[RateStateKeeper]:
    clock = VirtualClock(MIDDLE_MS)
    return [states.keeper(clock, print) for _ in range(number)]


def count(state: RateState) -> int:
    state.failures += 1
    return state.failures


async def test_no_two_tasks_of_any_process_change_it_at_once(states: RateStates) -> None:
    processes, seen = keepers(states, 4), list[int]()

    async def change(keeper: RateStateKeeper) -> None:
        seen.append(await keeper.update(count))

    async with asyncio.TaskGroup() as tasks:
        for number in range(200):
            tasks.create_task(change(processes[number % 4]))
    assert sorted(seen) == list(range(1, 201))


async def test_what_a_cancelled_task_began_to_change_is_changed_once(states: RateStates) -> None:
    """Whether it is cancelled while it waits, while the state is changed, while it is stored, or twice."""
    (keeper,), chance, calls, begun = keepers(states, 1), random.Random(5), list[int](), 0

    def change(state: RateState) -> None:
        calls.append(count(state))

    async def update() -> None:
        nonlocal begun
        begun += 1
        await keeper.update(change)

    async with asyncio.TaskGroup() as tasks:
        updates = [tasks.create_task(update()) for _ in range(60)]
        for number, task in enumerate(updates):
            await turns(chance.randrange(4))
            task.cancel()
            if number % 3 == 0:
                await turns(1)
                task.cancel()
    assert all(task.done() for task in updates)
    assert begun > 40
    assert calls == list(range(1, begun + 1))
    assert await keeper.update(count) == begun + 1, "and nobody waits for one that was cancelled"


def test_updates_of_requests_that_are_abandoned_with_their_loop_let_it_end(states: RateStates) -> None:
    """A generator that is left behind is closed with its loop, in the middle of an update, by GeneratorExit."""

    async def abandon() -> None:
        process = Upstream(VirtualClock(MIDDLE_MS, turns=states.turns), 2_400, states=states)
        await served(process, 1, Priority.USER, 1)
        for request in [process.budget.spend(1, Priority.USER) for _ in range(15)]:
            await request.__aenter__()

    thread = threading.Thread(target=lambda: asyncio.run(abandon()), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


async def test_a_look_shows_what_this_process_changed_and_saw(states: RateStates) -> None:
    one, other = keepers(states, 2)
    await one.update(lambda state: state.book(one.me, 7, MIDDLE_MS))
    assert one.look(lambda state: state.requests) == 1
    await other.update(lambda state: None)
    assert other.look(lambda state: state.requests) == 1
    assert one.me != other.me
    assert (one.trouble, other.trouble) == (None, None)


async def test_it_can_be_looked_at_by_a_thread_while_it_changes(states: RateStates) -> None:
    (keeper,), found, stop = keepers(states, 1), list[int](), threading.Event()

    def look() -> None:
        while not stop.is_set():
            found.append(keeper.look(lambda state: state.failures))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(300):
            await keeper.update(count)
    finally:
        stop.set()
        thread.join()
    assert found == sorted(found)
    assert keeper.look(lambda state: state.failures) == 300


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)  # noqa: TID251  lets the others run; no time passes


# --- what is made of it -----------------------------------------------------------------------------------------------


async def test_hundreds_of_requests_at_once_never_leave_beyond_the_limit(states: RateStates) -> None:
    """However long each step of an update takes: what was decided on a reading is booked before the next reading."""
    clock, left = VirtualClock(MIDDLE_MS, turns=states.turns), Counter[int]()
    processes = [Upstream(clock, LIMIT, states=states) for _ in range(3)]
    under_way, most_under_way = Counter[int](), 0

    async def ask(process: Upstream) -> None:
        nonlocal most_under_way
        async with process.budget.spend(1, Priority.USER) as ticket:
            me = process.keeper.me
            under_way[me] += 1
            booked = process.keeper.look(lambda state: state.under_way[me].requests if me in state.under_way else 0)
            assert booked >= under_way[me], "it left before it was booked"
            most_under_way = max(most_under_way, under_way.total())
            left[clock.now_ms() // MINUTE_MS] += 1
            await turns(2)
            under_way[me] -= 1
            ticket.answered(None, is_success=True)

    async with asyncio.TaskGroup() as tasks:
        for number in range(200):
            tasks.create_task(ask(processes[number % 3]))
        await clock.advance(3 * MINUTE_MS)
    share = int(LIMIT * SHARES[Priority.USER])
    assert left.total() == 200, "all are admitted in the end"
    assert max(left.values()) == share
    assert 1 < most_under_way <= int(IN_FLIGHT_MAX * SHARES[Priority.USER])


async def test_nothing_stays_booked_of_requests_that_are_cancelled_at_any_moment(states: RateStates) -> None:
    clock, chance = VirtualClock(MIDDLE_MS, turns=states.turns), random.Random(7)
    processes = [Upstream(clock, 2_400, states=states) for _ in range(2)]
    await served(processes[0], 1, Priority.USER, 1)
    left = 1

    async def ask(process: Upstream, *, is_probe: bool) -> None:
        nonlocal left
        async with process.budget.spend(1, Priority.USER, is_probe=is_probe) as ticket:
            left += 1
            await turns(chance.randrange(6))
            ticket.answered(None, is_success=True)

    for number in range(40):
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(ask(processes[at % 2], is_probe=at % 3 == 0)) for at in range(8)]
            for task in asking:
                await turns(chance.randrange(12))
                task.cancel()
                if number % 2:
                    await turns(chance.randrange(3))
                    task.cancel()
    assert left > 40
    for process in processes:
        assert left <= await process.used()
        assert process.keeper.look(lambda state: state.requests) == 0
        assert [process.budget.waiting(priority) for priority in Priority] == [0] * len(Priority)
        await served(process, 1, Priority.VERIFY)


async def test_no_request_leaves_during_a_stand_down_that_another_met(states: RateStates) -> None:
    """Some are let in already and wait for a connection when the stand-down begins."""
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    one, other = Upstream(clock, 2_400, states=states), Upstream(clock, 2_400, states=states)
    await served(one, 1, Priority.USER, 1)
    left, kept = list[str](), Counter[str]()
    connected = asyncio.Event()

    async def ask(name: str, process: Upstream) -> None:
        try:
            async with process.budget.spend(1, Priority.USER):
                await connected.wait()
                await process.budget.check()
                left.append(name)
        except StandDown:
            kept[name] += 1

    async with asyncio.TaskGroup() as tasks:
        async with one.budget.spend(1, Priority.USER) as ticket:
            for number in range(40):
                tasks.create_task(ask(*(("one", one), ("other", other))[number % 2]))
            await clock.advance(0)
            assert one.keeper.look(lambda state: state.requests) > 10
            await one.budget.stand_down(418, "600", "", ticket.sent_ms)
        connected.set()
        await clock.advance(1_000)
    assert left == []
    assert kept == {"one": 20, "other": 20}


async def test_an_admitted_request_sees_a_stand_down_that_began_since_in_another_process(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    one, other = Upstream(clock, states=states), Upstream(clock, states=states)
    async with other.budget.spend(1, Priority.USER) as ticket:
        await other.budget.check()
        error = await one.budget.stand_down(418, "600", "", ticket.sent_ms)
        with pytest.raises(StandDown) as refusal:
            await other.budget.check()
    assert refusal.value.until_ms == error.until_ms


async def test_a_request_that_asks_whether_it_may_leave_while_a_stand_down_is_announced_stays(
    states: RateStates,
) -> None:
    """Between the reading and what the asking task does next, another one may have announced it."""
    for pause in range(12):
        clock = VirtualClock(MIDDLE_MS, turns=states.turns)
        process = Upstream(clock, 2_400, states=states)
        await process.budget.restore(0, "")
        left_after: list[bool] = []

        async def leave(process: Upstream = process, left_after: list[bool] = left_after) -> None:
            with suppress(StandDown):
                await process.budget.check()
                left_after.append(process.guard.active() is not None)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leave())
            await turns(pause)
            tasks.create_task(process.guard.announce(418, "600", "", clock.now_ms()))
        assert left_after in ([], [False]), "it left before it was announced, or not at all"


async def served(process: Upstream, weight: int, priority: Priority, used: int | None = None) -> None:
    async with process.budget.spend(weight, priority) as ticket:
        ticket.answered(used, is_success=True)


async def test_what_one_process_spends_the_others_cannot(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    processes = [Upstream(clock, LIMIT, states=states) for _ in range(4)]
    for number in range(int(LIMIT * SHARES[Priority.USER])):
        await served(processes[number % 4], 1, Priority.USER, number + 1)
    assert {await process.used() for process in processes} == {95}
    async with asyncio.TaskGroup() as tasks:
        late = [tasks.create_task(served(process, 1, Priority.USER)) for process in processes]
        await clock.advance(50_000)
        assert not any(task.done() for task in late)
        await clock.advance(10_000)
    assert max([await process.used() for process in processes]) == 4


async def test_a_backfill_in_one_process_leaves_users_of_another_their_share(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    writer, reader = Upstream(clock, LIMIT, states=states), Upstream(clock, LIMIT, states=states)
    for _ in range(int(LIMIT * SHARES[Priority.BACKFILL])):
        await served(writer, 1, Priority.BACKFILL)
    async with asyncio.TaskGroup() as tasks:
        backfill = tasks.create_task(served(writer, 1, Priority.BACKFILL))
        for _ in range(25):
            await served(reader, 1, Priority.USER)
        await clock.advance(1_000)
        assert not backfill.done()
        assert await writer.used() == 95
        await clock.advance(60_000)


async def test_however_many_processes_only_so_many_requests_are_under_way(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    processes = [Upstream(clock, 2_400, states=states) for _ in range(4)]
    await served(processes[0], 1, Priority.USER, 1)
    running = Counter[Priority]()

    async def ask(process: Upstream, priority: Priority) -> None:
        async with process.budget.spend(1, priority):
            running[priority] += 1
            await clock.sleep(1)
            running[priority] -= 1

    async with asyncio.TaskGroup() as tasks:
        for process in processes:
            for _ in range(10):
                tasks.create_task(ask(process, Priority.BACKFILL))
        await clock.advance(500)
        assert running[Priority.BACKFILL] == int(IN_FLIGHT_MAX * SHARES[Priority.BACKFILL])
        user = tasks.create_task(ask(processes[3], Priority.USER))
        await clock.advance(1)
        assert running[Priority.USER] == 1, "users find a way past a backfill that fills its own"
        await clock.advance(10_000)
        assert user.done()


async def test_workers_that_start_together_do_not_each_feel_their_way(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    processes = [Upstream(clock, 2_400, states=states) for _ in range(4)]
    left_ms: list[int] = []

    async def ask(process: Upstream) -> None:
        async with process.budget.spend(1, Priority.TAIL) as ticket:
            left_ms.append(clock.now_ms())
            await clock.sleep(1)
            ticket.answered(7, is_success=True)

    async with asyncio.TaskGroup() as tasks:
        for process in processes:
            for _ in range(3):
                tasks.create_task(ask(process))
        await clock.advance(999)
        assert len(left_ms) == 1
        await clock.advance(1 + int(RECHECK_S * 1_000))
        assert len(left_ms) == 12
        await clock.advance(2_000)


async def test_an_answer_that_does_not_come_holds_up_the_others_for_two_seconds_only(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    stuck, other = Upstream(clock, states=states), Upstream(clock, states=states)
    async with asyncio.TaskGroup() as tasks, stuck.budget.spend(1, Priority.TAIL):
        user = tasks.create_task(served(other, 1, Priority.USER))
        await clock.advance(FEELING_MS - 1)
        assert not user.done()
        await clock.advance(int(RECHECK_S * 1_000))
        assert user.done()


async def test_room_that_another_process_leaves_is_found_within_the_recheck(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    one, other = Upstream(clock, states=states), Upstream(clock, states=states)
    await served(one, 1, Priority.USER, 1)
    holding = [one.budget.spend(1, Priority.VERIFY) for _ in range(8)]
    for each in holding:
        await each.__aenter__()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(served(other, 1, Priority.VERIFY))
        await clock.advance(5_000)
        assert not waiting.done()
        await holding[0].__aexit__(None, None, None)
        await clock.advance(int(RECHECK_S * 1_000))
        assert waiting.done()
    for each in holding[1:]:
        await each.__aexit__(None, None, None)


async def refused(process: Upstream) -> int:
    with pytest.raises(StandDown) as refusal:
        await served(process, 1, Priority.USER)
    return refusal.value.until_ms


async def test_a_stand_down_is_everybodys_at_once_and_who_can_write_stores_it(states: RateStates) -> None:
    clock, saved = VirtualClock(MIDDLE_MS, turns=states.turns), list[tuple[int, str]]()

    async def save(until_ms: int, reason: str) -> None:
        saved.append((until_ms, reason))

    writer, reader = Upstream(clock, LIMIT, states=states, save=save), Upstream(clock, LIMIT, states=states)
    for _ in range(70):
        await served(reader, 1, Priority.BACKFILL)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(refused(writer))
        async with writer.budget.spend(25, Priority.USER):
            await clock.advance(0)
            assert not waiting.done()
        async with reader.budget.spend(0, Priority.USER) as ticket:
            error = await reader.budget.stand_down(418, "7200", "", ticket.sent_ms)
        assert error.until_ms == clock.now_ms() + 7_200_000
        assert await refused(writer) == error.until_ms, "who comes now is refused without waiting"
        await clock.advance(int(RECHECK_S * 1_000))
        assert waiting.done(), "who waits is refused at the next look"
    assert saved == [(error.until_ms, error.reason)], "the writer stores what the reader met"
    assert len(reader.witness.of(StandDownBegan)) == 1
    assert not writer.witness.of(StandDownBegan)


async def test_it_survives_kill_and_restart_although_no_database_could_be_written(states: RateStates) -> None:
    async def fails(until_ms: int, reason: str) -> None:
        raise StoreUnavailable("disk full")

    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    process = Upstream(clock, LIMIT, states=states, save=fails)
    await served(process, 40, Priority.USER)
    error = await process.budget.stand_down(418, None, "", clock.now_ms())
    process.dies()
    saved: list[tuple[int, str]] = []

    async def save(until_ms: int, reason: str) -> None:
        saved.append((until_ms, reason))

    again = Upstream(clock, LIMIT, states=states, save=save)
    await again.budget.restore(0, "")
    assert await refused(again) == error.until_ms
    assert await again.used() == 40, "nor is the weight of the minute forgotten"
    assert saved == [(error.until_ms, error.reason)]
    clock.time_ms = error.until_ms
    doubled = await again.budget.stand_down(418, None, "", clock.now_ms())
    assert doubled.until_ms - clock.now_ms() == 2 * (error.until_ms - MIDDLE_MS), "escalation goes on where it was"


async def test_the_later_of_state_and_database_counts(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    process = Upstream(clock, states=states)
    await process.budget.stand_down(418, "600", "", clock.now_ms())
    await process.budget.restore(MIDDLE_MS + 500_000, "stored")
    assert await refused(process) == MIDDLE_MS + 600_000
    await process.budget.restore(MIDDLE_MS + 700_000, "stored")
    assert await refused(Upstream(clock, states=states)) == MIDDLE_MS + 700_000


async def test_what_a_dead_process_had_under_way_blocks_nobody(states: RateStates) -> None:
    clock = VirtualClock(MIDDLE_MS, turns=states.turns)
    dead, living = Upstream(clock, LIMIT, states=states), Upstream(clock, LIMIT, states=states)
    await served(dead, 1, Priority.USER, 1)
    holding = [dead.budget.spend(1, Priority.USER) for _ in range(15)]
    for each in holding:
        await each.__aenter__()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(served(living, 1, Priority.USER))
        await clock.advance(5_000)
        assert not waiting.done()
        dead.dies()
        await clock.advance(int(RECHECK_S * 1_000))
        assert waiting.done()
    assert await living.used() == 17, "but its weight counts in its minute"
    await clock.advance(MINUTE_MS)
    assert await living.used() == 0
    again = Upstream(clock, LIMIT, states=states)
    await served(again, 1, Priority.USER)


async def test_a_clock_that_was_hours_ahead_leaves_no_trace(states: RateStates) -> None:
    ahead = VirtualClock(MIDDLE_MS + 3 * 3_600_000, turns=states.turns)
    wrong = Upstream(ahead, LIMIT, states=states)
    ticket: Ticket
    async with wrong.budget.spend(5, Priority.USER) as ticket:
        ahead.time_ms = MIDDLE_MS
        ticket.answered(30, is_success=True)
    right = Upstream(VirtualClock(MIDDLE_MS, turns=states.turns), LIMIT, states=states)
    assert await right.used() <= 30 + 5
    await served(right, 1, Priority.USER)
