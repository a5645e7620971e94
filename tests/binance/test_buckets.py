"""What the exchange counts in buckets of their own: within its five minutes, one for all processes, not waited for."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.binance.rate_state import GRANTED, SLOT_MS, SLOTS_COUNTED, SLOTS_MAX, WINDOW_MS, RateState
from app.domain.kind import Bucket
from app.ports.errors import BucketFull
from app.ports.exchange import Priority
from infra.binance.budget import SHARES
from tests.binance.upstream import Upstream
from tests.clocks import START_MS, VirtualClock

GRANTED_TO_USERS = {bucket: int(granted * SHARES[Priority.USER]) for bucket, granted in GRANTED.items()}


async def ask(process: Upstream, bucket: Bucket, number: int = 1, priority: Priority = Priority.USER) -> None:
    for _ in range(number):
        async with process.budget.spend(0, priority, bucket=bucket) as ticket:
            ticket.answered(None, is_success=True)


def asked(process: Upstream, clock: VirtualClock) -> int:
    return process.keeper.look(lambda state: state.asked_lately(Bucket.DATA, clock.now_ms()))


@given(st.lists(st.tuples(st.integers(0, 45_000), st.integers(1, 80)), min_size=1, max_size=60))
def test_no_five_minutes_ever_hold_more_than_is_granted(bursts: list[tuple[int, int]]) -> None:
    rate_state, now_ms, left = RateState(), START_MS, list[int]()
    for pause_ms, number in bursts:
        now_ms += pause_ms
        for _ in range(number):
            if rate_state.asked(Bucket.FUNDING, now_ms) < GRANTED[Bucket.FUNDING]:
                rate_state.draw(Bucket.FUNDING, now_ms)
                left.append(now_ms)
        assert sum(now_ms - WINDOW_MS < each for each in left) <= GRANTED[Bucket.FUNDING]
        assert len(rate_state.slots[Bucket.FUNDING]) <= SLOTS_MAX


async def test_a_full_bucket_refuses_says_when_to_ask_again_and_keeps_its_word() -> None:
    clock = VirtualClock(START_MS + 5_000)
    process = Upstream(clock)
    await ask(process, Bucket.FUNDING, GRANTED_TO_USERS[Bucket.FUNDING])
    with pytest.raises(BucketFull) as refused:
        await ask(process, Bucket.FUNDING)
    await ask(process, Bucket.DATA)
    assert 0 < refused.value.until_ms - clock.now_ms() <= WINDOW_MS + SLOT_MS + 1_000
    clock.time_ms = refused.value.until_ms - 1
    with pytest.raises(BucketFull):
        await ask(process, Bucket.FUNDING)
    clock.time_ms += 1
    await ask(process, Bucket.FUNDING, GRANTED_TO_USERS[Bucket.FUNDING])


async def test_what_is_no_users_is_spread_over_the_five_minutes_and_leaves_users_room() -> None:
    clock = VirtualClock()
    process = Upstream(clock)
    ceiling = int(GRANTED[Bucket.DATA] * SHARES[Priority.TAIL])
    others = Counter[int]()
    for _ in range(30 * 60):
        await ask(process, Bucket.BASIS)  # one a second, and none is refused
        slot, before = clock.now_ms() // SLOT_MS, asked(process, clock)
        with pytest.raises(BucketFull) as refused:
            await ask(process, Bucket.OPEN_INTEREST, 1_000, Priority.TAIL)
        others[slot] += asked(process, clock) - before
        assert clock.now_ms() < refused.value.until_ms <= clock.now_ms() + WINDOW_MS + SLOT_MS + 1_000
        clock.time_ms += 1_000
    assert max(others.values()) <= ceiling // SLOTS_COUNTED + 1
    assert sum(others.values()) + 30 * 60 >= 6 * ceiling * 10 // 11, "none is wasted"
    apart = Upstream(clock, is_data_shared=False)
    await ask(apart, Bucket.OPEN_INTEREST, ceiling, Priority.TAIL)


async def test_a_full_bucket_stops_nobody_who_asks_for_something_else() -> None:
    process = Upstream(VirtualClock())
    await ask(process, Bucket.DATA, GRANTED_TO_USERS[Bucket.DATA])
    with pytest.raises(BucketFull):
        await ask(process, Bucket.DATA)
    async with process.budget.spend(5, Priority.USER) as ticket:
        ticket.answered(5, is_success=True)
    assert process.budget.used == 5


@pytest.mark.parametrize("bucket", Bucket)
async def test_processes_share_a_bucket_and_a_restart_does_not_empty_it(tmp_path: Path, bucket: Bucket) -> None:
    file, clock = tmp_path / "klinenode.db.weight", VirtualClock()
    one, other = Upstream(clock, path=file), Upstream(clock, path=file)
    await ask(one, bucket, GRANTED_TO_USERS[bucket] - 3)
    await ask(other, bucket, 3)
    for process in (one, other):
        with pytest.raises(BucketFull):
            await ask(process, bucket)
        process.dies()
    with pytest.raises(BucketFull):
        await ask(Upstream(clock, path=file), bucket)


async def test_endpoints_of_data_share_a_limit_or_have_one_each(tmp_path: Path) -> None:
    clock = VirtualClock()
    granted = GRANTED_TO_USERS[Bucket.DATA]
    together, apart = Upstream(clock), Upstream(clock, is_data_shared=False)
    for process in (together, apart):
        await ask(process, Bucket.OPEN_INTEREST, granted)
        with pytest.raises(BucketFull):
            await ask(process, Bucket.OPEN_INTEREST)
        await ask(process, Bucket.FUNDING)
    for bucket in (Bucket.TAKERS, Bucket.BASIS, Bucket.DELIVERY):
        with pytest.raises(BucketFull):
            await ask(together, bucket)
        await ask(apart, bucket, granted)


@pytest.mark.parametrize("is_shared_first", [True, False])
async def test_a_change_of_the_setting_forgets_no_request(tmp_path: Path, is_shared_first: bool) -> None:
    file, clock = tmp_path / "klinenode.db.weight", VirtualClock()
    first = Upstream(clock, path=file, is_data_shared=is_shared_first)
    await ask(first, Bucket.OPEN_INTEREST, GRANTED_TO_USERS[Bucket.DATA] - 1)
    await ask(first, Bucket.TAKERS)
    first.dies()
    then = Upstream(clock, path=file, is_data_shared=not is_shared_first)
    if is_shared_first:
        await ask(then, Bucket.OPEN_INTEREST)
        await ask(then, Bucket.TAKERS, 10)
    with pytest.raises(BucketFull):
        await ask(then, Bucket.OPEN_INTEREST)


async def test_an_answer_that_says_nothing_of_the_weight_leaves_the_minute_unknown() -> None:
    clock = VirtualClock()
    process = Upstream(clock)
    await ask(process, Bucket.DATA)
    assert not process.keeper.look(lambda state: state.is_known(clock.now_ms()))
