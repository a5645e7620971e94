"""What is replaced by its newest: never an old state after a new one, never a book with a hole."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import pytest

from app.collecting import passing_outbox
from app.collecting.passing_outbox import BOOK_RECORDS_MAX, PassingHooks, PassingOutbox
from app.domain.instrument import Instrument
from app.domain.records import Record
from tests.collecting.stream import BTC, ETH, Stream, delta, snapshot, ticker, turn
from tests.fakes import ManualClock


@asynccontextmanager
async def running(outbox: PassingOutbox) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outbox.run())
        try:
            yield
        finally:
            task.cancel()


def made(stream: Stream, clock: ManualClock) -> tuple[PassingOutbox, list[Instrument]]:
    lost: list[Instrument] = []
    return PassingOutbox(stream, clock, Random(1), PassingHooks(lambda records: None, lost.append)), lost


async def pass_time(clock: ManualClock, seconds: float = 60.0) -> None:
    async def settle() -> None:
        await turn(20)

    await clock.advance(seconds, settle)
    await turn(1_000)


async def test_a_state_that_waits_is_replaced_by_a_newer_one() -> None:
    stream, clock = Stream(state="away"), ManualClock()
    outbox, _ = made(stream, clock)
    async with running(outbox):
        for number in range(100):
            outbox.put(ticker(number))
        outbox.put(ticker(1, ETH))
        await pass_time(clock)
        outbox.put(ticker(100))
        assert outbox.status().waiting == 1
        stream.state = "up"
        await pass_time(clock)
    assert [body["last_price"] for body in stream.bodies() if body["symbol"] == "BTC-USDT"] == ["100"]
    assert [body["last_price"] for body in stream.bodies() if body["symbol"] == "ETH-USDT"] == ["1"]
    assert outbox.status().replaced == 100
    assert outbox.status().fault is None


async def test_what_the_stream_has_confirmed_is_reported_as_stored_and_nothing_else() -> None:
    stream, clock = Stream(state="unsure"), ManualClock()
    stored: list[Record] = []
    outbox = PassingOutbox(stream, clock, Random(1), PassingHooks(stored.extend, lambda instrument: None))
    async with running(outbox):
        outbox.put(ticker(1))
        await pass_time(clock)
        assert stored == []
        outbox.put(ticker(2))
        outbox.put(snapshot(1, ETH))
        stream.state = "up"
        await pass_time(clock)
    assert sorted(map(str, stored)) == sorted(map(str, [ticker(2), snapshot(1, ETH)]))


async def test_all_states_are_sent_while_the_stream_keeps_up() -> None:
    stream, clock = Stream(), ManualClock()
    outbox, _ = made(stream, clock)
    async with running(outbox):
        for number in range(20):
            outbox.put(ticker(number))
            await turn(20)
    assert [body["last_price"] for body in stream.bodies()] == [str(number) for number in range(20)]


async def test_a_book_is_sent_whole_and_in_order() -> None:
    stream, clock = Stream(), ManualClock()
    outbox, lost = made(stream, clock)
    async with running(outbox):
        outbox.put(snapshot(1))
        for number in range(2, 90):
            outbox.put(delta(number))
        await pass_time(clock)
    assert stream.sequences() == list(range(1, 90))
    assert lost == []


async def test_after_a_dropped_delta_comes_a_whole_book_and_it_is_asked_for_when_the_stream_is_back() -> None:
    stream, clock = Stream(state="away"), ManualClock()
    outbox, lost = made(stream, clock)
    async with running(outbox):
        outbox.put(snapshot(1))
        await pass_time(clock)
        for number in range(2, BOOK_RECORDS_MAX + 50):
            outbox.put(delta(number))
        await pass_time(clock)
        assert lost == [], "nothing is asked for while the stream is away"
        assert outbox.status().waiting == 0
        stream.state = "up"
        await pass_time(clock)
        assert lost == [BTC]
        outbox.put(delta(200))
        outbox.put(snapshot(201))
        outbox.put(delta(202))
        await pass_time(clock)
    assert stream.sequences() == [1, 201, 202]
    assert outbox.status().books_lost == 1


async def test_a_whole_book_replaces_what_waits_when_too_much_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing_outbox, "BOOK_RECORDS_MAX", 3)
    stream, clock = Stream(state="away"), ManualClock()
    outbox, lost = made(stream, clock)
    async with running(outbox):
        outbox.put(snapshot(1))
        await pass_time(clock)
        for number in (2, 3, 4):
            outbox.put(delta(number))
        outbox.put(snapshot(5))
        stream.state = "up"
        await pass_time(clock)
    assert stream.sequences() == [1, 5]
    assert lost == []


async def test_a_book_too_large_for_the_server_is_dropped_and_not_asked_for_again() -> None:
    stream, clock = Stream(body_bytes_max=10), ManualClock()
    outbox, lost = made(stream, clock)
    async with running(outbox):
        outbox.put(snapshot(1))
        await pass_time(clock)
        outbox.put(delta(2))
        await pass_time(clock)
    assert stream.stored == []
    assert lost == []
    assert outbox.status().dropped == 2
    assert "are more than 10" in (outbox.status().last_refusal or "")


@pytest.mark.parametrize("seed", range(30))
async def test_a_reader_of_the_stream_never_joins_what_does_not_join(seed: int) -> None:
    chance, stream, clock = Random(seed), Stream(Random(seed)), ManualClock()
    outbox, lost = made(stream, clock)
    sequence, newest = 1, 0
    async with running(outbox):
        outbox.put(snapshot(sequence))
        for _ in range(60):
            if chance.random() < 0.2:
                stream.state = chance.choice(("up", "away", "unsure", "mixed"))
            for _ in range(chance.randrange(40)):
                sequence += 1
                outbox.put(snapshot(sequence) if lost or chance.random() < 0.01 else delta(sequence))
                lost.clear()
            newest += 1
            outbox.put(ticker(newest))
            await clock.advance(chance.random(), turn)
        stream.state = "up"
        await pass_time(clock)
        sequence += 1
        outbox.put(snapshot(sequence) if lost else delta(sequence))
        await pass_time(clock)
    bodies = stream.bodies()
    books = [body for body in bodies if "bids" in body]
    joins = [
        book["is_snapshot"] or book["sequence"] == before["sequence"] + 1  # type: ignore[operator]
        for before, book in pairwise(books)
    ]
    assert all(joins), f"seed {seed}"
    assert books[-1]["sequence"] == sequence, f"seed {seed}"
    prices = [int(str(body["last_price"])) for body in bodies if "last_price" in body]
    assert prices == sorted(set(prices)), f"seed {seed}"
    assert prices[-1] == newest, f"seed {seed}"
