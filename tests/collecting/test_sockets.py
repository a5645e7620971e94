"""Sockets are opened, subscribed, watched, replaced and given up; one refused channel stops nothing else."""

from collections.abc import Iterable

import msgspec

from app.collecting.effects import Close, Open, Send
from app.collecting.outlet import Outlet
from app.collecting.sockets import CHANNEL_TRIES, OVERLAP_MS, Sockets
from app.collecting.subscriptions import ACKNOWLEDGE_MS
from app.domain.gap_reason import GapReason
from app.domain.market_events import Accepted, Refused
from app.domain.venue import Channel
from tests.collecting.made import SECOND, chance, venue
from tests.collecting.model_venue import LIMITS


class Carried:
    """The session's part: it notes what was cut, and delivers what the test says."""

    def __init__(self) -> None:
        self.cuts: list[tuple[int, str, bool]] = []
        self.delivering: set[int] = set()

    def cut(self, socket: int, channels: Iterable[Channel], reason: GapReason, is_replaced: bool, now_ms: int) -> None:
        self.cuts.append((socket, reason, is_replaced))

    def delivers(self, channel: Channel, socket: int) -> bool:
        return socket in self.delivering


class Stage:
    """Sockets with their effects in short, and a clock that only moves forward."""

    def __init__(self, *names: str) -> None:
        self.outlet = Outlet()
        self.carried = Carried()
        self.now_ms = 0
        self._id = 0
        self.sockets = Sockets(venue(), self.carried, self.outlet, self._next_id, chance())
        self.follow(*names)

    def _next_id(self) -> int:
        self._id += 1
        return self._id

    def follow(self, *names: str) -> None:
        self.sockets.follow({Channel("/market", name) for name in names}, self.now_ms)

    def effects(self) -> list[object]:
        short: list[object] = []
        for effect in self.outlet.take():
            match effect:
                case Open(number, _):
                    short.append(("open", number))
                case Close(number):
                    short.append(("close", number))
                case Send(number, text):
                    message = msgspec.json.decode(text)
                    short.append((message["op"], number, *message.get("names", ())))
        return short

    def wait(self, after_ms: int, *, hearing: int = 0) -> list[object]:
        """Let time pass in steps of what is due; the socket `hearing` gets a frame in each."""
        end_ms, seen = self.now_ms + after_ms, []
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, max(self.now_ms + 1, self.sockets.due_ms()))
            if hearing:
                self.sockets.heard(hearing, self.now_ms)
            self.sockets.tick(self.now_ms)
            seen += [effect for effect in self.effects() if effect[0] != "ping"]  # type: ignore[index]
        return seen

    def accept(self, number: int, *names: str) -> None:
        socket = self.sockets.heard(number, self.now_ms)
        assert socket is not None, f"socket {number} is known"
        socket.subscriptions.accepted(Accepted(None, names))


def test_channels_are_spread_over_sockets_and_subscribed_in_bounded_messages_at_a_bounded_pace() -> None:
    names = [f"c{n}" for n in range(8)]
    stage = Stage(*names)
    assert stage.effects() == [("open", 1)], f"at most {LIMITS.connects_per_s_max} connects a second"
    assert stage.wait(SECOND) == [("open", 2)]
    stage.sockets.opened(1, stage.now_ms)
    assert stage.effects() == [("subscribe", 1, "c0", "c1", "c2")]
    assert stage.wait(199) == []
    assert stage.wait(1) == [("subscribe", 1, "c3", "c4")]
    stage.sockets.opened(2, stage.now_ms)
    assert stage.effects() == [("subscribe", 2, "c5", "c6", "c7")]


def test_what_is_no_longer_followed_is_unsubscribed_and_an_empty_socket_closed() -> None:
    stage = Stage("a", "b")
    stage.sockets.opened(1, 0)
    stage.accept(1, "a", "b")
    stage.effects()
    stage.follow("b")
    assert stage.wait(SECOND, hearing=1) == [("unsubscribe", 1, "a")]
    stage.follow()
    assert stage.effects() == [("close", 1)]
    assert stage.sockets.status() == []


def test_a_refused_channel_is_asked_for_again_later_and_alone_while_the_others_go_on() -> None:
    stage = Stage("a", "b", "c")
    stage.sockets.opened(1, 0)
    stage.effects()
    socket = stage.sockets.heard(1, 0)
    assert socket is not None
    socket.subscriptions.refused(Refused(None, 60018, "no such channel", "b"), 0)
    stage.accept(1, "a", "c")
    [(channel, message, until_ms)] = stage.sockets.refusals()
    assert (channel.name, message) == ("b", "no such channel")
    assert stage.wait(until_ms - 1, hearing=1) == []
    assert stage.wait(1, hearing=1) == [("subscribe", 1, "b")]
    stage.accept(1, "b")
    assert stage.sockets.refusals() == []
    assert stage.sockets.status()[0].channels == 3
    assert stage.carried.cuts == []


def test_a_refusal_of_a_channel_that_is_no_longer_followed_changes_nothing() -> None:
    stage = Stage("a", "b")
    stage.sockets.opened(1, 0)
    socket = stage.sockets.heard(1, 0)
    assert socket is not None
    stage.follow("b")
    socket.subscriptions.refused(Refused(None, 60018, "no such channel", "a"), 0)
    assert stage.sockets.refusals() == []


