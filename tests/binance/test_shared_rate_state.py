"""One standing for all processes on a database: booked once, seen by all, outliving each; and what if it is lost."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.interval import MINUTE_MS
from app.domain.kind import Bucket
from app.events import StandDownBegan, StandingNotShared
from app.ports.errors import StandDown, StoreUnavailable
from app.ports.exchange import Priority
from infra.binance.budget import IN_FLIGHT_MAX, RECHECK_S, SHARES, Ticket
from infra.binance.rate_state import FEELING_MS, SLOTS_MAX, Minute, RateState, UnderWay
from infra.binance.shared_rate_state import (
    FILE_BYTES,
    PROCESSES_MAX,
    RETRY_MS,
    Damaged,
    SharedRateState,
    decode,
    encode,
)
from tests.binance.clocks import START_MS, VirtualClock
from tests.binance.loopback import Witness
from tests.binance.upstream import Upstream

LIMIT = 100
MIDDLE_MS = START_MS + 5_000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "klinenode.db.weight"


async def served(process: Upstream, weight: int, priority: Priority, used: int | None = None) -> None:
    async with process.budget.spend(weight, priority) as ticket:
        ticket.answered(used, is_success=True)


numbers = st.integers(0, 2**62)
standings = st.builds(
    RateState,
    minutes=st.dictionaries(numbers, st.builds(Minute, numbers, st.booleans()), max_size=8),
    under_way=st.dictionaries(
        st.integers(0, PROCESSES_MAX - 1), st.builds(UnderWay, st.integers(1, 99), numbers, numbers), max_size=5
    ),
    left_ms=numbers, until_ms=numbers, began_ms=numbers, in_a_row=numbers, reason=st.text("aé币", max_size=100),
    slots=st.dictionaries(
        st.sampled_from(Bucket), st.dictionaries(numbers, numbers, min_size=1, max_size=SLOTS_MAX)
    ),
    failures=numbers, probes=numbers, retry_ms=numbers, probe_ms=numbers, silence=st.text("a币", max_size=100),
)  # fmt: skip


@given(standings)
def test_what_is_written_is_read_back(rate_state: RateState) -> None:
    assert decode(encode(rate_state)) == rate_state


@given(standings, st.integers(0, FILE_BYTES - 1), st.integers(1, 255))
def test_no_damaged_byte_goes_unnoticed(rate_state: RateState, at: int, flip: int) -> None:
    content = bytearray(encode(rate_state))
    content[at] ^= flip
    with pytest.raises(Damaged):
        decode(bytes(content))
    with pytest.raises(Damaged):
        decode(bytes(content[:at]))


def test_a_reason_of_any_length_fits() -> None:
    assert decode(encode(RateState(reason="币" * 5_000))).reason == "币" * 200


async def test_what_one_process_spends_the_others_cannot(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    processes = [Upstream(clock, LIMIT, path=file) for _ in range(4)]
    for number in range(int(LIMIT * SHARES[Priority.USER])):
        await served(processes[number % 4], 1, Priority.USER, number + 1)
    assert {process.budget.used for process in processes} == {95}
    async with asyncio.TaskGroup() as tasks:
        late = [tasks.create_task(served(process, 1, Priority.USER)) for process in processes]
        await clock.advance(50_000)
        assert not any(task.done() for task in late)
        await clock.advance(10_000)
    assert max(process.budget.used for process in processes) == 4


async def test_a_backfill_in_one_process_leaves_users_of_another_their_share(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    writer, reader = Upstream(clock, LIMIT, path=file), Upstream(clock, LIMIT, path=file)
    for _ in range(int(LIMIT * SHARES[Priority.BACKFILL])):
        await served(writer, 1, Priority.BACKFILL)
    async with asyncio.TaskGroup() as tasks:
        backfill = tasks.create_task(served(writer, 1, Priority.BACKFILL))
        for _ in range(25):
            await served(reader, 1, Priority.USER)
        await clock.advance(1_000)
        assert not backfill.done()
        assert writer.budget.used == 95
        await clock.advance(60_000)


async def test_however_many_processes_only_so_many_requests_are_under_way(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    processes = [Upstream(clock, 2_400, path=file) for _ in range(4)]
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


async def test_workers_that_start_together_do_not_each_feel_their_way(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    processes = [Upstream(clock, 2_400, path=file) for _ in range(4)]
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


async def test_an_answer_that_does_not_come_holds_up_the_others_for_two_seconds_only(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    stuck, other = Upstream(clock, path=file), Upstream(clock, path=file)
    async with asyncio.TaskGroup() as tasks, stuck.budget.spend(1, Priority.TAIL):
        user = tasks.create_task(served(other, 1, Priority.USER))
        await clock.advance(FEELING_MS - 1)
        assert not user.done()
        await clock.advance(int(RECHECK_S * 1_000))
        assert user.done()


async def test_room_that_another_process_leaves_is_found_within_the_recheck(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    one, other = Upstream(clock, path=file), Upstream(clock, path=file)
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


async def test_a_stand_down_is_everybodys_at_once_and_who_can_write_stores_it(file: Path) -> None:
    clock, saved = VirtualClock(MIDDLE_MS), list[tuple[int, str]]()

    async def save(until_ms: int, reason: str) -> None:
        saved.append((until_ms, reason))

    writer, reader = Upstream(clock, LIMIT, path=file, save=save), Upstream(clock, LIMIT, path=file)
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


async def test_it_survives_kill_and_restart_although_no_database_could_be_written(file: Path) -> None:
    async def fails(until_ms: int, reason: str) -> None:
        raise StoreUnavailable("disk full")

    clock = VirtualClock(MIDDLE_MS)
    process = Upstream(clock, LIMIT, path=file, save=fails)
    await served(process, 40, Priority.USER)
    error = await process.budget.stand_down(418, None, "", clock.now_ms())
    process.dies()
    saved: list[tuple[int, str]] = []

    async def save(until_ms: int, reason: str) -> None:
        saved.append((until_ms, reason))

    again = Upstream(clock, LIMIT, path=file, save=save)
    again.budget.restore(0, "")
    assert await refused(again) == error.until_ms
    assert again.budget.used == 40, "nor is the weight of the minute forgotten"
    assert saved == [(error.until_ms, error.reason)]
    clock.time_ms = error.until_ms
    doubled = await again.budget.stand_down(418, None, "", clock.now_ms())
    assert doubled.until_ms - clock.now_ms() == 2 * (error.until_ms - MIDDLE_MS), "escalation goes on where it was"


async def test_the_later_of_file_and_database_counts(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    process = Upstream(clock, path=file)
    await process.budget.stand_down(418, "600", "", clock.now_ms())
    process.budget.restore(MIDDLE_MS + 500_000, "stored")
    assert await refused(process) == MIDDLE_MS + 600_000
    process.budget.restore(MIDDLE_MS + 700_000, "stored")
    assert await refused(Upstream(clock, path=file)) == MIDDLE_MS + 700_000


async def test_what_a_dead_process_had_under_way_blocks_nobody(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    dead, living = Upstream(clock, LIMIT, path=file), Upstream(clock, LIMIT, path=file)
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
    assert living.budget.used == 17, "but its weight counts in its minute"
    await clock.advance(MINUTE_MS)
    assert living.budget.used == 0
    again = Upstream(clock, LIMIT, path=file)
    await served(again, 1, Priority.USER)


def written_by_somebody_else(file: Path) -> None:
    file.write_bytes(b"something else" * 300)


def deleted(file: Path) -> None:
    file.unlink()


def put_in_the_way(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.mkdir(parents=True)


def taken_away(file: Path) -> None:
    file.rmdir()


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[700] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [written_by_somebody_else, cut_short, flipped])
async def test_a_damaged_file_is_reported_once_and_written_anew(file: Path, harm: Callable[[Path], None]) -> None:
    clock = VirtualClock(MIDDLE_MS)
    process, other = Upstream(clock, LIMIT, path=file), Upstream(clock, LIMIT, path=file)
    await served(process, 50, Priority.USER, 50)
    until_ms = (await process.budget.stand_down(429, "30", "", clock.now_ms())).until_ms
    harm(file)
    for _ in range(5):
        assert await refused(process) == until_ms
    assert process.budget.used == 50
    (event,) = process.witness.of(StandingNotShared)
    assert "written anew" in event.reason
    assert await refused(other) == until_ms
    assert not other.witness.of(StandingNotShared)


async def test_a_file_damaged_while_nobody_ran_makes_requests_feel_their_way(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    written_by_somebody_else(file)
    process = Upstream(clock, LIMIT, path=file)
    async with asyncio.TaskGroup() as tasks, process.budget.spend(1, Priority.USER):
        other = tasks.create_task(served(process, 1, Priority.USER))
        await clock.advance(0)
        assert not other.done()
    assert len(process.witness.of(StandingNotShared)) == 1


async def test_a_deleted_file_is_made_again_with_what_is_known(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    one, other = Upstream(clock, LIMIT, path=file), Upstream(clock, LIMIT, path=file)
    await served(one, 60, Priority.USER)
    assert other.budget.used == 60
    deleted(file)
    async with one.budget.spend(5, Priority.USER) as ticket:
        assert other.budget.used == 65
        ticket.answered(None, is_success=True)
    assert one.budget.used == other.budget.used == 65


async def test_a_file_that_cannot_be_made_slows_the_process_down_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    put_in_the_way(folder / "klinenode.db.weight")
    clock = VirtualClock(MIDDLE_MS)
    process = Upstream(clock, LIMIT, path=folder / "klinenode.db.weight")
    await served(process, 10, Priority.USER, 10)
    async with asyncio.TaskGroup() as tasks:
        async with process.budget.spend(1, Priority.USER) as ticket:
            other = tasks.create_task(served(process, 1, Priority.USER))
            await clock.advance(1_000)
            assert not other.done(), "one at a time: every request knows what the answer before it told"
            ticket.answered(20, is_success=True)
        await clock.advance(0)
        assert other.done()
    (event,) = process.witness.of(StandingNotShared)
    (complaint,) = process.budget.complaints()
    assert "klinenode.db.weight" in complaint
    taken_away(folder / "klinenode.db.weight")
    await clock.advance(RETRY_MS)
    assert process.budget.used == 21
    assert process.budget.complaints() == []
    assert Upstream(clock, LIMIT, path=folder / "klinenode.db.weight").budget.used == 21
    assert event.path.endswith("klinenode.db.weight")


async def test_a_process_that_was_stopped_while_it_had_the_lock_does_not_stop_the_others(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    process = Upstream(clock, LIMIT, path=file)
    await served(process, 10, Priority.USER, 10)
    fd = os.open(file, os.O_RDWR)
    try:
        flock(fd, LOCK_EX)
        await served(process, 10, Priority.USER, 20)
        assert process.budget.used == 20
        (event,) = process.witness.of(StandingNotShared)
        assert "lock" in event.reason
        flock(fd, LOCK_UN)
    finally:
        os.close(fd)
    await clock.advance(RETRY_MS)
    assert Upstream(clock, LIMIT, path=file).budget.used == 10
    assert process.budget.used == 20
    assert Upstream(clock, LIMIT, path=file).budget.used == 20, "what was booked meanwhile is joined"


async def test_a_request_under_way_when_the_file_was_lost_ends_all_the_same(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    process = Upstream(clock, LIMIT, path=file)
    await served(process, 1, Priority.USER, 1)
    async with process.budget.spend(3, Priority.USER) as ticket:
        put_in_the_way(file)
        assert process.budget.used == 4
        ticket.answered(9, is_success=True)
    assert process.budget.used == 9
    taken_away(file)
    await clock.advance(RETRY_MS)
    with process.keeper as rate_state:
        assert rate_state.requests == 0
        assert rate_state.used(clock.now_ms() // MINUTE_MS) == 9


async def test_more_processes_than_places_go_by_themselves(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    keepers = [SharedRateState(file, clock, Witness()) for _ in range(PROCESSES_MAX + 1)]
    for keeper in keepers:
        with keeper:
            pass
    assert [keeper.trouble is None for keeper in keepers] == [True] * PROCESSES_MAX + [False]
    assert sorted(keeper.me for keeper in keepers[:-1]) == list(range(PROCESSES_MAX))
    for keeper in keepers:
        keeper.close()


async def test_a_clock_that_was_hours_ahead_leaves_no_trace(file: Path) -> None:
    ahead = VirtualClock(MIDDLE_MS + 3 * 3_600_000)
    wrong = Upstream(ahead, LIMIT, path=file)
    ticket: Ticket
    async with wrong.budget.spend(5, Priority.USER) as ticket:
        ahead.time_ms = MIDDLE_MS
        ticket.answered(30, is_success=True)
    right = Upstream(VirtualClock(MIDDLE_MS), LIMIT, path=file)
    assert right.budget.used <= 30 + 5
    await served(right, 1, Priority.USER)


WORKER = """
import asyncio, os, sys
from pathlib import Path
from app.ports.exchange import Priority
from tests.binance.clocks import VirtualClock
from tests.binance.upstream import Upstream

