"""Newest trades from memory equal REST's: the sandbox's rows against the mirror of its stream."""

import orjson
import pytest

from app.events import Event, GarbageDropped
from app.market.endpoints import Question
from app.market.listened import IDLE_MS, SYMBOLS_MAX
from app.market.trade_mirror import (
    DOUBT_MS,
    PATH,
    QUIET_MS_MAX,
    ROWS_MAX,
    TradeMirror,
)
from infra.sandbox.answers.trades import agg_trades
from infra.sandbox.exchange import Exchange
from infra.sandbox.stream_events import TradeSource
from infra.sandbox.universe import Universe
from tests.market.one_hub import OneHub
from tests.sandbox.conftest import ManualClock

SYMBOL = "BTCUSDT"
STREAM = "btcusdt@aggTrade"


def newest(limit: int = 500, symbol: str = SYMBOL) -> Question:
    return Question(PATH, (("symbol", symbol), ("limit", str(limit))))


class Case:
    """The sandbox exchange, and the mirror under test."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.exchange = Exchange(self.clock, Universe(1, 3))
        item = self.exchange.universe.find(SYMBOL, self.clock.now_ms())
        assert item is not None
        self.item, self.source = item, TradeSource(self.exchange, aggregate=True)
        list(self.source.events(item, self.clock.now_ms()))  # subscribes: earlier trades are not sent
        self.hub, self.events = OneHub(), list[Event]()
        self.held = TradeMirror(self.clock, self.hub, self.events.append)

    def rest(self, limit: int = 500) -> bytes:
        """REST's present answer: the newest `limit` trades."""
        return orjson.dumps(agg_trades(self.exchange, {"symbol": SYMBOL, "limit": str(limit)}, self.clock.now_ms()))

    def learn(self, body: bytes | None = None) -> None:
        wide = self.held.widened(newest())
        assert wide == newest(ROWS_MAX)
        self.held.learn(wide, self.rest(ROWS_MAX) if body is None else body)

    def spoken(self) -> list[dict[str, object]]:
        """The events of the stream since the last call."""
        return list(self.source.events(self.item, self.clock.now_ms()))

    def say(self, events: list[dict[str, object]]) -> None:
        for event in events:
            self.hub.listeners[STREAM](STREAM, orjson.dumps(event))

    def pass_on(self, seconds: int = 1) -> None:
        """Let `seconds` pass, delivering the stream's events after each."""
        for _ in range(seconds):
            self.clock.advance(1_000)
            self.say(self.spoken())

    def begin(self) -> None:
        """Bring the mirror to the state after a first question and a first frame."""
        assert self.held.answer(newest()) is None
        self.learn()
        while self.held.answer(newest()) is None:
            self.pass_on()


def test_held_rows_are_byte_for_byte_what_rest_says_at_that_moment() -> None:
    case = Case()
    case.begin()
    for _ in range(90):
        for limit in (1, 37, 500, ROWS_MAX):
            body = case.held.answer(newest(limit))
            if body is None:  # no trade for ten seconds: REST is asked
                case.learn()
                body = case.held.answer(newest(limit))
            assert body == case.rest(limit)
        case.pass_on()
    assert case.events == []


def test_only_the_newest_are_held() -> None:
    held = Case().held
    assert held.widened(newest(7)) == newest(ROWS_MAX)
    for name in ("fromId", "startTime", "endTime"):
        assert held.widened(Question(PATH, (("symbol", SYMBOL), (name, "1"), ("limit", "5")))) is None


def test_a_missing_id_makes_rest_be_asked_until_it_has_filled_the_hole() -> None:
    case = Case()
    case.begin()
    before = case.rest(ROWS_MAX)
    events: list[dict[str, object]] = []
    while len(events) < 3:
        case.clock.advance(1_000)
        events += case.spoken()
    case.say(events[1:])
    assert case.held.answer(newest()) is None
    case.learn(before)
    assert case.held.answer(newest()) is None, "what REST said before the hole does not fill it"
    case.learn()
    assert case.held.answer(newest()) == case.rest()