def test_a_refusal_that_names_no_channel_makes_each_be_asked_for_alone() -> None:
    stage = Stage("a", "b")
    stage.sockets.opened(1, 0)
    stage.effects()
    socket = stage.sockets.heard(1, 0)
    assert socket is not None
    socket.subscriptions.refused(Refused(None, 1, "bad arguments"), 0)
    assert stage.wait(SECOND, hearing=1) == [("subscribe", 1, "a"), ("subscribe", 1, "b")]


def test_a_message_that_nobody_acknowledges_costs_the_socket() -> None:
    stage = Stage("a", "b")
    stage.sockets.opened(1, 0)
    stage.effects()
    assert stage.wait(ACKNOWLEDGE_MS, hearing=1) == [("close", 1)]
    assert stage.carried.cuts == [(1, "unanswered", False)]


def test_one_channel_left_out_of_an_acknowledgement_counts_as_refused() -> None:
    stage = Stage("a", "b")
    stage.sockets.opened(1, 0)
    stage.accept(1, "a")
    stage.wait(ACKNOWLEDGE_MS, hearing=1)
    assert [refusal[:2] for refusal in stage.sockets.refusals()] == [(Channel("/market", "b"), "not acknowledged")]
    assert stage.carried.cuts == []


def test_a_socket_without_frames_is_closed_and_opened_again_after_growing_pauses() -> None:
    stage = Stage("a")
    stage.effects()
    opens = []
    for number in range(1, 12):
        stage.sockets.opened(number, stage.now_ms)
        stage.accept(number, "a")
        seen = stage.wait(LIMITS.silence_ms)
        assert ("close", number) in seen
        silent_ms = stage.now_ms
        while ("open", number + 1) not in seen:
            seen = stage.wait(1_000)
        opens.append(stage.now_ms - silent_ms)
    assert max(opens[:1]) <= 2 * SECOND
    assert 5 * SECOND < max(opens) <= 61 * SECOND
    assert {cut[1] for cut in stage.carried.cuts} == {"silent"}
    socket = stage.sockets.heard(12, stage.now_ms)
    assert socket is not None
    stage.sockets.useful(socket)
    stage.sockets.closed(12, stage.now_ms)
    assert ("open", 13) in stage.wait(2 * SECOND), "useful data make the pause the shortest again"


def test_a_quiet_socket_is_kept_alive_and_one_that_never_opens_given_up() -> None:
    stage = Stage("a")
    stage.effects()
    stage.sockets.opened(1, 0)
    stage.accept(1, "a")
    stage.effects()
    stage.now_ms = LIMITS.keepalive_ms
    stage.sockets.tick(stage.now_ms)
    assert stage.effects() == [("ping", 1)]
    never = Stage("a")
    assert ("close", 1) in never.wait(20 * SECOND)


def test_an_old_socket_is_replaced_by_one_that_delivers_before_it_is_closed() -> None:
    stage = Stage("a")
    stage.sockets.opened(1, 0)
    stage.accept(1, "a")
    stage.effects()
    while ("open", 2) not in stage.wait(SECOND, hearing=1):
        assert stage.now_ms < LIMITS.age_ms_max, "the exchange would have closed it"
    stage.sockets.opened(2, stage.now_ms)
    stage.accept(2, "a")
    assert ("close", 1) not in stage.wait(2 * SECOND, hearing=1)
    stage.carried.delivering.add(2)
    assert stage.wait(2 * SECOND, hearing=1) == [("close", 1)]
    assert stage.carried.cuts == [(1, "rotation", True)]


def test_a_new_socket_whose_channels_seldom_speak_takes_over_after_a_while() -> None:
    stage = Stage("a")
    stage.sockets.opened(1, 0)
    stage.accept(1, "a")
    socket = stage.sockets.heard(1, 0)
    assert socket is not None
    stage.sockets.closing(socket, 600)
    stage.effects()
    assert stage.wait(SECOND, hearing=1) == [("open", 2)]
    stage.sockets.opened(2, stage.now_ms)
    stage.accept(2, "a")
    seen = []
    for _ in range(OVERLAP_MS // SECOND + 1):
        stage.sockets.heard(2, stage.now_ms)
        seen += stage.wait(SECOND, hearing=1)
    assert ("close", 1) in seen


def test_a_socket_lost_while_its_successor_is_ready_is_no_cut() -> None:
    stage = Stage("a")
    stage.sockets.opened(1, 0)
    stage.accept(1, "a")
    socket = stage.sockets.heard(1, 0)
    assert socket is not None
    stage.sockets.closing(socket, 600)
    stage.wait(SECOND, hearing=1)
    stage.sockets.opened(2, stage.now_ms)
    stage.accept(2, "a")
    stage.sockets.closed(1, stage.now_ms)
    assert stage.carried.cuts == [(1, "disconnected", True)]
    assert [status.socket for status in stage.sockets.status()] == [2]


def test_a_channel_that_is_subscribed_again_and_again_gets_another_socket() -> None:
    stage = Stage("a")
    stage.sockets.opened(1, 0)
    stage.accept(1, "a")
    stage.effects()
    seen = []
    for _ in range(CHANNEL_TRIES + 1):
        stage.sockets.again(Channel("/market", "a"), 0, stage.now_ms)
        seen += stage.wait(SECOND, hearing=1)
        stage.accept(1, "a")
    assert seen[:2] == [("unsubscribe", 1, "a"), ("subscribe", 1, "a")]
    assert ("open", 2) in seen