async def main():
    process = Upstream(VirtualClock(int(sys.argv[3])), int(sys.argv[2]), path=Path(sys.argv[1]))
    while True:
        async with process.budget.spend(1, Priority.USER) as ticket:
            os.write(1, b"+")
            ticket.answered(None, is_success=True)

asyncio.run(main())
"""


def start(file: Path, limit: int, now_ms: int, out: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", WORKER, str(file), str(limit), str(now_ms)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=out)


async def test_processes_killed_at_full_speed_never_book_more_than_one_share_together(file: Path) -> None:
    """Three at once on one file in one minute, all killed in the middle; a fourth one finds what they left."""
    limit = 1_000
    share = int(limit * SHARES[Priority.USER])
    theirs, ours = os.pipe()
    processes = [start(file, limit, MIDDLE_MS, ours) for _ in range(3)]
    os.close(ours)
    with os.fdopen(theirs, "rb") as pipe:
        said = await asyncio.to_thread(pipe.read, 300)
        for process in processes:
            process.kill()
            process.wait()
        said += pipe.read()
    clock = VirtualClock(MIDDLE_MS)
    last = Upstream(clock, limit, path=file)
    booked = last.budget.used
    assert len(said) <= booked <= share
    with last.keeper as rate_state:
        assert rate_state.requests == 0, "the dead have nothing under way"
    for _ in range(share - booked):
        await served(last, 1, Priority.USER)
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(served(last, 1, Priority.USER))
        await clock.advance(1_000)
        assert not late.done()
        await clock.advance(MINUTE_MS)
    assert not last.witness.of(StandingNotShared)
