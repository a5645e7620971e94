"""What must not be lost: order and completeness through a stream, a disk and a process that fail, by seeds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from app.collecting import kept_outbox
from app.collecting.kept_outbox import Batching, Hooks, KeptOutbox
from app.domain.instrument import Instrument, Market
from app.domain.records import Record, Trade
from tests.collecting.stream import BTC, ETH, Heard, MemorySpill, Stream, trade, turn
from tests.fakes import ManualClock

SEEDS = 30
LONG_S = 30.0
ROUNDS_MAX = 200
STEPS = 12


def made(
    stream: Stream, spill: MemorySpill, heard: Heard, clock: ManualClock, batching: Batching | None = None
) -> KeptOutbox:
    hooks = Hooks(heard.stored.extend, lambda records, _: heard.refused.extend(records), heard.spilling.append)
    return KeptOutbox(stream, spill, clock, Random(1), hooks, batching or Batching())


@asynccontextmanager
async def running(outbox: KeptOutbox) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outbox.run())
        try:
            yield
        finally:
            task.cancel()


async def settle() -> None:
    await turn(30)


async def pass_time(clock: ManualClock, seconds: float = LONG_S) -> None:
    await clock.advance(seconds, settle)
    await turn(200)


def firsts(sequences: list[int]) -> list[int]:
    """What a reader has after the documented rule: each sequence when it comes for the first time."""
    return list(dict.fromkeys(sequences))


async def test_trades_are_joined_and_stored_in_order() -> None:
    stream, spill, heard, clock = Stream(), MemorySpill(), Heard(), ManualClock()
    outbox = made(stream, spill, heard, clock, Batching(4, 0.01))
    async with running(outbox):
        for number in range(10):
            outbox.put(trade(number))
        await pass_time(clock)
        assert stream.sequences() == list(range(10))
        assert [len(body["trades"]) for body in stream.bodies()] == [4, 4, 2]  # type: ignore[arg-type]
        assert heard.stored == [trade(number) for number in range(10)]
        await outbox.flush()
    assert spill.appended == 0
    assert outbox.status()[:3] == (0, None, 3)


async def test_a_batch_has_no_hole_and_its_id_says_what_is_in_it() -> None:
    stream, clock = Stream(), ManualClock()
    outbox = made(stream, MemorySpill(), Heard(), clock)
    async with running(outbox):
        for number in (5, 6, 9, 10, 7, 8):
            outbox.put(trade(number))
        await pass_time(clock)
    assert [each.message_id.rpartition("/")[2] for each in stream.stored] == ["5-6", "9-10", "7-8"]


async def test_one_feed_has_one_message_under_way_and_many_feeds_have_many() -> None:
    stream, clock = Stream(), ManualClock()
    outbox = made(stream, MemorySpill(), Heard(), clock, Batching(1, 0.0))
    async with running(outbox):
        for number in range(20):
            outbox.put(trade(number))
        await pass_time(clock)
        assert stream.most_under_way == 1
        for number in range(200):
            outbox.put(trade(1, Instrument("x", Market.SPOT, f"A{number}-B", f"A{number}")))
        await pass_time(clock)
        assert 20 < stream.most_under_way <= kept_outbox.WINDOW


async def test_a_failing_stream_sends_everything_to_the_spill_and_from_there_in_order() -> None:
    stream, spill, heard, clock = Stream(state="away"), MemorySpill(), Heard(), ManualClock()
    outbox = made(stream, spill, heard, clock, Batching(4, 0.01))
    async with running(outbox):
        for number in range(10):
            outbox.put(trade(number))
        await pass_time(clock)
        assert heard.stored == [trade(number) for number in range(10)], "fsynced in the spill"
        assert outbox.status().is_spilling
        assert outbox.status().waiting == 0
        assert outbox.status().spilled_bytes > 0
        assert outbox.status().fault == "no confirmation: away"
        stream.state = "up"
        outbox.put(trade(10))
        await pass_time(clock)
        outbox.put(trade(11))
        await pass_time(clock)
    assert stream.sequences() == list(range(12))
    assert not outbox.status().is_spilling
    assert spill.is_empty
    assert heard.spilling == ["no confirmation: away", None]
    assert outbox.status().fault is None


async def test_what_a_killed_process_left_in_the_spill_is_published_first() -> None:
    stream, spill, clock = Stream(state="away"), MemorySpill(), ManualClock()
    first = made(stream, spill, Heard(), clock)
    async with running(first):
        for number in range(10):
            first.put(trade(number))
        await pass_time(clock)
    spill.read_to, stream.state = 0, "up"
    again = made(stream, spill, Heard(), clock)
    async with running(again):
        again.put(trade(10))
        await pass_time(clock)
    assert stream.sequences() == list(range(11))


async def test_a_message_that_is_too_large_is_refused_and_others_go_on() -> None:
    stream, heard, clock = Stream(body_bytes_max=500), Heard(), ManualClock()
    outbox = made(stream, MemorySpill(), heard, clock)
    async with running(outbox):
        for number in range(40):
            outbox.put(trade(number))
        outbox.put(trade(1, ETH))
        await pass_time(clock)
        outbox.put(trade(40))
        await pass_time(clock)
    assert stream.sequences() == [40]
    assert stream.sequences(ETH) == [1]
    assert heard.refused == [trade(number) for number in range(40)]
    assert outbox.status().refused == 40
    assert "are more than 500" in (outbox.status().last_refusal or "")


async def test_memory_is_bounded_when_stream_and_disk_fail_and_both_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_outbox, "RECORDS_MAX", 100)
    stream, spill, heard, clock = Stream(state="away"), MemorySpill(is_refusing=True), Heard(), ManualClock()
    outbox = made(stream, spill, heard, clock)
    async with running(outbox):
        for number in range(150):
            outbox.put(trade(number))
        await pass_time(clock)
        assert outbox.status().waiting == 100
        assert heard.refused == [trade(number) for number in range(100, 150)]
        assert outbox.status().fault == "the disk is full"
        stream.state = "up"  # the disk fails still
        await pass_time(clock)
        assert stream.sequences() == list(range(100))
        stream.state, spill.is_refusing = "away", False
        outbox.put(trade(150))
        await pass_time(clock)
        assert heard.stored[-1] == trade(150)
        stream.state = "up"
        await pass_time(clock)
    assert stream.sequences() == [*range(100), 150]


async def test_more_than_the_stream_takes_goes_to_the_spill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_outbox, "SPILL_AT", 50)
    stream, spill, heard, clock = Stream(), MemorySpill(), Heard(), ManualClock()
    outbox = made(stream, spill, heard, clock)
    async with running(outbox):
        for number in range(200):
            outbox.put(trade(number))
        await pass_time(clock)
    assert stream.sequences() == list(range(200))
    assert spill.appended > 0
    assert heard.spilling[0] == "the stream is slower than the exchanges: 50 records wait"
    assert heard.spilling[-1] is None


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
async def test_nothing_is_lost_or_out_of_order_whatever_fails(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_outbox, "SPILL_AT", 300)
    for seed in range(first, first + 10):
        await World(seed).play()


class World:
    """Records, a stream, a disk and a process by a seed; at the end everything works, and all must be there."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.stream = Stream(Random(seed + 1))
        self.spill = MemorySpill()
        self.clock = ManualClock()
        self.heard = Heard()
        self.put: list[Trade] = []
        self.newest = {BTC: 0, ETH: 0}
        self.batching = Batching(self.chance.choice((1, 3, 50)), self.chance.choice((0.0, 0.01)))

    async def play(self) -> None:
        for _ in range(self.chance.randrange(1, 4)):
            await self.live()
        await self.live(is_last=True)
        self.check()

    async def live(self, *, is_last: bool = False) -> None:
        """One life of the process: what was not stored before its start is put again, as the ledger demands."""
        self.spill.read_to = 0
        outbox = made(self.stream, self.spill, self.heard, self.clock, self.batching)
        async with running(outbox):
            stored = set(map(id, self.heard.stored))
            for record in [each for each in self.put if id(each) not in stored]:
                outbox.put(record)
            for _ in range(STEPS):
                await self.step(outbox)
            if is_last:
                self.stream.state, self.spill.is_refusing = "up", False
                for _ in range(ROUNDS_MAX):
                    await pass_time(self.clock, 6.0)
                    if not outbox.status().waiting and not outbox.status().is_spilling:
                        break
                else:
                    raise AssertionError(f"seed {self.seed}: {outbox.status()}")

    async def step(self, outbox: KeptOutbox) -> None:
        for _ in range(self.chance.randrange(60)):
            instrument = self.chance.choice((BTC, ETH))
            self.newest[instrument] += 1 if self.chance.random() < 0.97 else 3
            record = trade(self.newest[instrument], instrument)
            self.put.append(record)
            outbox.put(record)
        match self.chance.randrange(10):
            case 0:
                self.stream.state = self.chance.choice(("up", "up", "away", "unsure", "full", "mixed"))
            case 1:
                self.spill.is_refusing = self.chance.random() < 0.3
            case 2:
                await self.clock.advance(self.chance.choice((0.02, 0.3, 8.0)), settle)
            case 3:
                self.stream.forget_ids()
            case _:
                await turn(self.chance.randrange(20))

    def check(self) -> None:
        for instrument in (BTC, ETH):
            wanted = [each.sequence for each in self.put if each.instrument == instrument]
            assert firsts(self.stream.sequences(instrument)) == wanted, f"seed {self.seed}"
            stored = [each for each in self.heard.stored if isinstance(each, Trade) and each.instrument == instrument]
            assert [each.sequence for each in stored] == wanted, f"seed {self.seed}"
        assert self.heard.refused == []


def test_the_check_can_fail() -> None:
    world = World(1)
    record: Record = trade(1)
    assert isinstance(record, Trade)
    world.put = [record]
    with pytest.raises(AssertionError, match="seed 1"):
        world.check()
