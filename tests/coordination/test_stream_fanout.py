"""StreamFanout: frames reach every process in order and whole, and what is lost with a connection is told."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.coordination.stream_fanouts import STREAM_FANOUTS, StreamFanouts
from tests.coordination.stream_processes import A, B, Process, StuckProcess, following, joined, writing
from tests.patience import PATIENCE_S

LARGE = b"x" * 300_000  # as a frame of all tickers
MANY = 2_500
MUCH = 50

WRITER = """
import asyncio, sys
from pathlib import Path
from tests.coordination.stream_fanouts import STREAM_FANOUTS
from tests.coordination.stream_processes import A, writing

async def main():
    async with writing(STREAM_FANOUTS[sys.argv[1]].made(Path(sys.argv[2]))) as writer:
        await writer.exchange.until(A)
        number = 0
        while True:
            writer.hub.deliver(A, b"%d" % number)
            number += 1
            await asyncio.sleep(0)

asyncio.run(main())
"""


@pytest.fixture(params=list(STREAM_FANOUTS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def fanouts(kind: str, tmp_path: Path) -> StreamFanouts:
    return STREAM_FANOUTS[kind].made(tmp_path)


@contextmanager
def started(kind: str, folder: Path, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A writer in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", WRITER, kind, str(folder)], cwd=root) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_frames_of_all_streams_arrive_whole_and_in_order(fanouts: StreamFanouts) -> None:
    rng, name = random.Random(1), "币安人生usdt@trade"
    frames = [(rng.choice((A, B, name)), rng.randbytes(rng.choice((0, 1, 100, 70_000)))) for _ in range(500)]
    frames[7] = (A, b"\0\n\0")
    async with writing(fanouts) as writer, following(fanouts, A, B, name) as one, following(fanouts, A) as two:
        await writer.exchange.until(A, B, name)
        await joined(writer, one, two)
        for frame in frames:
            writer.hub.deliver(*frame)
        only_a = [(stream, payload) for stream, payload in frames if stream == A]
        await one.until_received(len(frames))
        await two.until_received(len(only_a))
        assert one.received == frames
        assert two.received == only_a, "nobody receives what it did not ask for"


async def test_a_stream_is_subscribed_once_for_all_and_released_when_nobody_wants_it(fanouts: StreamFanouts) -> None:
    async with writing(fanouts) as writer, following(fanouts, A) as one:
        async with following(fanouts, A, B) as two:
            await writer.exchange.until(A, B)
            await joined(writer, one, two)
            two.client.add([B])
            two.client.remove([A])
            two.client.remove([A, "unknown"])
            writer.hub.deliver(A, b"{}")
            writer.hub.deliver(B, b"{}")
            await one.until_received(1)
            await two.until_received(1)
            assert two.received == [(B, b"{}")], (
                "also a frame that is on its way when its stream is removed is not seen"
            )
            assert two.client.heard_ms(A) is None
            assert two.client.heard_ms(B) is not None
            two.client.remove([B])
            await writer.until_released(A)
            two.client.add([B])
            await writer.exchange.until(A, B)
        await writer.until_released(A)
        writer.hub.deliver(A, b"[]")
        await one.until_received(2)
        assert writer.exchange.subscribed[A] == 1


async def test_any_number_of_streams_is_asked_for_at_once(fanouts: StreamFanouts) -> None:
    names = [f"s{number}usdt@trade" for number in range(MANY)]
    async with writing(fanouts, streams_max=MANY) as writer, following(fanouts, *names) as one:
        await writer.exchange.until(*names)
        one.client.remove(names)
        await writer.until_released()
        one.client.add(names)
        await writer.exchange.until(*names)


async def test_streams_without_room_are_joined_when_there_is_some(fanouts: StreamFanouts) -> None:
    async with writing(fanouts, streams_max=1) as writer, following(fanouts, A, B) as one:
        await joined(writer, one)
        await writer.exchange.until(A)
        one.client.remove([A])
        await writer.until_released(B)
        writer.hub.deliver(B, b"{}")
        await one.until_received(1)
        assert one.received == [(B, b"{}")]


async def test_each_writer_is_found_and_what_came_before_it_says_nothing_about_now(fanouts: StreamFanouts) -> None:
    async with following(fanouts, A) as one:
        for number in range(3):
            async with writing(fanouts) as writer:
                await writer.exchange.until(A)
                assert one.client.heard_ms(A) is None, "no frame has come on this connection"
                writer.hub.deliver(A, b"%d" % number)
                await one.until_received(number + 1)
                assert one.client.heard_ms(A) is not None
            await one.until_gap()
            assert one.client.heard_ms(A) is None
            writer.hub.deliver(A, b"nobody hears it")
            await writer.until_released()
        assert one.received == [(A, b"0"), (A, b"1"), (A, b"2")]
        await writer.server.close()


async def test_nothing_is_delivered_after_forget(fanouts: StreamFanouts) -> None:
    async with writing(fanouts) as writer:
        async with following(fanouts, A, B) as one:
            await joined(writer, one)
        assert one.client.heard_ms(A) is None
        one.client.forget()
        one.client.add([B])
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(one.client.run())
            await writer.until_released(B)
            writer.hub.deliver(A, b"{}")
            writer.hub.deliver(B, b"{}")
            await one.until_received(1)
            running.cancel()
        assert one.received == [(B, b"{}")]


async def test_a_killed_writer_is_noticed_and_a_successor_takes_over(
    kind: str, fanouts: StreamFanouts, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with following(fanouts, A) as one:
        with started(kind, tmp_path, request.config.rootpath) as killed:
            await one.until_received(100)
            killed.kill()
            await one.until_gap()
        assert one.client.heard_ms(A) is None
        assert one.payloads(A) == [b"%d" % number for number in range(len(one.received))], "none is missing before"
        one.received.clear()
        async with writing(fanouts) as writer:
            await writer.exchange.until(A)
            writer.hub.deliver(A, b"{}")
            await one.until_received(1)
            assert one.received == [(A, b"{}")]


async def test_a_writer_that_was_replaced_does_not_take_its_successor_away(fanouts: StreamFanouts) -> None:
    """It was suspended or lost its lock file, and closes only when it finds that out."""
    async with writing(fanouts) as replaced, writing(fanouts) as writer:
        await replaced.server.close()
        async with following(fanouts, A) as one:
            await joined(writer, one)
            assert not +replaced.exchange.subscribed


async def test_a_process_that_reads_too_little_holds_up_nobody_and_is_told_what_it_missed(
    fanouts: StreamFanouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fanouts.limit(monkeypatch, unsent_bytes=3 * len(LARGE), stall_s=PATIENCE_S)
    async with writing(fanouts) as writer, following(fanouts, A) as quick:
        await joined(writer, quick)
        with StuckProcess(fanouts, A, B) as stuck:
            await writer.exchange.until(A, B)
            writer.hub.deliver(A, b"0 ")
            await stuck.until_received(b"0 ")
            number = 1
            while +writer.exchange.subscribed != {A: 1}:  # the stuck process is connected: it alone wants B
                assert number < MUCH, "more waits than the limit, and what a socket buffers"
                writer.hub.deliver(A, b"%d " % number + LARGE)
                number += 1
                await quick.until_received(number)
                writer.hub.release()
            assert quick.payloads(A)[1:] == [b"%d " % each + LARGE for each in range(1, number)]
            stuck.go_on()
            await writer.exchange.until(A, B)
            writer.hub.deliver(A, b"%d " % number)
            await stuck.until_received(b"%d " % number)
        numbers = [int(payload.split()[0]) for _, payload in stuck.received]
        assert numbers[0] == 0
        missed = [at for at, (before, after) in enumerate(pairwise(numbers), 1) if after != before + 1]
        assert len(missed) == 1, "it was disconnected once, and before that received everything in order"
        assert missed[0] in stuck.gaps


async def test_a_process_that_reads_nothing_for_long_is_disconnected_however_little_waits(
    fanouts: StreamFanouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for it is the writer's memory."""
    fanouts.limit(monkeypatch, stall_s=0.05)
    async with writing(fanouts) as writer:
        with StuckProcess(fanouts, A) as stuck:
            await writer.exchange.until(A)
            writer.hub.deliver(A, b"[]")
            await stuck.until_received(b"[]")
            for _ in range(MUCH):
                writer.hub.deliver(A, LARGE)
            await writer.until_released()
            stuck.go_on()
            await writer.exchange.until(A)
            writer.hub.deliver(A, b"{}")
            await stuck.until_received(b"{}")
            assert stuck.received.index((A, b"{}")) in stuck.gaps


async def test_a_frame_that_is_too_large_is_a_gap_that_is_told(
    fanouts: StreamFanouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fanouts.limit(monkeypatch, message_bytes=100_000)
    async with writing(fanouts) as writer, following(fanouts, A) as one:
        await joined(writer, one)
        writer.hub.deliver(A, b"before" + b"x" * 90_000)
        writer.hub.deliver(A, LARGE)
        writer.hub.deliver(A, b"behind it, lost with the connection")
        await one.until_gap()
        await writer.until_released()
        await writer.exchange.until(A)
        writer.hub.deliver(A, b"after")
        await one.until_received(2)
        assert one.received == [(A, b"before" + b"x" * 90_000), (A, b"after")]
        assert one.gaps[-1] == 1


async def test_processes_are_limited_and_one_that_leaves_makes_room(
    fanouts: StreamFanouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fanouts.limit(monkeypatch, processes=1)
    async with writing(fanouts) as writer:
        async with following(fanouts, A) as one:
            await joined(writer, one)
            two = Process(fanouts, B)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(two.client.run())
                await two.until_gap()
                writer.hub.deliver(A, b"{}")
                await one.until_received(1)
                assert not two.received
                running.cancel()
        async with following(fanouts, A) as three:
            await joined(writer, three)
