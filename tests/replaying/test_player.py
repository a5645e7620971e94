"""The player on a virtual clock: every close once, in order, through pauses, jumps, loops and late reads."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from app.domain.interval import HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Entry, Ledger, Source
from app.domain.rollup import added_up, roll_up
from app.domain.series import Series
from app.domain.span import Span
from app.holding.ledger_cache import LedgerCache
from app.ports.store import StoreReader
from app.replaying.ahead import Ahead
from app.replaying.player import SLOW_S_MAX, Player
from app.replaying.replay_clock import ReplayClock
from app.replaying.schedule import Schedule
from app.replaying.timeline import LATE_MS_MAX
from tests.replaying.material import DAY, HeldRows, Machine, minutes, series

LENGTH_MS = 3 * HOUR_MS
SPAN = Span(DAY, DAY + LENGTH_MS)
MINUTES = minutes(SPAN)
ROWS: dict[Series, Sequence[Kline]] = {
    series("1m"): MINUTES,
    series("5m"): roll_up(MINUTES, INTERVALS["5m"].grid),
    series("1h"): roll_up(MINUTES, INTERVALS["1h"].grid),
}
STREAMS = ("btcusdt@kline_1m", "btcusdt@kline_5m", "btcusdt@kline_1h")


class Stage:
    """A player with rows in memory; `sent` are the events in order."""

    def __init__(self, machine: Machine, speed: int, rows: dict[Series, Sequence[Kline]] = ROWS) -> None:
        self.machine = machine
        self.store = HeldRows(rows)
        ledgers = LedgerCache()
        ledgers.load({each: Ledger([Entry(SPAN, Source.REST)]) for each in ROWS}, {}, {})
        self.ledgers = ledgers
        self.clock = ReplayClock(machine, SPAN, speed)
        schedule = Schedule(ledgers.grid, ledgers.ledger)
        self.ahead = Ahead(machine, self.clock, cast("StoreReader", self.store), ledgers, schedule)
        self.sent: list[dict[str, Any]] = []
        self.is_taken = True
        self.player = Player(machine, self.clock, self.ahead, schedule, self._hear, lambda: self.is_taken)

    def _hear(self, _: str, payload: bytes) -> None:
        self.sent.append(json.loads(payload))

    def closes(self, code: str = "1m", since: int = 0) -> list[Kline]:
        """The closing frames of an interval, as rows; each is sent when it closes."""
        return [kline_of(each) for each in self.sent[since:] if each["k"]["i"] == code and each["k"]["x"]]


def kline_of(event: dict[str, Any]) -> Kline:
    k = event["k"]
    return Kline(*(k[name] for name in "tohlcvqnVQ"))


@pytest.fixture
async def stage() -> Any:
    machine = Machine(DAY)
    async with asyncio.TaskGroup() as tasks:

        def begin(speed: int, **more: Any) -> Stage:
            made = Stage(machine, speed, **more)
            running.extend(tasks.create_task(main()) for main in (made.ahead.run, made.player.run))
            return made

        running: list[asyncio.Task[None]] = []
        yield begin
        for task in running:
            task.cancel()


@pytest.mark.parametrize("speed", [1, 60, 1_000])
async def test_every_close_is_sent_once_in_order_and_when_it_is_due(stage: Any, speed: int) -> None:
    play = stage(speed)
    play.ahead.add(STREAMS)
    await play.machine.advance(LENGTH_MS // speed + 1)
    assert play.clock.is_over
    for code in ("1m", "5m", "1h"):
        assert play.closes(code) == ROWS[series(code)]
    times = [each["E"] for each in play.sent]
    assert times == sorted(times)
    assert all(each["E"] == each["k"]["T"] + 1 for each in play.sent if each["k"]["x"])
    assert play.player.lag.report()["max_ms"] == 0
    assert len(play.store.reads) <= 6, "rows are read by hours"


async def test_between_closes_longer_klines_are_made_of_the_minutes_so_far(stage: Any) -> None:
    play = stage(60)
    await play.machine.advance(62 * 1_000)  # 1:02
    play.ahead.add(["btcusdt@kline_1h", "btcusdt_perpetual@continuousKline_5m"])
    await play.machine.advance(20 * 1_000)
    hours = [each for each in play.sent if each["k"]["i"] == "1h"]
    assert [each["E"] for each in hours] == [DAY + (63 + n) * MINUTE_MS for n in range(20)]
    for each in hours:
        assert not each["k"]["x"]
        assert kline_of(each) == added_up(MINUTES[60 : (each["E"] - DAY) // MINUTE_MS], DAY + HOUR_MS)
    fives = [each for each in play.sent if each["k"]["i"] == "5m"]
    assert {(each["e"], each["ps"], each["ct"]) for each in fives} == {("continuous_kline", "BTCUSDT", "PERPETUAL")}
    assert [kline_of(each) for each in fives if each["k"]["x"]] == ROWS[series("5m")][12:16]


async def test_a_pause_holds_time_and_frames_and_loses_none(stage: Any) -> None:
    play = stage(60)
    play.ahead.add(STREAMS)
    await play.machine.advance(10_500)
    play.clock.pause(is_paused=True)
    await play.machine.advance(100_000)
    assert (play.clock.now_ms(), len(play.closes())) == (DAY + 10 * MINUTE_MS + 30_000, 10)
    play.clock.set_speed(600)
    play.clock.pause(is_paused=False)
    await play.machine.advance(1_000)
    assert play.clock.now_ms() == DAY + 20 * MINUTE_MS + 30_000
    assert play.closes() == MINUTES[:20]


async def test_a_jump_sends_nothing_of_what_lies_between(stage: Any) -> None:
    play = stage(60)
    play.ahead.add(STREAMS)
    await play.machine.advance(30_000)
    play.player.seek(DAY + 2 * HOUR_MS + 90_000)
    await play.machine.advance(10_000)
    assert play.closes() == MINUTES[:30] + MINUTES[121:131]
    seen = len(play.sent)
    play.player.seek(DAY + 5 * MINUTE_MS)
    assert play.clock.now_ms() == DAY + 5 * MINUTE_MS
    await play.machine.advance(10_000)
    assert play.closes(since=seen) == MINUTES[5:15]
    assert play.closes("5m", since=seen) == ROWS[series("5m")][1:3]


async def test_a_loop_sends_everything_again(stage: Any) -> None:
    play = stage(1_000)
    play.ahead.add(STREAMS)
    play.clock.loop(is_looping=True)
    await play.machine.advance(2 * LENGTH_MS // 1_000 + 100)
    assert play.player.passes == 3
    assert play.closes()[: 2 * len(MINUTES)] == MINUTES * 2
    play.clock.loop(is_looping=False)
    await play.machine.advance(LENGTH_MS // 1_000)
    assert play.clock.is_over
    assert play.closes() == MINUTES * 3


async def test_time_stands_while_rows_are_read_and_no_close_is_lost(stage: Any) -> None:
    play = stage(1_000)
    play.store.gate.clear()
    play.ahead.add(STREAMS)
    await play.machine.advance(600)
    assert (play.clock.now_ms(), play.clock.seen_ms, play.sent) == (DAY + MINUTE_MS, DAY, [])
    play.store.gate.set()
    await play.machine.advance(0)
    assert play.clock.now_ms() == DAY + 10 * MINUTE_MS, "a short delay is caught up with"
    assert play.closes() == MINUTES[:10]
    assert play.player.lag.report()["max_ms"] == 540
    play.player.seek(DAY)
    play.store.gate.clear()
    await play.machine.advance(LATE_MS_MAX + 1_000)
    play.store.gate.set()
    await play.machine.advance(0)
    assert play.clock.now_ms() == DAY + MINUTE_MS, "a long one is not"
    assert play.clock.stood_ms == LATE_MS_MAX + 940


async def test_clients_that_are_busy_hold_the_time_for_a_while(stage: Any) -> None:
    play = stage(1_000)
    play.ahead.add(STREAMS)
    await play.machine.advance(60)
    play.is_taken = False
    await play.machine.advance(500)
    assert (play.clock.seen_ms, play.clock.now_ms()) == (DAY + MINUTE_MS, DAY + 2 * MINUTE_MS)
    play.is_taken = True
    await play.machine.advance(40)
    assert play.closes() == MINUTES[:10], "caught up with"
    play.is_taken = False
    await play.machine.advance(round(SLOW_S_MAX * 1_000) + 60)
    assert play.closes() == MINUTES[:11], "a client that takes nothing does not end the replay"


async def test_rows_read_for_a_time_that_was_left_are_not_sent(stage: Any) -> None:
    play = stage(60)
    play.store.gate.clear()
    play.ahead.add(STREAMS)
    await play.machine.advance(500)
    play.player.seek(DAY + 2 * HOUR_MS)
    play.store.gate.set()
    await play.machine.advance(3_000)
    assert play.closes() == MINUTES[120:123]


async def test_nothing_is_made_of_minutes_that_are_not_held(stage: Any) -> None:
    held = [row for row in MINUTES if row.open_ms != DAY + 7 * MINUTE_MS]
    play = stage(60, rows={**ROWS, series("1m"): held})
    play.ahead.add(STREAMS)
    await play.machine.advance(15_000)
    assert play.closes() == held[:14]
    assert play.closes("5m") == ROWS[series("5m")][:3]
    open_5m = [each["E"] for each in play.sent if each["k"]["i"] == "5m" and not each["k"]["x"]]
    assert open_5m == [DAY + n * MINUTE_MS for n in (1, 2, 3, 4, 6, 7, 11, 12, 13, 14)]
    play.ledgers.set_ledger(
        series("1m"),
        Ledger(
            [
                Entry(Span(DAY, DAY + 7 * MINUTE_MS), Source.REST),
                Entry(Span(DAY + 7 * MINUTE_MS, SPAN.end_ms), Source.ABSENT),
            ]
        ),
    )
    seen = len(play.sent)
    play.player.seek(DAY + 5 * MINUTE_MS)
    await play.machine.advance(4_000)
    absent = [each["E"] for each in play.sent[seen:] if each["k"]["i"] == "5m" and not each["k"]["x"]]
    assert absent == [DAY + n * MINUTE_MS for n in (6, 7, 9)], "a minute that is proven absent is left out"
