"""Mark prices from memory equal REST's: the sandbox's rows against the mirror of its stream."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from app.events import Event, GarbageDropped
from app.market.endpoints import Question
from app.market.mark_mirror import IDLE_MS, PATH, QUIET_MS_MAX, SNAPSHOT_MS_MAX, STREAM, MarkMirror
from infra.sandbox.answers.prices import describe_premium, premium_index, trading
from infra.sandbox.exchange import Exchange
from infra.sandbox.stream_events import MarkPriceSource, coin_margined
from infra.sandbox.universe import Universe
from tests.market.one_hub import OneHub
from tests.sandbox.conftest import ManualClock

ALL = Question(PATH, ())
BTC = Question(PATH, (("symbol", "BTCUSDT"),))


class Case:
    """The sandbox exchange, which lists only trading symbols unless a test wants more, and the mirror under test."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.exchange = Exchange(self.clock, Universe(1, 6))
        self.hub, self.events = OneHub(), list[Event]()
        self.held = MarkMirror(self.clock, self.hub, self.events.append)

    def rest(self, symbol: str | None = None) -> bytes:
        """REST's present answer for one symbol or for all."""
        now_ms = self.clock.now_ms()
        rows = {item.symbol: describe_premium(self.exchange, item, now_ms) for item in self.items()}
        return orjson.dumps(list(rows.values()) if symbol is None else rows[symbol])

    def items(self) -> list[Any]:
        return trading(self.exchange, self.clock.now_ms())

    def frame(self, change: Callable[[dict[str, object]], dict[str, object] | None] = lambda event: event) -> None:
        """Deliver the stream's present frame with a coin-margined row added; `change` edits or drops each row."""
        now_ms, source = self.clock.now_ms(), MarkPriceSource(self.exchange)
        events = [event for item in self.items() for event in source.events(item, now_ms)]
        rows = [changed for event in [*events, coin_margined(events[0])] if (changed := change(event)) is not None]
        self.hub.listeners[STREAM](STREAM, orjson.dumps(rows))

    def begin(self) -> None:
        """Bring the mirror to the state after the first two questions: a snapshot, then after one second a frame."""
        assert self.held.answer(ALL) is None
        assert self.held.wants_snapshot()
        self.held.learn(ALL, self.rest(), self.clock.now_ms())
        self.second()

    def second(self) -> None:
        self.clock.advance(1_000)
        self.frame()


def test_held_rows_are_byte_for_byte_what_rest_says_at_that_moment() -> None:
    case = Case()
    case.begin()
    for _ in range(130):
        if case.held.wants_snapshot():
            case.held.learn(ALL, case.rest(), case.clock.now_ms())
        assert case.held.answer(ALL) == case.rest()
        for item in case.items():
            assert case.held.answer(Question(PATH, (("symbol", item.symbol),))) == case.rest(item.symbol)
        case.second()
    assert case.events == []


