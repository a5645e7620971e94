"""The spill on disk: order, bounds, damage, and what a killed process leaves."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.ports.publishing import Message
from app.ports.spilling import SpillRefused
from infra.spill import segments
from infra.spill.frames import MAGIC
from infra.spill.segments import SegmentSpill
from tests.patience import PATIENCE_S

ROOM = 100_000_000
KILLED = """
import asyncio, sys
from pathlib import Path
from app.ports.publishing import Message
from infra.spill.segments import SegmentSpill

async def spill_for_ever():
    spill = SegmentSpill(Path(sys.argv[1]), 100_000_000, print)
    number = 0
    while True:
        group = [Message("s", b"x" * 500, str(each)) for each in range(number, number + 20)]
        await spill.append(group)
        number += 20
        print(number, flush=True)

asyncio.run(spill_for_ever())
"""


def opened(folder: Path, damages: list[str] | None = None, bytes_max: int = ROOM) -> SegmentSpill:
    return SegmentSpill(folder, bytes_max, pytest.fail if damages is None else damages.append)


def some(first: int, end: int, size: int = 10) -> list[Message]:
    return [Message("market.x.y.trade", b"b" * size, str(each), (("a", "ü"),)) for each in range(first, end)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def cut(path: Path, chance: random.Random) -> None:
    """What a machine that loses power may leave of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def killed_while_it_spills(folder: Path) -> int:
    """How many messages a process had called stored when it was killed."""
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    stored = 0
    while stored < 400:
        stored = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    whole, _, _ = child.stdout.read().rpartition(b"\n")
    child.wait()
    child.stdout.close()
    return int(whole.split()[-1]) if whole else stored


async def drained(spill: SegmentSpill) -> list[Message]:
    found: list[Message] = []
    while group := await spill.read():
        found += group
    return found


async def test_what_was_appended_is_read_in_order_also_after_a_restart(tmp_path: Path) -> None:
    spill = opened(tmp_path)
    await spill.append(some(0, 3))
    assert await drained(spill) == some(0, 3)
    await spill.append(some(3, 5))
    assert await drained(spill) == some(3, 5)
    assert not spill.is_empty
    spill.close()
    again = opened(tmp_path)
    await again.append(some(5, 6))
    assert await drained(again) == some(0, 6), "what was not released is read from the segment's beginning"
    await again.release()
    assert again.is_empty
    assert files(tmp_path) == []


async def test_a_segment_that_is_being_begun_is_read_once_its_group_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that looks between the begin of a segment and its first group must not pass the segment by."""
    begun, go_on = threading.Event(), threading.Event()
    written = segments._write_all

    def slowly(descriptor: int, data: bytes) -> None:
        if data != MAGIC:
            begun.set()
            assert go_on.wait(PATIENCE_S)
        written(descriptor, data)

    monkeypatch.setattr(segments, "_write_all", slowly)
    spill = opened(tmp_path)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(spill.append(some(0, 3)))
        assert await asyncio.to_thread(begun.wait, PATIENCE_S)
        assert await spill.read() == ()
        go_on.set()
    assert await spill.read() == some(0, 3)
    await spill.release()
    assert spill.is_empty


async def test_segments_are_deleted_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 2_000)
    monkeypatch.setattr(segments, "READ_BYTES", 1_000)
    spill = opened(tmp_path)
    for first in range(0, 100, 10):
        await spill.append(some(first, first + 10, 90))
    count = len(files(tmp_path))
    found = list(await spill.read())
    await spill.release()
    assert len(files(tmp_path)) == count > 3
    while group := await spill.read():
        found += group
        await spill.release()
    assert found == some(0, 100, 90)
    assert spill.is_empty
    assert spill.bytes_held == 0
    await spill.append(some(100, 101))
    assert await drained(spill) == some(100, 101)


async def test_a_message_larger_than_one_read_comes_alone(tmp_path: Path) -> None:
    spill = opened(tmp_path)
    large = some(0, 1, 3 * segments.READ_BYTES)
    await spill.append([*large, *some(1, 2)])
    assert await spill.read() == large
    assert await drained(spill) == some(1, 2)


async def test_a_full_spill_refuses_whole_groups_and_takes_them_when_there_is_room(tmp_path: Path) -> None:
    spill = opened(tmp_path, bytes_max=5_000)
    await spill.append(some(0, 4, 1_000))
    with pytest.raises(SpillRefused, match="raise SPILL_BYTES_MAX"):
        await spill.append(some(4, 6, 1_000))
    assert await drained(spill) == some(0, 4, 1_000)
    await spill.release()
    await spill.append(some(6, 8, 1_000))
    assert await drained(spill) == some(6, 8, 1_000)


async def test_a_folder_that_cannot_be_written_is_a_refusal(tmp_path: Path) -> None:
    folder = tmp_path / "spill"
    spill = opened(folder)
    folder.rmdir()
    with pytest.raises(SpillRefused, match=r"cannot be written .*make room or repair"):
        await spill.append(some(0, 1))
    folder.mkdir()
    await spill.append(some(1, 2))
    assert await drained(spill) == some(1, 2)


@pytest.mark.parametrize("seed", range(20))
async def test_a_torn_end_loses_the_torn_message_and_no_other(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    spill = opened(tmp_path)
    await spill.append(some(0, 20, chance.randrange(1, 200)))
    spill.close()
    (path,) = files(tmp_path)
    cut(path, chance)
    again = opened(tmp_path)
    await again.append(some(20, 22))
    found = [int(each.message_id) for each in await drained(again)]
    whole = len(found) - 2
    assert found == [*range(whole), 20, 21], f"seed {seed}"


async def test_damage_is_reported_and_what_follows_in_other_segments_is_read(tmp_path: Path) -> None:
    spill = opened(tmp_path)
    await spill.append(some(0, 20, 100))
    spill.close()
    (path,) = files(tmp_path)
    damage(path, 500)
    (tmp_path / "0.spill").write_bytes(b"something else")
    damages: list[str] = []
    again = opened(tmp_path, damages)
    await again.append(some(20, 21))
    assert [each.message_id for each in await drained(again)] == ["0", "1", "2", "20"]
    assert len(damages) == 2
    assert "no segment of a spill" in damages[0]
    assert "are damaged" in damages[1]


async def test_a_process_killed_while_it_spills_loses_nothing_it_called_stored(tmp_path: Path) -> None:
    stored = killed_while_it_spills(tmp_path)
    found = [int(each.message_id) for each in await drained(opened(tmp_path))]
    assert found == list(range(len(found)))
    assert len(found) >= stored
