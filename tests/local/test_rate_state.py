"""The rate state's file: its layout, and what happens when it is damaged, lost, locked or cannot be made."""

import asyncio
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_UN, flock
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.binance.rate_state import SLOTS_MAX, Minute, RateState, UnderWay
from app.domain.interval import MINUTE_MS
from app.domain.kind import Bucket
from app.events import RateStateNotShared
from app.ports.errors import StandDown
from app.ports.exchange import Priority
from infra.binance.budget import SHARES
from infra.local.rate_state import (
    FILE_BYTES,
    RETRY_MS,
    Damaged,
    LocalRateState,
    decode,
    encode,
)
from infra.process.place import PROCESSES_MAX
from tests.binance.upstream import Upstream
from tests.clocks import START_MS, VirtualClock
from tests.net.loopback import Witness

LIMIT = 100
MIDDLE_MS = START_MS + 5_000
ROOT = Path(__file__).parents[2]
HEAD_BYTES = 12
BYTES_BEFORE = 3_088  # of files of the version before


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
        st.sampled_from(Bucket),
        st.dictionaries(st.integers(0, 2**46), st.integers(0, 65_535), min_size=1, max_size=SLOTS_MAX),
    ),
    failures=numbers, probes=numbers, retry_ms=numbers, probe_ms=numbers, silence=st.text("a币", max_size=100),
)  # fmt: skip


@given(standings)
def test_what_is_written_is_read_back(rate_state: RateState) -> None:
    assert decode(encode(rate_state)) == rate_state


def test_the_layout_is_that_of_the_files_there_are() -> None:
    """Whoever changes it changes the number in its first bytes, and says what becomes of files with the old one."""
    state = RateState(
        minutes={29_833_334: Minute(70, is_told=True), 29_833_335: Minute(5)},
        under_way={0: UnderWay(2, 7, 29_833_335), 63: UnderWay(1, 1, 29_833_334)},
        left_ms=1, until_ms=2, began_ms=3, in_a_row=4, reason="HTTP 418: банан 币",
        failures=5, probes=6, retry_ms=7, probe_ms=8, silence="no answer 币",
        slots={Bucket.FUNDING: {59_666_668: 3}, Bucket.DATA: {59_666_669: 9, 59_666_670: 1}},
    )  # fmt: skip
    body = encode(state)[HEAD_BYTES:BYTES_BEFORE]
    before = struct.pack("<8sI", b"klnstd02", zlib.crc32(body)) + body  # as version 02 wrote it
    assert sha256(before).hexdigest() == "ae1c2bda85cb836eec5519387e23a3a924f7c554b75c5a39ffc2adfe78e7b5b0"
    state.slots |= {bucket: state.slots[Bucket.DATA] for bucket in Bucket if bucket > Bucket.DATA}
    assert decode(before) == state, "each endpoint may have had all requests that were counted together"
    state.slots[Bucket.DELIVERY] = {59_666_670: 70_000}
    content = encode(state)
    assert content.startswith(b"klnstd03")
    assert sha256(content).hexdigest() == "e26d2e1bf4c979eb1489a196402d5a15370c944829877486cd3357cedb71a143"
    assert decode(content).slots[Bucket.DELIVERY] == {59_666_670: 65_535}, "more than is ever granted"


def file_of(file: Path, content: bytes) -> None:
    file.write_bytes(content)


async def test_a_file_of_the_version_before_is_read_and_replaced(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    body = encode(RateState(minutes={MIDDLE_MS // MINUTE_MS: Minute(70, is_told=True)}))[HEAD_BYTES:BYTES_BEFORE]
    file_of(file, struct.pack("<8sI", b"klnstd02", zlib.crc32(body)) + body)
    process = Upstream(clock, LIMIT, path=file)
    assert process.budget.used == 70
    await served(process, 1, Priority.USER, 71)
    assert Upstream(clock, LIMIT, path=file).budget.used == 71
    assert not process.witness.of(RateStateNotShared)


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


async def refused(process: Upstream) -> int:
    with pytest.raises(StandDown) as refusal:
        await served(process, 1, Priority.USER)
    return refusal.value.until_ms


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
    (event,) = process.witness.of(RateStateNotShared)
    assert "written anew" in event.reason
    assert await refused(other) == until_ms
    assert not other.witness.of(RateStateNotShared)


async def test_a_file_damaged_while_nobody_ran_makes_requests_feel_their_way(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    written_by_somebody_else(file)
    process = Upstream(clock, LIMIT, path=file)
    async with asyncio.TaskGroup() as tasks, process.budget.spend(1, Priority.USER):
        other = tasks.create_task(served(process, 1, Priority.USER))
        await clock.advance(0)
        assert not other.done()
    assert len(process.witness.of(RateStateNotShared)) == 1


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
    (event,) = process.witness.of(RateStateNotShared)
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
        (event,) = process.witness.of(RateStateNotShared)
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
    assert process.keeper.look(lambda state: state.requests) == 0
    assert process.keeper.look(lambda state: state.used(clock.now_ms() // MINUTE_MS)) == 9


async def test_more_processes_than_places_go_by_themselves(file: Path) -> None:
    clock = VirtualClock(MIDDLE_MS)
    keepers = [LocalRateState(file, clock, Witness()) for _ in range(PROCESSES_MAX + 1)]
    for keeper in keepers:
        await keeper.update(lambda state: None)
    assert [keeper.trouble is None for keeper in keepers] == [True] * PROCESSES_MAX + [False]
    assert sorted(keeper.me for keeper in keepers[:-1]) == list(range(PROCESSES_MAX))
    for keeper in keepers:
        keeper.close()


WORKER = """
import asyncio, os, sys
from pathlib import Path
from app.ports.exchange import Priority
from tests.clocks import VirtualClock
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
    assert last.keeper.look(lambda state: state.requests) == 0, "the dead have nothing under way"
    for _ in range(share - booked):
        await served(last, 1, Priority.USER)
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(served(last, 1, Priority.USER))
        await clock.advance(1_000)
        assert not late.done()
        await clock.advance(MINUTE_MS)
    assert not last.witness.of(RateStateNotShared)
