"""The verdicts on a socket from its frames, their absence and their age, at the boundaries."""

import pytest

from app.domain.interval import MINUTE_MS
from infra.binance.socket_link import CHECK_S
from infra.binance.socket_pulse import (
    BUSY_FRAMES,
    LAG_MS_MAX,
    LAG_S_MAX,
    SILENCE_GRACE_S,
    SILENT_MINUTES,
    Key,
    Pulse,
)
from tests.clocks import START_MS

A: Key = ("AUSDT", "1m")
MANY: list[Key] = [(f"S{number}USDT", "1m") for number in range(10)]
CHECK_MS = int(CHECK_S * 1_000)
SILENCE_MS = 60_000 + SILENCE_GRACE_S * 1_000


class Life:
    """A pulse, its clock, and the frames of its streams."""

    def __init__(self, *keys: Key) -> None:
        self.now_ms = START_MS
        self.pulse = Pulse()
        self.pulse.check(self.now_ms)
        self.pulse.expect(keys, self.now_ms)
        self.pulse.complete()
        self.again: list[tuple[int, Key]] = []

    def beat(self, *keys: Key, lag_ms: int = 0) -> None:
        for key in keys:
            self.pulse.beat(key, self.now_ms, self.now_ms - lag_ms)

    def step(self, elapsed_ms: int = CHECK_MS) -> None:
        self.now_ms += elapsed_ms
        self.again += [(self.now_ms - START_MS, key) for key in self.pulse.check(self.now_ms)]

    def live(self, seconds: int, *keys: Key, lag_ms: int = 0) -> None:
        for _ in range(seconds * 1_000 // CHECK_MS):
            self.beat(*keys, lag_ms=lag_ms)
            self.step()


def test_silence_counts_from_the_last_frame_and_ends_with_one() -> None:
    life = Life(A)
    for _ in range(SILENCE_MS // CHECK_MS):
        life.step()
    assert life.pulse.illness() is None
    life.step()
    assert life.pulse.illness() == "no frame of 1 streams for 75 s"
    life.beat(A)
    assert life.pulse.illness() is None


@pytest.mark.parametrize("jump_ms", [86_400_000, -86_400_000, 90_000])
def test_a_clock_that_is_put_right_and_a_machine_that_stood_still_are_no_silence(jump_ms: int) -> None:
    life = Life(A)
    life.beat(A)
    life.step(jump_ms)
    assert life.pulse.illness() is None
    for _ in range(SILENCE_MS // CHECK_MS - 2):
        life.step()
    assert life.pulse.illness() is None
    for _ in range(3):
        life.step()
    assert life.pulse.illness() is not None


def test_frames_that_wait_in_our_own_queue_are_not_silence() -> None:
    life = Life(A, *MANY)
    life.beat(A, *MANY)
    life.pulse.hold()
    for _ in range(20 * 60_000 // CHECK_MS):
        life.step()
    assert life.pulse.illness() is None
    assert life.pulse.silent == 0
    life.pulse.release()
    life.beat(A, lag_ms=20 * 60_000)
    life.step()
    assert life.pulse.complaint() is None, "late because of us"
    for _ in range(SILENCE_MS // CHECK_MS + 1):
        life.step()
    assert life.pulse.illness() is not None, "but now there is no excuse"


def test_a_socket_is_slow_when_not_one_frame_was_in_time_for_long_enough() -> None:
    life = Life(A, *MANY)
    life.live(300, A, *MANY, lag_ms=LAG_MS_MAX)
    assert life.pulse.complaint() is None, "late, but within bounds"
    life.live(LAG_S_MAX, A, *MANY, lag_ms=LAG_MS_MAX + 1)
    assert life.pulse.complaint() is None
    life.live(5, A, *MANY, lag_ms=LAG_MS_MAX + 1)
    assert life.pulse.complaint() == "every frame came more than 10 s late for 30 s"
    assert life.pulse.illness() is None, "it delivers until another one does"
    life.beat(A, lag_ms=200)
    life.step()
    assert life.pulse.complaint() is None


def test_what_a_slow_socket_tells_is_as_old_as_its_frames() -> None:
    life = Life(A, *MANY)
    life.beat(A)
    assert life.pulse.heard_ms(A) == life.now_ms
    life.live(60, *MANY, lag_ms=25_000)
    assert life.now_ms - CHECK_MS - 25_000 == life.pulse.heard_ms(A)
    life.beat(A, lag_ms=-40_000)
    assert life.pulse.heard_ms(A) == life.now_ms, "nobody tells of the future: our clock is behind"
    life.pulse.beat(A, life.now_ms + 1, 0)
    assert life.pulse.heard_ms(A) == life.now_ms + 1


def test_a_busy_stream_speaks_for_itself_and_the_socket_for_a_quiet_one() -> None:
    life = Life(A, *MANY)
    for _ in range(BUSY_FRAMES):
        life.beat(A)
    for _ in range(BUSY_FRAMES - 1):
        life.beat(MANY[0])
    silent_ms = life.now_ms
    life.live(15, *MANY[1:])
    assert life.pulse.heard_ms(A) == silent_ms, "known within the minute"
    life.live(45, *MANY[1:])
    assert life.pulse.heard_ms(A) == silent_ms
    assert life.pulse.heard_ms(MANY[0]) == life.now_ms - CHECK_MS, "so few frames a minute leave gaps"
    life.live(55, *MANY)
    assert life.pulse.heard_ms(A) == silent_ms
    life.live(5, *MANY)
    assert life.pulse.heard_ms(A) is None, "a whole minute without a frame"
    life.beat(A)
    life.live(60, A, *MANY)
    assert life.pulse.heard_ms(A) == life.now_ms - CHECK_MS
    assert A not in life.pulse._busy, "a stream may become quiet"


def test_a_single_late_frame_and_frames_without_a_time_are_not_slowness() -> None:
    life = Life(A, *MANY)
    life.beat(A, lag_ms=60_000)
    for _ in range(10):
        life.step()
    assert life.pulse.complaint() is None
    for _ in range(20):
        life.pulse.beat(A, life.now_ms, 0)
        life.step()
    assert life.pulse.complaint() is None


def test_a_frame_in_time_among_late_ones_excuses_the_socket() -> None:
    life = Life(A, *MANY)
    for _ in range(60):
        life.beat(*MANY, lag_ms=60_000)
        life.beat(A)
        life.step()
    assert life.pulse.complaint() is None


def test_a_stream_that_stays_silent_is_subscribed_again_less_and_less_often() -> None:
    life = Life(A, *MANY)
    for _ in range(20):
        life.live(60, *MANY)
        for _, key in life.again[-1:]:
            if life.again[-1][0] == life.now_ms - START_MS:
                life.pulse.forget([key], for_good=False)
                life.pulse.expect([key], life.now_ms)
    assert [key for _, key in life.again] == [A] * 4
    gaps = [later - earlier for (earlier, _), (later, _) in zip(life.again, life.again[1:], strict=False)]
    assert gaps == sorted(gaps)
    assert gaps[0] < gaps[-1]
    assert life.pulse.heard_ms(A) is None
    assert life.pulse.heard_ms(MANY[0]) is not None


def test_only_what_rest_has_makes_a_silent_stream_a_sick_one() -> None:
    life = Life(A, *MANY)
    minutes = 2 * SILENT_MINUTES + 1  # the first minute is incomplete
    life.live(minutes * 60, *MANY)
    life.pulse.exists(A, START_MS)
    assert life.pulse.complaint() is None, "closed before the silence began: a symbol that no longer trades"
    life.pulse.exists(A, START_MS + 3 * MINUTE_MS)
    assert life.pulse.complaint() == f"AUSDT 1m stays silent for {minutes} minutes while REST has its klines"
    life.beat(A)
    life.live(60, *MANY)
    assert life.pulse.complaint() is None


def test_a_stream_gets_its_second_chance_before_the_socket_is_blamed() -> None:
    life = Life(A, *MANY)
    life.pulse.exists(A, START_MS + 60 * MINUTE_MS)
    while life.pulse.complaint() is None:
        life.live(60, *MANY)
    assert {key for _, key in life.again} == {A}
    assert life.again[0][0] < life.now_ms - START_MS
