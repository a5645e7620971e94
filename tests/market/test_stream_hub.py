"""The hub: one subscription for any number of listeners, kept for a while after the last, in any order of events."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.market.stream_hub import Hub
from app.ports.streams import Listener, StreamsFull
from tests.clocks import START_MS, VirtualClock

NAMES = [f"{letter}usdt@trade" for letter in "abcd"]
LINGER_S = 30


class Exchange:
    """A source of streams that counts subscriptions."""

    def __init__(self) -> None:
        self.subscribed: Counter[str] = Counter()

    def add(self, streams: Iterable[str]) -> None:
        self.subscribed.update(streams)

    def remove(self, streams: Iterable[str]) -> None:
        self.subscribed.subtract(streams)

    def heard_ms(self, stream: str) -> int | None:
        return START_MS if self.subscribed[stream] else None


class Ear:
    """A listener that records what it receives."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def __call__(self, stream: str, payload: bytes) -> None:
        self.heard.append((stream, payload))


def test_frames_reach_all_who_listen_and_nobody_else() -> None:
    hub, one, two = Hub(VirtualClock()), Ear(), Ear()
    hub.take_from(Exchange())
    hub.join("ausdt@trade", one)
    hub.join("ausdt@trade", two)
    hub.join("busdt@trade", two)
    hub.deliver("ausdt@trade", b"1")
    hub.leave("ausdt@trade", two)
    hub.deliver("ausdt@trade", b"2")
    hub.deliver("busdt@trade", b"3")
    hub.deliver("cusdt@trade", b"4")
    assert one.heard == [("ausdt@trade", b"1"), ("ausdt@trade", b"2")]
    assert two.heard == [("ausdt@trade", b"1"), ("busdt@trade", b"3")]
    assert hub.frames == 3


def test_a_listener_may_leave_while_it_is_told() -> None:
    hub, ear = Hub(VirtualClock()), Ear()

    def once(stream: str, payload: bytes) -> None:
        hub.leave(stream, once)
        ear(stream, payload)

    hub.join("ausdt@trade", once)
    hub.join("ausdt@trade", ear)
    hub.deliver("ausdt@trade", b"1")
    hub.deliver("ausdt@trade", b"2")
    assert [payload for _, payload in ear.heard] == [b"1", b"1", b"2"]


def test_names_that_no_stream_has_stay_silent_and_ask_nobody() -> None:
    hub, exchange = Hub(VirtualClock()), Exchange()
    hub.take_from(exchange)
    hub.join("AUSDT@trade", Ear())
    hub.leave("AUSDT@trade", Ear())
    assert (exchange.subscribed, hub.streams, hub.heard_ms("AUSDT@trade")) == ({}, 0, None)


def test_streams_are_bounded_and_those_that_linger_make_room() -> None:
    hub, ear, exchange = Hub(VirtualClock(), streams_max=2), Ear(), Exchange()
    hub.take_from(exchange)
    hub.join("ausdt@trade", ear)
    hub.join("busdt@trade", ear)
    with pytest.raises(StreamsFull, match="unsubscribe"):
        hub.join("cusdt@trade", ear)
    hub.join("busdt@trade", Ear())  # another listener, not another stream
    hub.leave("ausdt@trade", ear)
    hub.join("cusdt@trade", ear)
    assert +exchange.subscribed == Counter(["busdt@trade", "cusdt@trade"])


class Hubs(RuleBasedStateMachine):
    """Clients that join and leave, sources that change, and time that passes, in random order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.hub = Hub(self.clock, linger_s=LINGER_S)
        self.exchange: Exchange | None = None
        self.listening: dict[str, set[Listener]] = {name: set() for name in NAMES}
        self.left_ms: dict[str, int] = {}
        self.ears = [Ear() for _ in range(3)]

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 2))
    def join(self, name: str, number: int) -> None:
        self.hub.join(name, self.ears[number])
        self.listening[name].add(self.ears[number])
        self.left_ms.pop(name, None)

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 2))
    def leave(self, name: str, number: int) -> None:
        self.hub.leave(name, self.ears[number])
        if self.ears[number] in self.listening[name]:
            self.listening[name].discard(self.ears[number])
            if not self.listening[name]:
                self.left_ms[name] = self.clock.time_ms

    @rule(name=st.sampled_from(NAMES))
    def deliver(self, name: str) -> None:
        before = {ear: len(ear.heard) for ear in self.ears}
        self.hub.deliver(name, b"{}")
        for ear in self.ears:
            assert len(ear.heard) - before[ear] == (ear in self.listening[name])

    @rule(seconds=st.integers(1, 40))
    def pass_time(self, seconds: int) -> None:
        self.clock.time_ms += seconds * 1_000
        self.hub.release()
        now_ms = self.clock.time_ms
        self.left_ms = {name: ms for name, ms in self.left_ms.items() if now_ms - ms < LINGER_S * 1_000}

    @rule(is_there=st.booleans())
    def change_source(self, is_there: bool) -> None:
        self.exchange = Exchange() if is_there else None
        self.hub.take_from(self.exchange)

    @invariant()
    def each_stream_is_subscribed_once_while_it_is_wanted(self) -> None:
        wanted = {name for name in NAMES if self.listening[name] or name in self.left_ms}
        assert self.hub.streams == len(wanted)
        if self.exchange is not None:
            assert +self.exchange.subscribed == Counter(wanted)


Hubs.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestHubs = Hubs.TestCase
