"""The list of a past time: what is not about listing stays byte for byte what the exchange said last."""

import pytest

from app.binance import exchange_info
from app.binance.exchange_info import BadExchangeInfo
from app.binance.listed_then import ListedThen

BODY = (
    b'{"timezone":"UTC","serverTime":9,"rates":[1.50,{"a":"0.0100"}],"symbols":['
    b'{"symbol":"AUSDT","onboardDate":60000,"deliveryDate":4133404800000,"status":"TRADING","x":"1.0"},'
    b'{"symbol":"BUSDT","onboardDate":120000,"deliveryDate":600000,"contractStatus":"SETTLING","y":1.0}]}'
)


def test_a_time_has_the_symbols_listed_then_as_trading() -> None:
    then = ListedThen(BODY, exchange_info.decode(BODY))
    head = b'{"timezone":"UTC","serverTime":%d,"rates":[1.50,{"a":"0.0100"}],"symbols":[%b]}'
    first = b'{"symbol":"AUSDT","onboardDate":60000,"deliveryDate":4133404800000,"status":"TRADING","x":"1.0"}'
    second = b'{"symbol":"BUSDT","onboardDate":120000,"deliveryDate":600000,"contractStatus":"TRADING","y":1.0}'
    assert then.body(59_999) == head % (0, b"")
    assert then.body(60_000) == head % (60_000, first)
    assert then.body(120_000) == then.body(659_999) == head % (120_000, first + b"," + second)
    assert then.body(660_000) == head % (660_000, first), "the minute of a delivery trades"
    assert then.body(60_001) == head % (60_000, first), "also after a jump back"


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(BadExchangeInfo):
        ListedThen(b"[]", [])
