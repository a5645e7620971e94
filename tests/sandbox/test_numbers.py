"""The numbers of trades and aggregates: consecutive for ever, and found again."""

from itertools import pairwise

import pytest

from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from infra.sandbox.market import Market
from infra.sandbox.numbers import ANCHOR_HOUR, anchor_hour
from infra.sandbox.tape import Tape
from infra.sandbox.universe import Instrument, Universe

NOW_MS = utc_ms(2026, 11, 21, 4, 29)
ANCHOR_MS = ANCHOR_HOUR * HOUR_MS


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape(Market())


def instrument(symbol: str, now_ms: int = NOW_MS) -> Instrument:
    item = Universe(1, 10).find(symbol, now_ms)
    assert item is not None
    return item


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ADAUSDT", "XRPUSDT", "BTTCUSDT"])
@pytest.mark.parametrize("hour_ms", [NOW_MS // HOUR_MS * HOUR_MS, ANCHOR_MS, ANCHOR_MS - 3 * HOUR_MS])
def test_numbers_go_on_from_one_minute_and_hour_to_the_next(tape: Tape, symbol: str, hour_ms: int) -> None:
    item = instrument(symbol)
    opens = range(hour_ms - 3 * MINUTE_MS, hour_ms + 3 * MINUTE_MS, MINUTE_MS)
    trades = [trade for open_ms in opens for trade in tape.minute(item, open_ms)]
    aggregates = [each for open_ms in opens for each in tape.aggregates(item, open_ms, NOW_MS + DAY_MS)]
    assert all(after.number == before.number + 1 for before, after in pairwise(trades))
    assert all(after.number == before.number + 1 for before, after in pairwise(aggregates))
    assert [(each.first, each.last) for each in aggregates][:1] == [(trades[0].number, aggregates[0].last)]
    assert all(after.first == before.last + 1 for before, after in pairwise(aggregates))


def test_numbers_begin_near_the_present_of_the_sandbox_and_stay_what_they_are_in_november() -> None:
    assert anchor_hour(NOW_MS) == ANCHOR_HOUR == anchor_hour(utc_ms(2024, 1))
    later_ms = utc_ms(2028, 2, 29, 23, 59)
    assert anchor_hour(later_ms) == utc_ms(2028, 2) // HOUR_MS
    old, new = Tape(Market()), Tape(Market(anchor_hour(later_ms)))
    item = instrument("ADAUSDT")
    hour_ms = utc_ms(2028, 2) - HOUR_MS
    trades = [trade for part in new.forwards(item, hour_ms, hour_ms + 2 * HOUR_MS) for trade in part]
    assert all(after.number == before.number + 1 for before, after in pairwise(trades))
    assert trades[0].number > old.minute(item, hour_ms)[0].number


def test_the_first_trade_of_a_symbol_has_a_number_above_zero(tape: Tape) -> None:
    item = instrument("币安人生USDT")
    first = tape.minute(item, item.onboard_ms)[0]
    assert first.number > 0
    assert next(tape.numbered(item, first.number - 5, first.number, NOW_MS)) == first


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTTCUSDT"])
@pytest.mark.parametrize("start_ms", [NOW_MS - HOUR_MS, ANCHOR_MS - 2 * MINUTE_MS])
def test_trades_are_found_by_their_numbers(tape: Tape, symbol: str, start_ms: int) -> None:
    item, start_ms = instrument(symbol), start_ms // MINUTE_MS * MINUTE_MS
    expected = [trade for part in tape.forwards(item, start_ms, start_ms + 40 * MINUTE_MS) for trade in part][:9_000]
    first, last = expected[1].number, expected[-2].number
    assert list(tape.numbered(item, first, last, NOW_MS)) == expected[1:-1]


def test_no_trade_is_found_before_it_is_published(tape: Tape) -> None:
    item, now_ms = instrument("BTCUSDT"), NOW_MS + 30_100
    newest = tape.newest_number(item, now_ms)
    assert newest == tape.seen(item, NOW_MS, now_ms)[-1].number
    assert [trade.number for trade in tape.numbered(item, newest - 1, newest + 9, now_ms)] == [newest - 1, newest]
