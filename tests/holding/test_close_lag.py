"""Every kline that closes while the node runs is counted once, whatever its source; history is never counted."""

import random
from collections import Counter
from pathlib import Path

import pytest

from app.domain.interval import HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.close_lag import BOUNDS_S, HOLES_MAX, CloseLag
from app.holding.tail import Tail
from app.kinds.klines import KLINES
from tests.fakes import BTC, NOW_MS, ManualClock, always, minute, rig, truth

CLOSED_MS = NOW_MS - 30_000
HOURS = Series(KLINES, "BTCUSDT", INTERVALS["1h"])


class Meter:
    """A tail whose close lag is measured."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lag = CloseLag(self.clock)
        self.tail = Tail(10**8, always, self.lag.arrived)
        self.lag.follow(["BTCUSDT"])

    def counted(self, code: str = "1m") -> dict[float, int]:
        """The number of lags of an interval, by the upper bound (s) of their histogram bucket."""
        found = {labels["interval"]: counts for labels, counts, _ in self.lag.histograms()}
        bounds = (*BOUNDS_S, float("inf"))
        return {bound: count for bound, count in zip(bounds, found.get(code, []), strict=False) if count}


def minutes(*opens_ms: int) -> list[Kline]:
    return [minute("BTCUSDT", each) for each in opens_ms]


def test_a_close_from_the_socket_counts_when_it_is_served_and_not_again_when_it_is_committed() -> None:
    at = Meter()
    at.clock.ms = CLOSED_MS + MINUTE_MS + 420
    at.tail.append(BTC, M1.grid, minute("BTCUSDT", CLOSED_MS))
    at.clock.ms += 5_000
    at.tail.amend(BTC, M1.grid, minutes(CLOSED_MS))
    assert at.counted() == {0.5: 1}
    assert [round(total, 3) for _, _, total in at.lag.histograms()] == [0.42]


def test_a_lost_close_that_rest_heals_counts_with_all_its_lag() -> None:
    at = Meter()
    at.clock.ms = CLOSED_MS + 3 * MINUTE_MS + 200
    for open_ms in (CLOSED_MS, CLOSED_MS + 2 * MINUTE_MS):
        at.tail.append(BTC, M1.grid, minute("BTCUSDT", open_ms))
    before = sum(at.counted().values())
    at.clock.ms += 4_800
    at.tail.amend(BTC, M1.grid, minutes(CLOSED_MS + MINUTE_MS))
    assert (before, at.counted()[120.0]) == (2, 1), "closed 65 s ago"
    at.tail.amend(BTC, M1.grid, minutes(CLOSED_MS + MINUTE_MS))
    at.tail.amend(BTC, M1.grid, minutes(CLOSED_MS, CLOSED_MS + MINUTE_MS, CLOSED_MS + 2 * MINUTE_MS))
    assert sum(at.counted().values()) == 3, "repairs of what was served already"


def test_history_does_not_count() -> None:
    at = Meter()
    at.clock.ms += HOUR_MS
    at.tail.amend(BTC, M1.grid, minutes(*range(CLOSED_MS - 500 * MINUTE_MS, CLOSED_MS, MINUTE_MS)))
    assert at.counted() == {}
    at.tail.amend(BTC, M1.grid, minutes(*range(CLOSED_MS - 2 * MINUTE_MS, CLOSED_MS + MINUTE_MS, MINUTE_MS)))
    assert at.counted() == {3600.0: 1}, "the minute that was in progress at the start"
    at.tail.amend(Series(KLINES, "ETHUSDT", M1), M1.grid, minutes(CLOSED_MS + HOUR_MS))
    assert sum(at.counted().values()) == 1, "nobody follows it"


def test_a_symbol_that_is_listed_later_counts_from_then_on() -> None:
    at = Meter()
    at.clock.ms = NOW_MS + HOUR_MS
    at.lag.follow(["BTCUSDT", "ETHUSDT"])
    eth = Series(KLINES, "ETHUSDT", M1)
    at.tail.amend(eth, M1.grid, minutes(*range(CLOSED_MS, CLOSED_MS + HOUR_MS, MINUTE_MS)))
    assert at.counted() == {}
    at.clock.ms = CLOSED_MS + HOUR_MS + MINUTE_MS + 900
    at.tail.append(eth, M1.grid, minute("ETHUSDT", CLOSED_MS + HOUR_MS))
    assert at.counted() == {1.0: 1}
    at.lag.follow(["BTCUSDT"])
    at.tail.append(eth, M1.grid, minute("ETHUSDT", CLOSED_MS + HOUR_MS + MINUTE_MS))
    assert at.counted() == {1.0: 1}


def test_intervals_are_told_apart() -> None:
    at = Meter()
    open_ms = HOURS.interval.grid.floor(NOW_MS)
    at.clock.ms = open_ms + HOUR_MS + 50
    at.tail.append(HOURS, HOURS.interval.grid, truth("BTCUSDT", HOURS.interval, open_ms))
    assert (at.counted("1h"), at.counted("1m")) == ({0.1: 1}, {})


@pytest.mark.parametrize("seed", range(20))
def test_each_kline_counts_once_in_whatever_order_and_pieces_it_comes(seed: int) -> None:
    at, rng = Meter(), random.Random(seed)
    at.clock.ms = NOW_MS + 300 * MINUTE_MS
    opens = list(range(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS + 200 * MINUTE_MS, MINUTE_MS))
    pieces = [opens[start : start + rng.randrange(1, 20)] for start in range(0, len(opens), 7)]
    rng.shuffle(pieces)
    for piece in pieces:
        chosen = [each for each in piece if rng.random() < 0.8]
        at.tail.amend(BTC, M1.grid, minutes(*chosen))
    at.tail.amend(BTC, M1.grid, minutes(*opens))
    assert sum(at.counted().values()) == 200, f"seed {seed}"


def test_the_holes_that_are_remembered_are_bounded() -> None:
    at = Meter()
    at.clock.ms = NOW_MS + 10 * HOUR_MS
    last_ms = CLOSED_MS + 2 * (HOLES_MAX + 50) * MINUTE_MS
    lost = list(range(CLOSED_MS, last_ms, 2 * MINUTE_MS))
    for open_ms in lost:
        at.tail.append(BTC, M1.grid, minute("BTCUSDT", open_ms + MINUTE_MS))
    before = sum(at.counted().values())
    at.tail.amend(BTC, M1.grid, minutes(*lost))
    assert sum(at.counted().values()) - before == HOLES_MAX


async def test_every_commit_reaches_the_histogram(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        lag = CloseLag(made.clock)
        made.tail._arrived = lag.arrived
        lag.follow(["BTCUSDT"])
        made.clock.ms = NOW_MS + 5 * MINUTE_MS
        opens = list(range(CLOSED_MS, CLOSED_MS + 5 * MINUTE_MS, MINUTE_MS))
        batch = Batch(BTC, Source.REST, Spans([Span(opens[0], opens[-1] + MINUTE_MS)]), minutes(*opens))
        await made.committer.commit([batch])
        await made.committer.commit([batch])
        counted = Counter({labels["interval"]: sum(counts) for labels, counts, _ in lag.histograms()})
        assert counted == {"1m": 5}
