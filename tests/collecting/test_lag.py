"""The lag of stored records: counted in buckets, with quantiles of the newest."""

from app.collecting.lag import NEWEST, LagCounter
from app.ports.collector import LAG_BOUNDS_S, Lag


def test_nothing_stored_has_no_lag() -> None:
    assert LagCounter().lag() == Lag()


def test_lags_are_counted_between_their_bounds() -> None:
    counter = LagCounter()
    for lag_ms in (0, 5, 6, 100, 101, 2_000_000):
        counter.stored(1_000_000, 1_000_000 + lag_ms)
    counter.stored(1_000_000, 999_000)
    found = counter.lag()
    assert len(found.counts) == len(LAG_BOUNDS_S) + 1
    assert found.counts[:6] == (3, 1, 0, 0, 1, 1), "5 ms is not above the bound of 5 ms; the future has no lag"
    assert (found.counts[-1], sum(found.counts)) == (1, 7)
    assert found.total_s == 2_000.212


def test_quantiles_are_those_of_the_newest() -> None:
    counter = LagCounter()
    for _ in range(50):
        counter.stored(0, 60_000)
    for lag_ms in range(1, NEWEST + 1):
        counter.stored(0, lag_ms)
    assert (counter.lag().p50_ms, counter.lag().p99_ms) == (NEWEST // 2, NEWEST * 99 // 100)
    single = LagCounter()
    single.stored(0, 7)
    assert (single.lag().p50_ms, single.lag().p99_ms) == (7, 7)
