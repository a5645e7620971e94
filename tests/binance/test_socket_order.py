import asyncio
import json
import random

from app.binance.stream_event import KlineEvent, decode, head_of
from app.domain.interval import M1
from app.events import Event, FramesReceived
from infra.binance.socket_intake import Intake
from infra.binance.socket_order import urgent_first
from tests.fast_clock import ScaledClock

START_MS = 1_700_000_040_000
A, B = "AUSDT", "BUSDT"


def frame(symbol: str, number: int, *, is_final: bool = False) -> bytes:
    """A frame as the exchange sends it; `number` is its number of trades."""
    kline = {
        "t": START_MS,
        "T": START_MS + 59_999,
        "s": symbol,
        "i": "1m",
        "f": 1,
        "L": 9,
        "o": "1",
        "c": "1",
        "h": "1",
        "l": "1",
        "v": "1",
        "n": number,
        "x": is_final,
        "q": "1",
        "V": "1",
        "Q": "1",
        "B": "0",
    }
    event = {"e": "kline", "E": START_MS + 60_500, "s": symbol, "k": kline}
    return json.dumps({"stream": f"{symbol.lower()}@kline_1m", "data": event}, separators=(",", ":")).encode()


def event_of(frame: bytes) -> KlineEvent:
    event = decode(frame)
    assert isinstance(event, KlineEvent)
    return event


def test_closing_frames_come_first_and_of_live_klines_only_the_newest_state() -> None:
    frames = [frame(A, 1), frame(B, 1), frame(A, 2), frame(A, 3, is_final=True), frame(A, 4)]
    ordered, superseded = urgent_first(frames, ())
    assert ordered == [frames[3], frames[4], frames[1]]
    assert superseded == 2


def test_frames_of_tapped_streams_are_all_kept_in_their_order() -> None:
    frames = [frame(A, 1), frame(B, 1), frame(A, 2, is_final=True), frame(B, 2), frame(A, 3)]
    name = head_of(A, M1).stream.encode()
    ordered, superseded = urgent_first(frames, {name})
    assert ordered == [frames[0], frames[2], frames[4], frames[3]]
    assert superseded == 1


def test_frames_in_another_form_are_all_kept() -> None:
    spaced = frame(A, 1).replace(b'"x":false', b'"x": false')
    moved = json.dumps({"data": {}, "stream": "a", "x": False}, separators=(",", ":")).encode()
    frames = [spaced, spaced, moved, b'{"result":null,"id":1}', b"not JSON", moved]
    assert urgent_first(frames, ()) == (frames, 0)
    assert urgent_first([frame(A, 1)], ()) == ([frame(A, 1)], 0)


def test_no_stream_loses_its_newest_state_or_a_closing_frame() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        names = [A, B, "币安USDT"]
        frames = [
            frame(chance.choice(names), number, is_final=chance.random() < 0.2)
            for number in range(chance.randint(2, 40))
        ]
        tapped = {head_of(name, M1).stream.encode() for name in names if chance.random() < 0.3}
        ordered, superseded = urgent_first(frames, tapped)
        assert len(ordered) + superseded == len(frames), seed
        for name in names:
            stream = b'"%s"' % head_of(name, M1).stream.encode()
            mine = [each for each in frames if stream in each]
            kept = [each for each in ordered if stream in each]
            live = [each for each in mine if b'"x":false' in each]
            if stream.strip(b'"') in tapped:
                assert kept == mine, seed
            else:
                assert kept == [each for each in mine if b'"x":true' in each] + live[-1:], seed


async def test_the_consumer_gets_final_klines_before_live_ones_that_wait() -> None:
    reported: asyncio.Future[FramesReceived] = asyncio.get_running_loop().create_future()

    def observe(event: Event) -> None:
        if isinstance(event, FramesReceived) and not reported.done():
            reported.set_result(event)

    intake = Intake(ScaledClock(START_MS, 50), observe, queue_max=4)
    for one in (frame(A, 1), frame(B, 2), frame(A, 3, is_final=True), frame(B, 4, is_final=True)):
        intake.put_nowait(event_of(one))
    intake.leave_out(7)
    assert intake.is_full
    trades = []
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(intake.put(event_of(frame("CUSDT", 5, is_final=True))))
        async for event in intake.events():
            trades.append(event.kline.trades)
            if len(trades) == 5:
                break
            if len(trades) == 3:
                await waiting
        reporting = tasks.create_task(intake.report())
        report = await reported
        reporting.cancel()
    assert trades == [3, 4, 1, 5, 2], "what came while others waited is taken before the live ones that are left"
    assert (report.frames, report.final) == (12, 3), "those left out were received too"
