import pytest

from app.binance import error_body, exchange_info, server_time
from app.binance.error_body import BinanceError
from app.domain.kline import Precision


def test_symbols_are_reduced_to_what_the_node_acts_on() -> None:
    (symbol,) = exchange_info.decode(
        '{"serverTime":1,"symbols":[{"symbol":"币安人生USDT","contractType":"PERPETUAL","status":"TRADING",'
        '"quoteAsset":"USDT","onboardDate":5,"deliveryDate":4133404800000,"pricePrecision":7,"quantityPrecision":0,'
        '"filters":[]}]}'.encode()
    )
    assert symbol.name == "币安人生USDT"
    assert symbol.precision == Precision(7, 0)
    assert (symbol.onboard_ms, symbol.delivery_ms) == (5, 4133404800000)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"[]",
        b"{}",
        b'{"symbols":[{}]}',
        b'{"symbols":[{"symbol":1}]}',
        b"<html>",
        b'{"symbols":[],"x":' + b"[" * 200_000,
    ],
)
def test_garbage_is_no_exchange_info(garbage: bytes) -> None:
    with pytest.raises(exchange_info.BadExchangeInfo):
        exchange_info.decode(garbage)


@pytest.mark.parametrize(
    "field",
    [
        '"pricePrecision":1000000000',
        '"quantityPrecision":17',
        '"pricePrecision":-1',
        '"onboardDate":-1',
        '"onboardDate":' + "9" * 30,
        '"deliveryDate":253402300800000000',
        '"symbol":""',
        '"symbol":"../../etc/passwd"',
        '"symbol":"A B"',
        '"symbol":"A/B"',
        '"symbol":"A\\n"',
        '"symbol":"A?x=1"',
        '"symbol":"' + "A" * 65 + '"',
    ],
)
def test_what_no_path_calendar_or_memory_stands_is_no_exchange_info(field: str) -> None:
    with pytest.raises(exchange_info.BadExchangeInfo):
        exchange_info.decode(f'{{"symbols":[{{"symbol":"BTCUSDT",{field}}}]}}'.encode())


@pytest.mark.parametrize("unread", [b'"\xff"', b'"\x01"', b"[1,]"])
def test_a_body_that_clients_could_not_read_is_refused_whole(unread: bytes) -> None:
    with pytest.raises(exchange_info.BadExchangeInfo):
        exchange_info.decode(b'{"timezone":' + unread + b',"symbols":[{"symbol":"BTCUSDT"}]}')


@pytest.mark.parametrize("time", ["0", "-1", "1499999999999", "10000000000000", "9" * 40, "1793491200000.5", '"soon"'])
def test_a_time_that_the_exchange_cannot_mean_is_none(time: str) -> None:
    with pytest.raises(server_time.BadServerTime):
        server_time.decode(f'{{"serverTime":{time}}}'.encode())
    assert server_time.decode(b'{"serverTime":1793491200000}') == 1_793_491_200_000


def test_errors_in_both_key_orders_and_bans() -> None:
    for body in (b'{"code":-1121,"msg":"Invalid symbol."}', b'{"msg":"Invalid symbol.","code":-1121}'):
        error = error_body.decode(400, body)
        assert error is not None
        assert (error.status, error.code, error.msg) == (400, -1121, "Invalid symbol.")
    assert error_body.decode(502, b"<html>bad gateway</html>") is None
    assert error_body.decode(400, b'{"code":1,"msg":"","x":' + b"[" * 200_000) is None
    assert error_body.decode(400, b'{"code":1,"msg":"\xff"}') is None
    assert error_body.decode(400, b'{"code":%d,"msg":""}' % 10**30) is None
    assert error_body.banned_until_ms("banned until ١٢٣٤٥٦٧٨٩٠١٢٣") is None
    text = "Way too many requests; IP(1.2.3.4) banned until 1787071659262. Please use the websocket."
    assert error_body.banned_until_ms(text) == 1787071659262
    assert error_body.banned_until_ms("Too many requests") is None


def test_our_errors_have_binances_codes_and_texts() -> None:
    made: list[BinanceError] = [
        error_body.invalid_symbol(),
        error_body.invalid_interval(),
        error_body.invalid_parameter("limit"),
        error_body.missing_parameter("symbol"),
        error_body.start_after_end(),
    ]
    assert [(error.status, error.body()) for error in made] == [
        (400, b'{"code":-1121,"msg":"Invalid symbol."}'),
        (400, b'{"code":-1120,"msg":"Invalid interval."}'),
        (400, b'{"code":-1130,"msg":"Data sent for parameter \'limit\' is not valid."}'),
        (400, b'{"code":-1102,"msg":"Mandatory parameter \'symbol\' was not sent, was empty/null, or malformed."}'),
        (400, b'{"code":-1023,"msg":"Start time is greater than end time."}'),
    ]
