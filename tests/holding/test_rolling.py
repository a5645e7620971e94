"""Live roll-up against brute force: its result is the roll-up of all the minutes, or none."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS, Interval
from app.domain.kline import Kline
from app.domain.rollup import roll_up
from app.domain.span import Span
from app.holding.rolling import Rolling
from tests.fakes import DAY0_MS, minute

SYMBOL = "BTCUSDT"
ROLLED = [interval for interval in INTERVALS.values() if M1.grid.step_ms < interval.grid.step_ms <= DAY_MS]


def minutes_of(start_ms: int, end_ms: int) -> list[Kline]:
    return [minute(SYMBOL, each) for each in range(start_ms, end_ms, MINUTE_MS)]


def brute(interval: Interval, start_ms: int, end_ms: int, live: Kline | None = None) -> Kline:
    parts = minutes_of(start_ms, end_ms) + ([live] if live else [])
    return roll_up(parts, interval.grid)[0]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_whatever_starts_holes_and_seeds_there_are_every_kline_told_is_the_whole_one(seed: int) -> None:
    rng = random.Random(seed)
    rolling = Rolling(list(INTERVALS.values()))
    assert rolling.intervals == ROLLED
    now_ms = DAY0_MS + rng.randrange(0, 26 * 60) * MINUTE_MS
    for _ in range(150):
        what = rng.random()
        if what < 0.06:
            now_ms += rng.choice([1, 2, 61]) * MINUTE_MS  # minutes that never arrive
        elif what < 0.2:
            end_ms = now_ms + rng.choice([0, 0, 0, MINUTE_MS, -MINUTE_MS])
            lacking = rolling.lacking(SYMBOL, end_ms)
            start_ms = lacking.start_ms + rng.choice([0, 0, 0, 5, 60]) * MINUTE_MS
            span = Span(start_ms, lacking.end_ms)
            if span:
                rolling.seed(SYMBOL, minutes_of(*span), span)
                if start_ms == lacking.start_ms and rolling.lacking(SYMBOL, end_ms):
                    raise AssertionError("seeded with all it asked for, and something is lacking still")
        told = list(rolling.take(SYMBOL, minute(SYMBOL, now_ms)))
        now_ms += MINUTE_MS
        for interval, kline in told:
            open_ms = interval.grid.floor(now_ms - 1)
            assert kline == brute(interval, open_ms, now_ms), interval
            assert interval.grid.shift(open_ms, 1) == now_ms, "told before its last minute"
        live = minute(SYMBOL, now_ms)._replace(trades=3, volume="1.000", high="9999.95")
        for interval in rng.sample(ROLLED, 2):
            open_ms = interval.grid.floor(now_ms)
            for heard in (live, None):
                for closed_end_ms in (now_ms, now_ms + MINUTE_MS):
                    state = rolling.live(SYMBOL, interval, heard, open_ms, closed_end_ms)
                    if state is not None:
                        assert closed_end_ms == now_ms, "a closed minute is not in it"
                        assert state == brute(interval, open_ms, now_ms, heard), interval
            stale = minute(SYMBOL, now_ms - MINUTE_MS)
            assert rolling.live(SYMBOL, interval, stale, open_ms, now_ms) is None


def test_a_bucket_followed_from_its_begin_is_told_at_its_last_minute() -> None:
    rolling = Rolling([INTERVALS["5m"], INTERVALS["1h"]])
    told = {
        kline.open_ms: (interval.code, each.open_ms)
        for each in minutes_of(DAY0_MS, DAY0_MS + 10 * MINUTE_MS)
        for interval, kline in rolling.take(SYMBOL, each)
    }
    assert told == {
        DAY0_MS: ("5m", DAY0_MS + 4 * MINUTE_MS),
        DAY0_MS + 5 * MINUTE_MS: ("5m", DAY0_MS + 9 * MINUTE_MS),
    }


@pytest.mark.parametrize("missed", range(1, 60, 7))
def test_no_hour_is_told_when_one_of_its_minutes_was_missed(missed: int) -> None:
    rolling = Rolling([INTERVALS["1h"]])
    lost_ms = DAY0_MS + missed * MINUTE_MS
    for each in minutes_of(DAY0_MS, DAY0_MS + HOUR_MS):
        if each.open_ms != lost_ms:
            assert list(rolling.take(SYMBOL, each)) == []


def test_minutes_that_do_not_reach_back_to_the_begin_of_a_bucket_do_not_seed_it() -> None:
    """A roll-up of part of a day would look like a whole day."""
    rolling = Rolling([INTERVALS["5m"], INTERVALS["1d"]])
    end_ms = DAY0_MS + 7 * MINUTE_MS
    span = Span(DAY0_MS + 5 * MINUTE_MS, end_ms)
    rolling.seed(SYMBOL, minutes_of(*span), span)
    assert rolling.live(SYMBOL, INTERVALS["1d"], None, DAY0_MS, end_ms) is None
    assert rolling.live(SYMBOL, INTERVALS["5m"], None, span.start_ms, end_ms) == brute(INTERVALS["5m"], *span)
    assert rolling.lacking(SYMBOL, 0) == Span(DAY0_MS, end_ms)


def test_a_symbol_that_is_forgotten_starts_anew() -> None:
    rolling = Rolling([INTERVALS["5m"]])
    list(rolling.take(SYMBOL, minute(SYMBOL, DAY0_MS)))
    rolling.forget(SYMBOL)
    assert rolling.live(SYMBOL, INTERVALS["5m"], None, DAY0_MS, DAY0_MS + MINUTE_MS) is None
