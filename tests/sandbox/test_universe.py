"""Which symbols are listed when, and exchangeInfo's form of that."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.sandbox.exchange_info import describe, exchange_info
from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from infra.sandbox.universe import NEVER_MS, Universe

RECORDED = Path(__file__).parents[3] / "shared/realdata/exchangeInfo/fapi_prod_20260518_739sym.symbols_only.json"
NOW_MS = utc_ms(2026, 11, 21, 4, 29)


def test_the_default_market_has_the_spread_of_the_real_one() -> None:
    items = [
        item for item in Universe(1, 50).at(NOW_MS) if item.contract_type == "PERPETUAL" and item.quote_asset == "USDT"
    ]
    names = [item.symbol for item in items]
    assert names[:6] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "ADAUSDT", "XRPUSDT", "DOGEUSDT"]
    assert "币安人生USDT" in names
    assert len(names) >= 50
    assert {7, 6, 5, 4, 3, 2, 1} <= {item.price_precision for item in items}
    assert {0, 1, 2, 3} <= {item.quantity_precision for item in items}
    assert any(item.quiet for item in items)
    assert any(item.base_ticks * item.tick_units >= 90_000 * 10**item.price_precision for item in items)


@pytest.mark.parametrize("symbols", [1, 5, 60, 900])
def test_a_market_has_as_many_perpetuals_as_asked_for_under_different_names(symbols: int) -> None:
    items = Universe(3, symbols).at(NOW_MS)
    names = [item.symbol for item in items]
    assert len(set(names)) == len(names)
    settled = {"OMGUSDT", "BTCSTUSDT"}
    plain = [n for n in names if n.endswith("USDT") and n not in settled | {"XAUUSDT"} and not n.startswith("NEW")]
    assert len(plain) == symbols


def test_there_is_one_of_each_kind_that_a_client_must_leave_out() -> None:
    items = {item.symbol: item for item in Universe(1, 5).at(NOW_MS)}
    assert items["XAUUSDT"].contract_type == "TRADIFI_PERPETUAL"
    assert items["BTCUSDC"].quote_asset == "USDC"
    assert items["OMGUSDT"].status(NOW_MS) == "SETTLING"
    assert items["BTCSTUSDT"].status(NOW_MS) == "PENDING_TRADING"
    quarterly = items["BTCUSDT_261225"]
    assert (quarterly.contract_type, quarterly.pair) == ("CURRENT_QUARTER", "BTCUSDT")
    assert quarterly.delivery_ms == utc_ms(2026, 12, 25, 8)


@pytest.mark.parametrize("day", range(utc_ms(2024, 2, 26) // DAY_MS, utc_ms(2024, 3, 5) // DAY_MS))
def test_every_day_one_symbol_lists_one_is_being_delisted_and_one_disappears(day: int) -> None:
    universe = Universe(1, 5)
    symbol = universe.at(day * DAY_MS + HOUR_MS)[-6].symbol

    def seen(at_ms: int) -> tuple[str, int] | None:
        item = universe.find(symbol, at_ms)
        return (item.status(at_ms), item.delivery_date(at_ms)) if item else None

    delivery_ms = (day + 2) * DAY_MS + 9 * HOUR_MS
    assert seen(day * DAY_MS - 1) is None
    assert seen(day * DAY_MS + 29 * MINUTE_MS) == ("PENDING_TRADING", NEVER_MS)
    assert seen(day * DAY_MS + 30 * MINUTE_MS) == ("TRADING", NEVER_MS)
    assert seen((day + 2) * DAY_MS - 1) == ("TRADING", NEVER_MS)
    assert seen((day + 2) * DAY_MS) == ("TRADING", delivery_ms)
    assert seen(delivery_ms) == ("SETTLING", delivery_ms)
    assert seen((day + 6) * DAY_MS - 1) == ("SETTLING", delivery_ms)
    assert seen((day + 6) * DAY_MS) is None


def test_the_universe_is_a_function_of_seed_and_time() -> None:
    def facts(universe: Universe) -> list[Mapping[str, object]]:
        return [describe(item, NOW_MS) for item in universe.at(NOW_MS)]

    fresh = Universe(7, 70)
    used = Universe(7, 70)
    for day in range(400):
        used.at(NOW_MS - day * DAY_MS)
    assert facts(fresh) == facts(used)
    assert facts(fresh) != facts(Universe(8, 70))


def test_a_symbol_describes_itself_as_in_the_recorded_answer() -> None:
    if not RECORDED.exists():
        pytest.skip(f"no recording at {RECORDED}")
    recorded = next(each for each in json.loads(RECORDED.read_text())["symbols"] if each["symbol"] == "BTCUSDT")
    info = json.loads(json.dumps(exchange_info(Universe(1, 5).at(NOW_MS), NOW_MS, 2400)))
    mine = info["symbols"][0]
    assert list(mine) == list(recorded)
    assert {key: type(value) for key, value in mine.items()} == {key: type(value) for key, value in recorded.items()}
    filters = {each["filterType"]: each for each in recorded["filters"]}
    assert [each["filterType"] for each in mine["filters"]] == list(filters)
    for each in mine["filters"]:
        assert {key: type(value) for key, value in each.items()} == {
            key: type(value) for key, value in filters[each["filterType"]].items()
        }
    assert list(info) == ["timezone", "serverTime", "futuresType", "rateLimits", "exchangeFilters", "assets", "symbols"]
