"""Best bid and ask from memory equal REST's: the sandbox's rows against the mirror of its stream."""

import orjson
import pytest

from app.events import Event, GarbageDropped
from app.market.book_mirror import CHECKED_MS_MAX, PATH, QUIET_MS_MAX, BookMirror
from app.market.endpoints import Question
from app.market.listened import IDLE_MS, SYMBOLS_MAX
from infra.sandbox.answers.prices import book_ticker
from infra.sandbox.exchange import Exchange
from infra.sandbox.stream_events import BookTickerSource
from infra.sandbox.universe import Universe
from tests.market.one_hub import OneHub
from tests.sandbox.conftest import ManualClock

SYMBOL, STREAM = "BTCUSDT", "btcusdt@bookTicker"
BTC = Question(PATH, (("symbol", SYMBOL),))


class Case:
    """The sandbox exchange, and the mirror under test."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.exchange = Exchange(self.clock, Universe(1, 3))
        item = self.exchange.universe.find(SYMBOL, self.clock.now_ms())
        assert item is not None
        self.item, self.source = item, BookTickerSource(self.exchange)
        self.hub, self.events = OneHub(), list[Event]()
        self.held = BookMirror(self.clock, self.hub, self.events.append)

    def rest(self) -> bytes:
        """REST's present answer."""
        return orjson.dumps(book_ticker(self.exchange, {"symbol": SYMBOL}, self.clock.now_ms()))

    def learn(self, body: bytes | None = None) -> None:
        self.held.learn(BTC, self.rest() if body is None else body, self.clock.now_ms())

    def frames(self) -> list[bytes]:
        """The stream's next frames; moves the clock until there are some."""
        while not (events := list(self.source.events(self.item, self.clock.now_ms()))):
            self.clock.advance(100)
        return [orjson.dumps(event) for event in events]

    def hear(self, frames: list[bytes] | None = None) -> None:
        for frame in self.frames() if frames is None else frames:
            self.hub.listeners[STREAM](STREAM, frame)

    def begin(self) -> None:
        """Bring the mirror to the state after a first question and a first frame."""
        assert self.held.answer(BTC) is None
        self.learn()
        self.clock.advance(1_000)
        self.hear()


def test_held_rows_are_byte_for_byte_what_rest_says_at_that_moment() -> None:
    case = Case()
    case.begin()
    checks = 0
    for _ in range(200):
        if case.held.answer(BTC) is None:
            case.learn()
            checks += 1
        assert case.held.answer(BTC) == case.rest()
        case.clock.advance(1_000)
        case.hear()
    assert case.events == []
    assert checks == 3, "REST is asked once a minute"


def test_what_comes_late_or_twice_changes_nothing() -> None:
    case = Case()
    case.begin()
    old = case.frames()
    case.clock.advance(1_000)
    new = case.frames()
    case.hear([*new, *old, *new])
    assert case.held.answer(BTC) == case.rest()


def test_rest_that_is_newer_counts() -> None:
    case = Case()
    case.begin()
    case.clock.advance(1_000)
    case.learn()
    assert case.held.answer(BTC) == case.rest()


def test_a_stream_that_falls_silent_is_soon_not_believed() -> None:
    case = Case()
    case.begin()
    case.clock.advance(QUIET_MS_MAX - 1)
    assert case.held.answer(BTC) is not None
    case.clock.advance(1)
    assert case.held.answer(BTC) is None
    case.learn()
    assert case.held.answer(BTC) is None, "what REST says is kept as any answer of its own"
    case.hear()
    assert case.held.answer(BTC) == case.rest()


def test_an_answer_that_left_long_ago_proves_nothing_now() -> None:
    case = Case()
    case.begin()
    case.held.learn(BTC, case.rest(), case.clock.now_ms() - CHECKED_MS_MAX)
    assert case.held.answer(BTC) is None


def test_a_stream_that_contradicts_rest_about_one_update_is_not_believed() -> None:
    case = Case()
    case.begin()
    case.clock.advance(1_000)
    case.hear([orjson.dumps({**orjson.loads(frame), "b": "1.00"}) for frame in case.frames()])
    case.learn()
    assert isinstance(case.events[-1], GarbageDropped)
    assert case.held.answer(BTC) is None
    case.clock.advance(1_000)
    case.hear()
    assert case.held.answer(BTC) is None, "nothing has shown yet that it is right again"
    case.learn()
    assert case.held.answer(BTC) == case.rest()


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", "more", "less"])
def test_a_form_of_rest_that_is_not_known_is_not_imitated(body: bytes | str) -> None:
    case = Case()
    case.begin()
    row = orjson.loads(case.rest())
    changed = {**row, "more": 1} if body == "more" else {name: row[name] for name in row if name != "lastUpdateId"}
    case.learn(body if isinstance(body, bytes) else orjson.dumps(changed))
    assert isinstance(case.events[-1], GarbageDropped)
    assert case.held.answer(BTC) is None


def test_frames_that_are_none_are_dropped() -> None:
    case = Case()
    case.begin()
    case.hear([b"", b"[]", b'{"u":"1"}'])
    assert len(case.events) == 3
    assert case.held.answer(BTC) == case.rest()


def test_all_symbols_are_not_held() -> None:
    case = Case()
    assert case.held.answer(Question(PATH, ())) is None
    assert not case.held.wants_snapshot()
    case.held.learn(Question(PATH, ()), b"[]", case.clock.now_ms())
    assert case.hub.listeners == {}
    assert case.events == []


def test_streams_are_bounded_and_left_when_nobody_asks() -> None:
    case = Case()
    for number in range(SYMBOLS_MAX + 5):
        assert case.held.answer(Question(PATH, (("symbol", f"S{number}USDT"),))) is None
    assert len(case.hub.listeners) == SYMBOLS_MAX
    case.clock.advance(IDLE_MS)
    assert case.held.answer(BTC) is None
    assert list(case.hub.listeners) == [STREAM]
    case.hub.is_full = True
    assert case.held.answer(Question(PATH, (("symbol", "ETHUSDT"),))) is None
    frames = case.frames()
    case.clock.advance(IDLE_MS)
    case.hear(frames)
    assert case.hub.listeners == {}, "a frame that nobody asked for ends it"
