import pytest

from app.domain.interval import DAY_MS, MINUTE_MS
from app.domain.kline import Precision
from app.domain.symbol import Symbol

FOREVER = 4_133_404_800_000
NOW = 1_700_000_000_000


def symbol(**changes: object) -> Symbol:
    fields = {
        "name": "BTCUSDT", "contract_type": "PERPETUAL", "quote_asset": "USDT", "status": "TRADING",
        "onboard_ms": 0, "delivery_ms": FOREVER, "precision": Precision(2, 3),
    }  # fmt: skip
    return Symbol(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "wished"),
    [
        ({}, True),
        ({"delivery_ms": FOREVER + 2_000}, True),  # the testnet's "never"
        ({"status": "SETTLING"}, False),
        ({"status": "PENDING_TRADING"}, False),
        ({"contract_type": "CURRENT_QUARTER"}, False),
        ({"contract_type": "TRADIFI_PERPETUAL"}, True),
        ({"contract_type": ""}, False),
        ({"quote_asset": "USDC"}, False),
        ({"delivery_ms": NOW + 2 * DAY_MS}, True),  # announced, but not soon
        ({"delivery_ms": NOW + MINUTE_MS}, True),  # it trades until its delivery
        ({"delivery_ms": NOW + MINUTE_MS, "status": "PRE_SETTLE"}, True),
        ({"delivery_ms": NOW - MINUTE_MS // 2, "status": "SETTLING"}, True),  # the minute of delivery has trades too
        ({"delivery_ms": NOW - 3 * MINUTE_MS, "status": "SETTLING"}, False),
        ({"delivery_ms": NOW - 3 * MINUTE_MS}, False),
        ({"delivery_ms": NOW + DAY_MS, "status": "PENDING_TRADING"}, False),
    ],
)
def test_which_symbols_are_followed(changes: dict[str, object], *, wished: bool) -> None:
    assert symbol(**changes).is_wished(["USDT"], ["PERPETUAL", "TRADIFI_PERPETUAL"], NOW) is wished


def test_a_delivered_symbol_is_completed_for_a_month() -> None:
    ended = symbol(delivery_ms=NOW - DAY_MS, status="SETTLING")
    assert ended.ends_ms == NOW // MINUTE_MS * MINUTE_MS - DAY_MS + MINUTE_MS
    assert ended.is_settled(NOW)
    assert not ended.is_settled(NOW + 32 * DAY_MS)
    assert not symbol(delivery_ms=NOW + DAY_MS).is_settled(NOW)
    assert not symbol().is_settled(NOW)