def test_what_comes_twice_or_late_changes_nothing() -> None:
    case = Case()
    case.begin()
    events: list[dict[str, object]] = []
    while len(events) < 2:
        case.clock.advance(1_000)
        events += case.spoken()
    case.say([*events, *events, events[0]])
    assert case.held.answer(newest()) == case.rest()


def test_rest_that_is_ahead_of_the_stream_is_no_contradiction() -> None:
    case = Case()
    case.begin()
    events: list[dict[str, object]] = []
    while not events:
        case.clock.advance(1_000)
        events = case.spoken()
    case.learn()
    case.say(events)
    assert case.held.answer(newest()) == case.rest()
    assert case.events == []


def test_a_stream_that_is_quiet_is_checked_and_one_that_is_behind_not_believed() -> None:
    case = Case()
    case.begin()
    spoken: list[dict[str, object]] = []
    for _ in range(QUIET_MS_MAX // 1_000):
        case.clock.advance(1_000)
        spoken += case.spoken()  # not delivered to the mirror
    assert spoken
    assert case.held.answer(newest()) is None
    case.learn()
    assert case.held.answer(newest()) is None, "REST has what the stream should have said"
    case.say(spoken)
    assert case.held.answer(newest()) == case.rest()


def test_a_quiet_stream_that_lacks_nothing_holds_for_another_while() -> None:
    case = Case()
    case.begin()
    body = case.rest(ROWS_MAX)
    case.clock.advance(QUIET_MS_MAX)
    assert case.held.answer(newest()) is None
    case.learn(body)
    assert case.held.answer(newest(ROWS_MAX)) == body
    case.clock.advance(QUIET_MS_MAX)
    assert case.held.answer(newest()) is None


def test_a_stream_that_contradicts_rest_is_not_believed_for_a_while() -> None:
    case = Case()
    case.begin()
    events: list[dict[str, object]] = []
    while not events:
        case.clock.advance(1_000)
        events = case.spoken()
    case.say([{**event, "q": "1"} for event in events])
    case.learn()
    assert isinstance(case.events[-1], GarbageDropped)
    assert case.held.answer(newest()) is None
    case.learn()
    assert case.held.answer(newest()) is None
    assert len(case.events) == 1
    for _ in range(DOUBT_MS // 1_000):
        case.pass_on()
        assert case.held.answer(newest()) is None
    case.learn()
    assert case.held.answer(newest()) == case.rest()
    assert len(case.events) == 1


@pytest.mark.parametrize("change", [b"{}", b'[{"a":1}]', "more", "hole"])
def test_a_form_of_rest_that_is_not_known_is_not_imitated(change: bytes | str) -> None:
    case = Case()
    case.begin()
    rows = orjson.loads(case.rest(ROWS_MAX))
    other = [{**row, "more": 1} for row in rows] if change == "more" else rows[:5] + rows[6:]
    case.learn(change if isinstance(change, bytes) else orjson.dumps(other))
    assert isinstance(case.events[-1], GarbageDropped)
    assert case.held.answer(newest()) is None


def test_frames_that_are_none_are_dropped() -> None:
    case = Case()
    case.begin()
    for payload in (b"", b"[]", b'{"a":"1"}', b'{"a":1,"p":"1"}'):
        case.hub.listeners[STREAM](STREAM, payload)
    assert len(case.events) == 4
    assert case.held.answer(newest()) is not None


def test_streams_are_bounded_and_left_when_nobody_asks() -> None:
    case = Case()
    for number in range(SYMBOLS_MAX + 5):
        assert case.held.answer(newest(5, f"S{number}USDT")) is None
    assert len(case.hub.listeners) == SYMBOLS_MAX
    case.clock.advance(IDLE_MS)
    assert case.held.answer(newest()) is None
    assert list(case.hub.listeners) == [STREAM]
    case.hub.is_full = True
    assert case.held.answer(newest(5, "ETHUSDT")) is None
    assert list(case.hub.listeners) == [STREAM]