def test_a_snapshot_is_wanted_once_a_minute_and_without_one_nothing_is_held() -> None:
    case = Case()
    case.begin()
    wanted = 0
    for _ in range(SNAPSHOT_MS_MAX // 1_000 * 2):
        case.second()
        case.held.answer(BTC)
        wanted += case.held.wants_snapshot()
    assert wanted == 2
    assert case.held.answer(ALL) is None
    assert case.held.answer(BTC) is None


def test_of_two_that_differ_in_age_the_newer_counts() -> None:
    case = Case()
    case.begin()
    before = case.rest("BTCUSDT")
    case.clock.advance(500)
    case.held.learn(ALL, case.rest(), case.clock.now_ms())
    newer = case.rest("BTCUSDT")
    assert newer != before
    assert case.held.answer(BTC) == newer
    case.second()
    assert case.held.answer(BTC) == case.rest("BTCUSDT") != newer


def test_a_frame_that_comes_twice_or_late_changes_nothing() -> None:
    case = Case()
    case.begin()
    case.frame(lambda event: {**event, "E": int(str(event["E"])) - 1_000, "p": "1.00000000"})
    assert case.held.answer(ALL) == case.rest()


def test_a_stream_that_falls_silent_is_soon_not_believed() -> None:
    case = Case()
    case.begin()
    case.clock.advance(QUIET_MS_MAX - 1)
    assert case.held.answer(BTC) is not None
    case.clock.advance(1)
    assert case.held.answer(BTC) is None
    assert case.held.answer(ALL) is None
    case.second()
    assert case.held.answer(ALL) == case.rest()


def test_one_symbol_that_falls_silent_is_asked_for_and_all_with_it() -> None:
    case = Case()
    case.begin()
    for _ in range(5):
        case.clock.advance(1_000)
        case.frame(lambda event: None if event["s"] == "BTCUSDT" else event)
    assert case.held.answer(BTC) is None
    assert case.held.answer(ALL) is None
    assert case.held.answer(Question(PATH, (("symbol", "ETHUSDT"),))) == case.rest("ETHUSDT")


def test_what_the_stream_never_has_is_asked_for_unless_rest_has_given_it_up_too() -> None:
    case = Case()
    case.begin()
    rows = orjson.loads(case.rest())
    gone = {**rows[0], "symbol": "GONEUSDT", "time": case.clock.now_ms() - 60_001}
    case.held.learn(ALL, orjson.dumps([*rows, gone]), case.clock.now_ms())
    case.second()
    assert case.held.answer(ALL) == orjson.dumps([*orjson.loads(case.rest()), gone])
    lively = {**gone, "time": case.clock.now_ms() - 1}
    case.held.learn(ALL, orjson.dumps([*orjson.loads(case.rest()), lively]), case.clock.now_ms())
    case.second()
    assert case.held.answer(ALL) is None
    assert case.held.answer(BTC) == case.rest("BTCUSDT")


def test_what_is_listed_meanwhile_makes_rest_be_asked() -> None:
    case = Case()
    case.begin()
    case.clock.advance(1_000)
    case.frame(lambda event: {**event, "s": "NEWLYUSDT"} if event["s"] == "BTCUSDT" else event)
    assert case.held.answer(ALL) is None
    case.held.learn(ALL, case.rest(), case.clock.now_ms())
    case.second()
    assert case.held.answer(ALL) == case.rest(), "rest does not have it: then so be it"


def test_a_stream_that_contradicts_rest_about_one_moment_is_not_believed() -> None:
    case = Case()
    case.begin()
    case.frame(lambda event: {**event, "i": "1.00000000"} if event["s"] == "BTCUSDT" else event)
    case.held.learn(ALL, case.rest(), case.clock.now_ms())
    assert isinstance(case.events[-1], GarbageDropped)
    case.second()
    assert case.held.answer(ALL) is None
    for _ in range(SNAPSHOT_MS_MAX // 1_000):
        case.second()
        assert case.held.answer(ALL) is None
    assert case.held.wants_snapshot()
    case.held.learn(ALL, case.rest(), case.clock.now_ms())
    case.second()
    assert case.held.answer(ALL) == case.rest()


@pytest.mark.parametrize("spoil", [b"{}", b"[", b'[{"symbol":"BTCUSDT"}]', "more", "space"])
def test_a_form_of_rest_that_is_not_known_is_not_imitated(spoil: bytes | str) -> None:
    case = Case()
    case.begin()
    rows = orjson.loads(case.rest())
    body = spoil if isinstance(spoil, bytes) else orjson.dumps([{**row, "more": 1} for row in rows])
    case.held.learn(ALL, case.rest().replace(b",", b", ") if spoil == "space" else body, case.clock.now_ms())
    assert isinstance(case.events[-1], GarbageDropped)
    assert case.held.answer(BTC) is None
    assert not case.held.wants_snapshot()


def test_frames_that_are_none_are_dropped() -> None:
    case = Case()
    case.begin()
    assert list(case.hub.listeners) == [STREAM]
    for payload in (b"", b"{}", b'[{"E":1}]', b'[{"E":"1","s":5}]'):
        case.hub.listeners[STREAM](STREAM, payload)
    assert len(case.events) == 4
    assert case.held.answer(ALL) == case.rest()


def test_rests_own_form_stays_for_what_has_no_funding() -> None:
    case = Case()
    case.begin()
    case.clock.advance(500)
    rows = [{**row, "lastFundingRate": "", "nextFundingTime": 0} for row in orjson.loads(case.rest())]
    case.held.learn(ALL, orjson.dumps(rows), case.clock.now_ms())
    case.clock.advance(1_000)
    case.frame(lambda event: {**event, "T": 0, "r": "0.00000000"})
    row = orjson.loads(case.held.answer(BTC) or b"")
    assert (row["lastFundingRate"], row["nextFundingTime"], row["time"]) == ("", 0, case.clock.now_ms())


def test_the_stream_is_left_when_nobody_asks_and_joined_again_when_somebody_does() -> None:
    case = Case()
    case.begin()
    for _ in range(IDLE_MS // 1_000):
        if case.hub.listeners:
            case.second()
    assert not case.hub.listeners
    assert case.held.answer(ALL) is None
    assert list(case.hub.listeners) == [STREAM]


def test_without_room_for_the_stream_rest_is_asked() -> None:
    case = Case()
    case.hub.is_full = True
    assert case.held.answer(ALL) is None
    case.hub.is_full = False
    case.begin()
    assert case.held.answer(ALL) == case.rest()


def test_the_sandbox_lists_what_its_stream_lacks_so_all_are_asked_for_there() -> None:
    case = Case()
    case.begin()
    body = orjson.dumps(premium_index(case.exchange, {}, case.clock.now_ms()))
    case.held.learn(ALL, body, case.clock.now_ms())
    case.second()
    assert case.held.answer(ALL) is None
    assert case.held.answer(BTC) == case.rest("BTCUSDT")
