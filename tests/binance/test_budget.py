import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance.rate_state import SKEW_MS_MAX
from app.domain.interval import MINUTE_MS
from app.ports.errors import StandDown, UpstreamUnavailable
from app.ports.exchange import Priority
from infra.binance.budget import IN_FLIGHT_MAX, SHARES, WAITERS_MAX, WeightBudget
from tests.binance.upstream import Upstream
from tests.clocks import VirtualClock

LIMIT = 100


def make_budget(clock: VirtualClock, limit: int = LIMIT) -> WeightBudget:
    return Upstream(clock, limit).budget


@dataclass
class Exchange:
    """Books weight in its own clock minutes, which turn `skew_ms` before ours, at any time while a request lasts."""

    clock: VirtualClock
    skew_ms: int = 0

    def __post_init__(self) -> None:
        self.booked: Counter[int] = Counter()

    def book(self, weight: int) -> int:
        minute = (self.clock.now_ms() + self.skew_ms) // MINUTE_MS
        self.booked[minute] += weight
        return self.booked[minute]


@dataclass(frozen=True)
class Call:
    copies: int
    after_ms: int
    weight: int
    priority: Priority
    there_ms: int
    back_ms: int
    tells: bool


near_a_turn = st.builds(
    lambda minute, offset_ms: minute * MINUTE_MS + offset_ms, st.integers(1, 2), st.integers(-1_500, 1_500)
)
calls = st.builds(
    Call,
    copies=st.integers(1, 12),
    after_ms=st.one_of(near_a_turn, st.integers(0, 150_000)),
    weight=st.sampled_from((1, 5, 10)),
    priority=st.sampled_from((Priority.USER, *Priority)),
    there_ms=st.one_of(st.integers(0, 300), st.integers(0, 5_000)),
    back_ms=st.one_of(st.integers(0, 300), st.integers(0, 70_000)),
    tells=st.booleans(),
)


@given(st.lists(calls, max_size=30), st.integers(-SKEW_MS_MAX, SKEW_MS_MAX))
@settings(max_examples=150)
def test_no_minute_of_the_exchange_ever_holds_more_than_the_limit(schedule: list[Call], skew_ms: int) -> None:
    clock = VirtualClock()
    budget = make_budget(clock)
    exchange = Exchange(clock, skew_ms)
    done: list[Call] = []

    async def request(call: Call) -> None:
        await clock.sleep(call.after_ms / 1_000)
        async with budget.spend(call.weight, call.priority) as ticket:
            await clock.sleep(call.there_ms / 1_000)
            used = exchange.book(call.weight)
            await clock.sleep(call.back_ms / 1_000)
            ticket.answered(used if call.tells else None, is_success=True)
        done.append(call)

    async def everybody() -> None:
        async with asyncio.TaskGroup() as tasks:
            for call in schedule:
                for _ in range(call.copies):
                    tasks.create_task(request(call))

    clock.run(everybody())
    assert len(done) == sum(call.copies for call in schedule), "everybody is served in the end"
    assert max(exchange.booked.values(), default=0) <= LIMIT * SHARES[Priority.USER]


@pytest.mark.parametrize("skew_ms", [-SKEW_MS_MAX, -400, 0, 400, SKEW_MS_MAX])
def test_a_turn_of_the_minute_that_the_exchange_sees_at_another_time_gives_no_double_share(skew_ms: int) -> None:
    clock = VirtualClock()
    budget = make_budget(clock)
    exchange = Exchange(clock, skew_ms)

    async def request() -> None:
        async with budget.spend(5, Priority.USER) as ticket:
            await clock.sleep(0.01)
            ticket.answered(exchange.book(5), is_success=True)

    async def rush_over_the_turn() -> None:
        await clock.sleep(MINUTE_MS / 1_000 - 1.5)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(60):
                tasks.create_task(request())
                await clock.sleep(0.05)

    clock.run(rush_over_the_turn())
    assert max(exchange.booked.values()) <= LIMIT * SHARES[Priority.USER]


async def served(budget: WeightBudget, weight: int, priority: Priority, used: int | None = None) -> None:
    async with budget.spend(weight, priority) as ticket:
        ticket.answered(used, is_success=True)


@pytest.mark.parametrize("priority", Priority)
async def test_each_priority_fills_its_share_and_waits_for_the_next_minute(priority: Priority) -> None:
    clock = VirtualClock(1_790_000_040_000 + 5_000)
    budget = make_budget(clock)
    for _ in range(int(LIMIT * SHARES[priority])):
        await served(budget, 1, priority)
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(served(budget, 1, priority))
        await clock.advance(55_000 + SKEW_MS_MAX - 1)
        assert not late.done()
        await clock.advance(1)
        assert late.done()


