import pytest

from app.domain.interval import DAY_MS
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
        ({"delivery_ms": FOREVER + 2_000}, True),  # testnet's idea of for ever
        ({"status": "SETTLING"}, False),
        ({"status": "PENDING_TRADING"}, False),
        ({"contract_type": "CURRENT_QUARTER"}, False),
        ({"contract_type": "TRADIFI_PERPETUAL"}, False),
        ({"contract_type": ""}, False),
        ({"quote_asset": "USDC"}, False),
        ({"delivery_ms": NOW + 2 * DAY_MS}, True),  # announced, not yet near
        ({"delivery_ms": NOW + DAY_MS}, False),  # dropped a day ahead
        ({"delivery_ms": NOW - 1}, False),
    ],
)
def test_which_symbols_are_followed(changes: dict[str, object], *, wished: bool) -> None:
    assert symbol(**changes).is_wished(["USDT"], NOW) is wished
