"""No minute spends more weight than allowed, no more requests are under way, and a stand-down is kept."""

from random import Random

from app.collecting.rest_gate import CONCURRENT_MAX, RestGate

MINUTE_MS = 60_000


def test_within_any_minute_the_weight_is_kept_and_nearly_used() -> None:
    gate, chance = RestGate(600), Random(1)
    spent: list[tuple[int, int]] = []
    now_ms = 0
    while now_ms < 10 * MINUTE_MS:
        weight = chance.choice((1, 5, 20))
        if gate.admit(weight, now_ms):
            gate.done()
            spent.append((now_ms, weight))
        else:
            assert gate.ready_ms(weight, now_ms) > now_ms
            now_ms = gate.ready_ms(weight, now_ms)
    for begin_ms, _ in spent:
        assert sum(weight for at_ms, weight in spent if begin_ms <= at_ms < begin_ms + MINUTE_MS) <= 600
    assert sum(weight for _, weight in spent) > 10 * 600 * 4 // 5


def test_a_request_heavier_than_the_burst_is_sent_when_nothing_is_spent() -> None:
    gate = RestGate(60)
    assert gate.admit(50, 0)
    gate.done()
    assert not gate.admit(1, 1)
    assert gate.admit(50, gate.ready_ms(50, 1))


def test_only_some_are_under_way_at_once() -> None:
    gate = RestGate(6_000)
    assert [gate.admit(1, 0) for _ in range(CONCURRENT_MAX + 1)] == [True] * CONCURRENT_MAX + [False]
    gate.done()
    assert gate.admit(1, 0)


def test_nothing_is_sent_during_a_stand_down() -> None:
    gate = RestGate(6_000)
    gate.stand_down(5_000)
    gate.stand_down(3_000)
    assert not gate.admit(1, 4_999)
    assert gate.ready_ms(1, 100) == 5_000
    assert gate.admit(1, 5_000)
