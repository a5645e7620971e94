"""The sandbox is an oracle: a candle never changes, sums are exact, and all intervals agree."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.sandbox.candles import QUANTUM_MS, Candle
from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS, utc_ms
from infra.sandbox.market import Market
from infra.sandbox.universe import Instrument, Universe

NOW_MS = utc_ms(2026, 11, 21, 4, 29)
SYMBOLS = ("BTCUSDT", "ADAUSDT", "XRPUSDT", "BTTCUSDT", "币安人生USDT", "NEW1119USDT", "NEW1120USDT", "OMGUSDT")
SMALL = tuple(interval for interval in INTERVALS if interval not in {"1w", "1M"})


class FrozenClock:
    def now_ms(self) -> int:
        return NOW_MS

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError(f"nothing waits {delay_s} s here")


EXCHANGE = Exchange(FrozenClock(), Universe(1, 10))


def instrument(symbol: str, universe: Universe = EXCHANGE.universe) -> Instrument:
    item = universe.find(symbol, NOW_MS)
    assert item is not None
    return item


def minutes(symbol: str, days: int = 2) -> list[Candle]:
    midnight = NOW_MS // DAY_MS * DAY_MS
    return list(EXCHANGE.market.minutes(instrument(symbol), midnight - days * DAY_MS, midnight))


def brute_force(rows: list[list[int | str]], open_ms: int, close_ms: int) -> list[int | str]:
    """The rule of binance-facts section 7 applied to the text of 1m rows, in decimals, without code of the sandbox."""
    traded = [row for row in rows if row[8]]
    if not traded:
        last = rows[-1][4]
        return [open_ms, last, last, last, last, "0", close_ms, "0", 0, "0", "0", "0"]

    def total(place: int) -> str:
        amount = sum(Decimal(row[place]) for row in traded)
        return f"{amount:f}" if amount else "0"

    high = max(traded, key=lambda row: Decimal(row[2]))[2]
    low = min(traded, key=lambda row: Decimal(row[3]))[3]
    trades = sum(int(row[8]) for row in traded)
    edges = [traded[0][1], high, low, traded[-1][4]]
    return [open_ms, *edges, total(5), close_ms, total(7), trades, total(9), total(10), "0"]


@settings(max_examples=120, derandomize=True)
@given(st.sampled_from(SYMBOLS), st.sampled_from(SMALL), st.integers(0, 6 * DAY_MS))
def test_every_interval_is_the_roll_up_of_its_minutes(symbol: str, interval: str, ago_ms: int) -> None:
    item = instrument(symbol)
    grid = item.grid(interval)
    start_ms = max(grid.floor(NOW_MS - ago_ms - 3 * DAY_MS), grid.floor(item.onboard_ms))
    end_ms = grid.next(start_ms)
    whole = EXCHANGE.rows(symbol, interval, start_ms, end_ms)
    if end_ms > NOW_MS:
        assert whole == []
        return
    assert whole == [brute_force(EXCHANGE.rows(symbol, "1m", start_ms, end_ms), start_ms, end_ms - 1)]


@pytest.mark.parametrize("interval", ["1w", "1M"])
def test_weeks_and_months_are_the_roll_up_of_their_minutes(interval: str) -> None:
    grid = instrument("XRPUSDT").grid(interval)
    start_ms = grid.floor(utc_ms(2026, 10, 14))
    end_ms = grid.next(start_ms)
    parts = EXCHANGE.rows("XRPUSDT", "1m", start_ms, end_ms)
    assert EXCHANGE.rows("XRPUSDT", interval, start_ms, end_ms) == [brute_force(parts, start_ms, end_ms - 1)]


def test_a_seed_gives_the_same_candles_for_ever_and_another_seed_others() -> None:
    again, other = Universe(1, 10), Universe(2, 10)
    hour_ms = utc_ms(2026, 3, 1, 7)
    mine = list(EXCHANGE.market.minutes(instrument("ADAUSDT"), hour_ms, hour_ms + HOUR_MS))
    assert mine == list(Market().minutes(instrument("ADAUSDT", again), hour_ms, hour_ms + HOUR_MS))
    assert mine != list(Market().minutes(instrument("ADAUSDT", other), hour_ms, hour_ms + HOUR_MS))
    # pinned: a change of the generator would change every user's demo data
    assert mine[0] == (hour_ms, 71390, 71410, 71380, 71410, 20036, 1430450440, 106, 13920, 993804480)


def test_the_number_of_symbols_does_not_change_a_candle() -> None:
    hour_ms = utc_ms(2026, 3, 1, 7)
    few = list(Market().minutes(instrument("SOLUSDT", Universe(1, 3)), hour_ms, hour_ms + HOUR_MS))
    many = list(Market().minutes(instrument("SOLUSDT", Universe(1, 80)), hour_ms, hour_ms + HOUR_MS))
    assert few == many


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_candle_never_contradicts_itself(symbol: str) -> None:
    before: Candle | None = None
    for candle in minutes(symbol):
        assert 0 < candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
        assert candle.low * candle.volume <= candle.quote <= candle.high * candle.volume
        assert candle.low * candle.taker_volume <= candle.taker_quote <= candle.high * candle.taker_volume
        assert candle.taker_volume <= candle.volume
        assert candle.trades <= candle.volume
        assert (candle.trades == 0) == (candle.volume == 0)
        if candle.trades == 0 and before is not None:
            assert candle.open == candle.high == candle.low == candle.close == before.close
        if before is not None:
            assert candle.open_ms == before.open_ms + MINUTE_MS
        before = candle


def test_quiet_symbols_have_many_empty_minutes_and_busy_ones_none() -> None:
    for symbol, least, most in (
        ("BTCUSDT", 0, 0),
        ("ADAUSDT", 5, 120),
        ("XRPUSDT", 500, 1_750),
        ("BTTCUSDT", 1_200, 2_100),
    ):
        empty = sum(candle.trades == 0 for candle in minutes(symbol))
        assert least <= empty <= most, (symbol, empty)


def test_empty_minutes_run_over_whole_buckets_and_stand_at_their_beginning() -> None:
    midnight = NOW_MS // DAY_MS * DAY_MS
    hours = EXCHANGE.rows("XRPUSDT", "1h", midnight - 4 * DAY_MS, midnight)
    assert any(row[8] == 0 for row in hours)
    candles = minutes("XRPUSDT")
    fives = [candles[place : place + 5] for place in range(0, len(candles), 5)]
    assert any(five[0].trades == 0 and any(part.trades for part in five) for five in fives)


def test_opens_jump_and_takers_rest_as_on_the_exchange() -> None:
    candles = minutes("ADAUSDT", days=4)
    jumps = sum(mine.open != before.close for before, mine in pairwise(candles))
    assert 0.35 < jumps / len(candles) < 0.65
    without_takers = [candle for candle in minutes("XRPUSDT") if candle.trades and not candle.taker_volume]
    assert len(without_takers) > 20


@pytest.mark.parametrize("symbol", ["BTCUSDT", "XRPUSDT", "BTTCUSDT"])
@pytest.mark.parametrize("interval", ["1m", "15m", "1d"])
def test_a_candle_in_progress_only_grows_and_ends_as_the_closed_one(symbol: str, interval: str) -> None:
    item, market = instrument(symbol), EXCHANGE.market
    grid = item.grid(interval)
    open_ms = grid.floor(NOW_MS - 9 * HOUR_MS)
    end_ms = grid.next(open_ms)
    last: Candle | None = None
    for now_ms in range(max(open_ms, end_ms - 20 * MINUTE_MS), end_ms, QUANTUM_MS):
        state = market.candle_now(item, interval, open_ms, now_ms)
        assert state == market.candle_now(item, interval, open_ms, now_ms + QUANTUM_MS - 1)
        if last is not None and last.trades:
            assert state.open == last.open
            assert state.high >= last.high
            assert state.low <= last.low
            assert state[5:] >= last[5:]
            assert all(mine >= before for mine, before in zip(state[5:], last[5:], strict=True))
        assert state.low * state.volume <= state.quote <= state.high * state.volume
        last = state
    final = market.candle(item, interval, open_ms)
    assert last is not None
    assert final.volume - last.volume <= final.volume // 50 + final.volume // max(1, final.trades) + 1
    assert (final.high, final.low) == (max(final.high, last.high), min(final.low, last.low))


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_first_candle_is_the_aligned_bucket_that_holds_the_listing(interval: str) -> None:
    item = instrument("NEW1120USDT")
    grid = item.grid(interval)
    rows = EXCHANGE.window(item, interval, 0, None, 5, NOW_MS)
    assert rows[0][0] == grid.floor(item.onboard_ms)
    assert int(rows[0][0]) <= item.onboard_ms < grid.next(int(rows[0][0]))
    assert int(EXCHANGE.window(item, "1m", 0, None, 1, NOW_MS)[0][8]) > 0


def test_three_day_candles_count_from_the_listing_day_but_for_bitcoin() -> None:
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "NEW1119USDT"):
        item = instrument(symbol)
        anchor = 1 if symbol == "BTCUSDT" else item.onboard_ms // DAY_MS % 3
        rows = EXCHANGE.window(item, "3d", None, None, 3, NOW_MS)
        assert {int(row[0]) // DAY_MS % 3 for row in rows} == {anchor}


def test_a_settled_symbol_stays_flat_at_its_last_price() -> None:
    item = instrument("OMGUSDT")
    before, *after = EXCHANGE.window(item, "1m", item.delivery_ms - MINUTE_MS, None, 300, NOW_MS)
    assert all(row[1:6] == [before[4]] * 4 + ["0"] for row in after)
    assert EXCHANGE.window(item, "1d", None, None, 1, NOW_MS)[0][4] == before[4]


def test_a_delisting_announced_now_leaves_every_past_candle_as_it_was() -> None:
    universe = Universe(1, 10)
    before = instrument("XRPUSDT", universe)
    after = universe.delist_symbol("XRPUSDT", NOW_MS, NOW_MS + 90_000)
    start_ms = NOW_MS - 2 * HOUR_MS
    old, new = (list(Market().minutes(item, start_ms, NOW_MS + HOUR_MS)) for item in (before, after))
    cut = (after.delivery_ms - start_ms) // MINUTE_MS
    assert old[:cut] == new[:cut]
    assert {candle.trades for candle in new[cut:]} == {0}
    assert {candle.close for candle in new[cut:]} == {new[cut - 1].close}