async def test_who_matters_more_goes_first_and_equals_in_order_of_arrival() -> None:
    clock = VirtualClock()
    budget = make_budget(clock)
    order: list[str] = []

    async def ask(name: str, priority: Priority) -> None:
        async with budget.spend(1, priority):
            order.append(name)

    async with asyncio.TaskGroup() as tasks, budget.spend(1, Priority.USER):  # the first one after a start goes alone
        for name in ("verify", "backfill", "tail-1", "tail-2", "user"):
            tasks.create_task(ask(name, Priority[name.split("-")[0].upper()]))
        await clock.advance(0)
        assert order == []
    assert order == ["user", "tail-1", "tail-2", "backfill", "verify"]


async def test_weight_of_other_programs_makes_us_yield() -> None:
    clock = VirtualClock(1_790_000_040_000 + 5_000)
    budget = make_budget(clock)
    await served(budget, 1, Priority.TAIL, used=84)
    assert budget.used == 84
    await served(budget, 1, Priority.TAIL)
    async with asyncio.TaskGroup() as tasks:
        backfill = tasks.create_task(served(budget, 1, Priority.BACKFILL))
        await clock.advance(1_000)
        assert not backfill.done()
        await served(budget, 5, Priority.USER)  # users still go
        await clock.advance(60_000)
        assert backfill.done()


async def test_a_late_answer_does_not_carry_the_old_minutes_weight_into_the_new_one() -> None:
    clock = VirtualClock(1_790_000_040_000 + 58_000)
    budget = make_budget(clock)
    async with budget.spend(10, Priority.USER) as ticket:
        await clock.advance(5_000)
        ticket.answered(95, is_success=True)
    assert budget.used == 10
    async with asyncio.TaskGroup() as tasks, budget.spend(1, Priority.USER):
        other = tasks.create_task(served(budget, 1, Priority.USER))
        await clock.advance(0)
        assert not other.done(), "nor does it tell the state of the new one: requests still go one at a time"


async def test_requests_leave_one_at_a_time_until_an_answer_told_the_state() -> None:
    clock = VirtualClock(1_790_000_040_000 + 5_000)
    budget = make_budget(clock, 2_400)
    running = Counter[str]()

    async def ask() -> None:
        async with budget.spend(1, Priority.TAIL) as ticket:
            running["now"] += 1
            await clock.sleep(1.0)
            ticket.answered(7, is_success=True)
            running["now"] -= 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(40):
            tasks.create_task(ask())
        await clock.advance(999)
        assert running["now"] == 1
        await clock.advance(1)
        assert running["now"] == int(IN_FLIGHT_MAX * SHARES[Priority.TAIL])
        await clock.advance(10_000)


async def test_waiters_are_bounded_and_one_that_gives_up_leaves_the_queue() -> None:
    clock = VirtualClock()
    budget = make_budget(clock)
    async with asyncio.TaskGroup() as tasks, budget.spend(1, Priority.USER):
        waiting = [tasks.create_task(served(budget, 1, Priority.VERIFY)) for _ in range(WAITERS_MAX)]
        await clock.advance(0)
        with pytest.raises(UpstreamUnavailable, match="wait for weight"):
            await served(budget, 1, Priority.VERIFY)
        for task in waiting[:-1]:
            task.cancel()
        await clock.advance(0)
        assert budget.waiting(Priority.VERIFY) == 1


async def test_a_request_that_never_fits_is_refused_instead_of_waiting_for_ever() -> None:
    budget = make_budget(VirtualClock(), limit=5)
    with pytest.raises(UpstreamUnavailable, match="WEIGHT_PER_MINUTE=5"):
        await served(budget, 10, Priority.USER)
    await served(budget, 5, Priority.VERIFY)


async def test_a_stand_down_refuses_those_who_wait_and_those_who_come() -> None:
    clock = VirtualClock()
    budget = make_budget(clock)
    async with asyncio.TaskGroup() as tasks:
        async with budget.spend(1, Priority.USER) as ticket:
            waiting = tasks.create_task(_refused(budget))
            await clock.advance(0)
            error = await budget.stand_down(429, "30", "too much", ticket.sent_ms)
        assert await waiting == error.until_ms == clock.now_ms() + 30_000
        assert await _refused(budget) == error.until_ms
    await clock.advance(30_000)
    await served(budget, 1, Priority.USER)


async def test_after_a_stand_down_requests_leave_one_at_a_time_whatever_was_in_flight() -> None:
    clock = VirtualClock(1_790_000_040_000 + 5_000)
    budget = make_budget(clock)
    await served(budget, 1, Priority.USER, used=1)
    async with budget.spend(1, Priority.USER) as straggler:
        async with budget.spend(1, Priority.USER) as limited:
            error = await budget.stand_down(429, "30", "", limited.sent_ms)
        straggler.answered(9, is_success=True)
    clock.time_ms = error.until_ms
    async with asyncio.TaskGroup() as tasks, budget.spend(1, Priority.USER):
        other = tasks.create_task(served(budget, 1, Priority.USER))
        await clock.advance(0)
        assert not other.done()


async def _refused(budget: WeightBudget) -> int:
    with pytest.raises(StandDown) as refusal:
        await served(budget, 1, Priority.USER)
    return refusal.value.until_ms
