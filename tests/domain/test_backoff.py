from random import Random

from app.domain.backoff import ceiling_s, full_jitter_s, spread_s


def test_pauses_double_up_to_the_longest() -> None:
    assert [ceiling_s(failures, 0.5, 10.0) for failures in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert ceiling_s(10**9, 0.5, 1e9) == 0.5 * 2**16, "however many there were"


def test_a_spread_pause_is_never_shorter_than_the_first() -> None:
    pauses = [spread_s(Random(seed), 3, 0.5, 60.0) for seed in range(500)]
    assert 0.5 <= min(pauses) < 0.7
    assert 3.8 < max(pauses) <= 4.0


def test_full_jitter_may_come_back_at_once() -> None:
    pauses = [full_jitter_s(Random(seed), 3, 0.5, 60.0) for seed in range(500)]
    assert min(pauses) < 0.05
    assert 1.9 < max(pauses) <= 2.0
