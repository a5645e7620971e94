"""The verdicts on a socket from frames of any stream and from their absence, at the boundaries."""

from infra.binance.socket_link import CHECK_S
from infra.binance.stream_pulse import SILENCE_S_MAX, UNHEARD_S, StreamPulse
from tests.clocks import START_MS

MARK, OTHER_MARK, TRADE, ORDERS = "ausdt@markPrice", "busdt@markPrice", "ausdt@aggTrade", "ausdt@forceOrder"
STEADY_S, CHANGES_S = 30, 300  # as in app/binance/stream_name.py
CHECK_MS = int(CHECK_S * 1_000)


class Life:
    """A pulse and its clock."""

    def __init__(self, *streams: str) -> None:
        self.now_ms = START_MS
        self.pulse = StreamPulse()
        self.pulse.check(self.now_ms)
        self.pulse.expect(streams, self.now_ms)
        self.pulse.complete()

    def live(self, seconds: int, *streams: str) -> list[str]:
        """Let time pass while these streams send; return the streams that must be subscribed again."""
        again: list[str] = []
        for _ in range(seconds * 1_000 // CHECK_MS):
            for stream in streams:
                self.pulse.beat(stream, self.now_ms)
            self.now_ms += CHECK_MS
            again += self.pulse.check(self.now_ms)
        return again


def test_a_stream_is_alive_from_its_first_frame_until_it_is_silent_for_longer_than_its_kind_ever_is() -> None:
    life = Life(MARK, OTHER_MARK)
    assert life.pulse.heard_ms(MARK) is None
    life.pulse.beat(MARK, life.now_ms)
    assert life.live(STEADY_S, OTHER_MARK) == []
    assert (life.pulse.heard_ms(MARK), life.pulse.silent) == (START_MS, 0)
    assert life.live(int(CHECK_S), OTHER_MARK) == [MARK]
    assert (life.pulse.heard_ms(MARK), life.pulse.silent) == (None, 1)
    life.pulse.beat(MARK, life.now_ms)
    assert life.pulse.heard_ms(MARK) == life.now_ms


def test_a_stream_that_stays_silent_is_subscribed_again_less_and_less_often() -> None:
    life = Life(MARK, OTHER_MARK)
    moments = []
    began_ms = life.now_ms
    while life.now_ms - began_ms < 16 * STEADY_S * 1_000:
        if again := life.live(int(CHECK_S), OTHER_MARK):
            assert again == [MARK]
            moments.append((life.now_ms - began_ms) // 1_000)
            life.pulse.forget(again, for_good=False)
            life.pulse.expect(again, life.now_ms)
    gaps = [later - earlier for earlier, later in zip([0, *moments], moments, strict=False)]
    assert gaps == [STEADY_S + 5, 2 * STEADY_S + 5, 4 * STEADY_S + 5, 8 * STEADY_S + 5][: len(gaps)]
    assert len(gaps) >= 3


def test_a_socket_without_any_frame_is_sick_after_its_steadiest_stream_that_has_ever_sent() -> None:
    life = Life(MARK, TRADE)
    life.live(5, TRADE)
    life.live(STEADY_S + 30)
    assert life.pulse.illness() is None, "the one that is always quick has never sent: it may have nothing to send"
    life.live(CHANGES_S)
    assert life.pulse.illness() == f"no frame of 2 streams for {CHANGES_S} s"
    life.pulse.beat(MARK, life.now_ms)
    assert life.pulse.illness() is None
    life.live(STEADY_S)
    assert life.pulse.illness() is None
    life.live(5)
    assert life.pulse.illness() == f"no frame of 2 streams for {STEADY_S} s"


def test_a_socket_that_never_sent_anything_is_given_up_and_one_of_rare_streams_late() -> None:
    life = Life(MARK)
    life.live(UNHEARD_S)
    assert life.pulse.illness() is None
    life.live(5)
    assert life.pulse.illness() == f"no frame of 1 streams for {UNHEARD_S} s"
    rare = Life(ORDERS)
    rare.live(SILENCE_S_MAX)
    assert rare.pulse.illness() is None
    rare.live(5)
    assert rare.pulse.illness() is not None


def test_a_clock_that_jumps_makes_nobody_silent() -> None:
    for jump_ms in (86_400_000, -86_400_000):
        life = Life(MARK)
        life.live(10, MARK)
        life.now_ms += jump_ms
        assert life.pulse.check(life.now_ms) == []
        assert life.pulse.illness() is None
        assert life.pulse.silent == 0


def test_all_is_heard_once_everything_wanted_has_sent() -> None:
    life = Life(MARK, TRADE)
    life.pulse.beat(MARK, life.now_ms)
    assert not life.pulse.all_heard.is_set()
    life.pulse.forget([TRADE])
    life.pulse.complete()
    assert life.pulse.all_heard.is_set()


def test_a_socket_without_streams_is_not_sick() -> None:
    life = Life()
    life.live(2 * SILENCE_S_MAX)
    assert life.pulse.illness() is None
