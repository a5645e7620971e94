"""Two sockets that carry one stream for a while, not in step: each frame of the stream is passed on once, in order."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.binance.stream_order import HOLD_MS, WAITING_MAX, InOrder, is_newer
from tests.clocks import START_MS, VirtualClock

EVENTS: dict[str, Callable[[int], object]] = {
    "ausdt@depth@100ms": lambda n: {"e": "depthUpdate", "E": 1, "u": n, "pu": n - 1, "b": [["1.0", "2"]], "a": []},
    "ausdt@depth5": lambda n: {"e": "depthUpdate", "E": 1, "u": n, "b": [], "a": []},
    "ausdt@bookTicker": lambda n: {"e": "bookTicker", "u": n, "E": 1, "b": "1.0", "a": "2.0"},
    "ausdt@aggTrade": lambda n: {"e": "aggTrade", "E": 1, "a": n, "m": True},
    "ausdt@trade": lambda n: {"e": "trade", "E": 1, "t": n, "X": "MARKET"},
    "ausdt@ticker": lambda n: {"e": "24hrTicker", "E": n, "a": "text", "t": "text"},
    "ausdt@kline_1m": lambda n: {"e": "kline", "E": n // 2, "k": {"t": 0, "n": n, "x": False}},
    "!ticker@arr": lambda n: [{"e": "24hrTicker", "E": n}, {"e": "24hrTicker", "E": 0}],
}


def payload(stream: str, number: int) -> bytes:
    return json.dumps(EVENTS[stream](number), separators=(",", ":")).encode()


class Ear:
    """Records the numbers of the frames that are passed on."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START_MS)
        self.came: list[int] = []
        self.in_order = InOrder(self.clock, self)

    def __call__(self, stream: str, event: bytes) -> None:
        self.came.append(next(n for n in range(200) if payload(stream, n) == event))

    def old(self, stream: str, number: int) -> None:
        self.in_order.take(stream, payload(stream, number), is_doubled=True, is_ahead=False)

    def new(self, stream: str, number: int) -> None:
        self.in_order.take(stream, payload(stream, number), is_doubled=True, is_ahead=True)

    def only(self, stream: str, number: int) -> None:
        self.in_order.take(stream, payload(stream, number), is_doubled=False, is_ahead=False)


@pytest.mark.parametrize("stream", EVENTS)
@given(turns=st.lists(st.booleans(), max_size=60), begins=st.integers(1, 30), count=st.integers(1, 30))
def test_a_hand_over_repeats_and_loses_nothing_however_the_sockets_interleave(
    stream: str, turns: list[bool], begins: int, count: int
) -> None:
    """The new socket starts anywhere in the old one's frames, and may be far ahead of it or behind it."""
    old, new = list(range(1, count + 1)), list(range(min(begins, count + 1), count + 4))
    ear = Ear()
    for is_old in turns:
        if is_old and old:
            ear.old(stream, old.pop(0))
        elif not is_old and new:
            ear.new(stream, new.pop(0))
    for number in old:
        ear.old(stream, number)
    for number in (number for number in new if number <= count):
        ear.new(stream, number)  # the old socket is closed when the new one has caught up
    for number in (number for number in (*new, count + 4) if number > count):
        ear.only(stream, number)
    assert ear.came == list(range(1, count + 5))


def test_what_waits_for_a_socket_that_is_silent_waits_a_second_and_no_more() -> None:
    stream, ear = "ausdt@aggTrade", Ear()
    ear.old(stream, 1)
    for number in range(2, 6):
        ear.new(stream, number)
    ear.clock.time_ms += HOLD_MS - 1
    ear.in_order.release()
    assert ear.came == [1]
    ear.clock.time_ms += 1
    ear.in_order.release()
    assert ear.came == [1, 2, 3, 4, 5]
    ear.old(stream, 3)
    ear.old(stream, 6)
    assert ear.came == [1, 2, 3, 4, 5, 6], "what the old one brings too late comes no second time"


def test_what_waits_is_bounded_and_goes_with_the_stream() -> None:
    came: list[bytes] = []
    stream, clock = "ausdt@aggTrade", VirtualClock(START_MS)
    in_order = InOrder(clock, lambda _, event: came.append(event))
    for number in range(WAITING_MAX + 1):
        assert came == []
        in_order.take(stream, b'{"a":%d}' % number, is_doubled=True, is_ahead=True)
    assert len(came) == WAITING_MAX + 1
    in_order.take(stream, b'{"a":9999}', is_doubled=True, is_ahead=True)
    in_order.forget(stream)
    clock.time_ms += HOLD_MS
    in_order.release()
    assert len(came) == WAITING_MAX + 1


@pytest.mark.parametrize("stream", EVENTS)
def test_an_event_that_comes_again_is_not_newer_and_the_next_one_is(stream: str) -> None:
    first, second = payload(stream, 2), payload(stream, 4)
    assert is_newer(stream, second, first)
    assert not is_newer(stream, first, second)
    assert not is_newer(stream, first, first)


def test_without_a_second_socket_only_the_same_event_again_is_left_out() -> None:
    stream, ear = "ausdt@trade", Ear()
    for number in (5, 5, 3, 5):
        ear.only(stream, number)
    assert ear.came == [5, 3, 5], "numbers may begin anew: one socket is believed"


@pytest.mark.parametrize("event", [b"[]", b'{"E":"text"}', b'{"u":null}', b'[{"x":1}]', b'{"E":1,"k":[]}'])
def test_what_cannot_be_put_in_order_is_handed_on(event: bytes) -> None:
    for stream in [stream for stream in EVENTS if stream.rpartition("@")[2] not in ("ticker", "kline_1m", "arr")]:
        assert is_newer(stream, event, payload(stream, 1))
        assert is_newer(stream, payload(stream, 1), event)
