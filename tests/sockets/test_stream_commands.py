"""What clients may send to the sockets, and Binance's answers to what they may not."""

import json

import pytest

from app.sockets.stream_commands import Address, CommandError, accepted, parse_command, parse_target

EXPECTED = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("/ws", Address(False, ())),
        ("/ws/", Address(False, ())),
        ("/ws/btcusdt@kline_1m", Address(False, ("btcusdt@kline_1m",))),
        ("/ws/btcusdt@kline_1m/ethusdt@depth5@100ms", Address(False, ("btcusdt@kline_1m", "ethusdt@depth5@100ms"))),
        ("/ws/0", Address(False, ("0",))),
        ("/market/ws/0", Address(False, ("0",))),
        ("/public/ws", Address(False, ())),
        ("/private/ws/listenkey?listenKey=x&events=ORDER_TRADE_UPDATE", Address(False, ("listenkey",))),
        ("/stream", Address(True, ())),
        ("/stream?streams=", Address(True, ())),
        ("/private/stream?streams=", Address(True, ())),
        ("/market/stream?streams=a@trade/!ticker@arr", Address(True, ("a@trade", "!ticker@arr"))),
        ("/stream?streams=btcusdt%40kline_1m%2Fethusdt%40trade", Address(True, ("btcusdt@kline_1m", "ethusdt@trade"))),
        ("/ws/btcusdt%40trade", Address(False, ("btcusdt@trade",))),
        ("/ws/%E5%B8%81usdt@trade", Address(False, ("币usdt@trade",))),
    ],
)
def test_urls_of_sockets(target: str, address: Address) -> None:
    assert parse_target(target) == address


@pytest.mark.parametrize(
    "target",
    ["/", "", "/fapi/v1/klines", "/market", "/wss", "/other/ws", "/market/public/ws", "/stream?" + "a=1&" * 99],
)
def test_other_urls_are_none(target: str) -> None:
    assert parse_target(target) is None


@pytest.mark.parametrize("given", [1, 0, 2**64 - 1, "abc", "", None])
def test_ids_come_back_as_they_came(given: object) -> None:
    command = parse_command(json.dumps({"method": "SUBSCRIBE", "params": ["a@trade"], "id": given}))
    assert json.loads(accepted(command.id)) == {"result": None, "id": given}
    assert accepted(command.id).startswith(b'{"result":null,"id":')


@pytest.mark.parametrize(
    ("text", "code", "msg"),
    [
        ("", 3, "Invalid JSON: expected value at line 1 column 1"),
        ("{", 3, "Invalid JSON: expected value at line 1 column 2"),
        ('{"method":\nx}', 3, "Invalid JSON: expected value at line 2 column 1"),
        ("[1]", 3, "Invalid JSON: expected value at line 1 column 1"),
        ('{"id":NaN}', 3, "Invalid JSON: expected value at line 1 column 1"),
        ("[" * 100_000, 3, "Invalid JSON: expected value at line 1 column 1"),
        ('{"id":' + "9" * 5_000 + "}", 3, "Invalid JSON: expected value at line 1 column 1"),
        (
            '{"params":["btcusdt@aggTrade"],"id":1,"comment":"thirty-three more chars"}',
            2,
            "Invalid request: missing field `method` at line 1 column 74",
        ),
        (
            '{"method":"FOO","id":1}',
            2,
            f"Invalid request: unknown variant `FOO`, expected one of {EXPECTED} at line 1 column 15",
        ),
        ('{"method":"SUBSCRIBE","id":-1}', 2, "Invalid request: request ID must be an unsigned integer"),
        ('{"method":"SUBSCRIBE","id":1.5}', 2, "Invalid request: request ID must be an unsigned integer"),
        ('{"method":"SUBSCRIBE","id":true}', 2, "Invalid request: request ID must be an unsigned integer"),
        (
            '{"method":"SUBSCRIBE","id":18446744073709551616}',
            2,
            "Invalid request: request ID must be an unsigned integer",
        ),
        ('{"method":"SUBSCRIBE","params":{},"id":1}', 2, "Invalid request: params must be a list"),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "Invalid request: stream name must be a string"),
        ('{"method":"GET_PROPERTY","params":[1],"id":1}', 2, "Invalid request: property name must be a string"),
        ('{"method":"GET_PROPERTY","id":1}', 2, "Invalid request: property name must be a string"),
        ('{"method":"GET_PROPERTY","params":["combined",1],"id":1}', 2, "Invalid request: too many parameters"),
        ('{"method":"SET_PROPERTY","params":["combined",true,1],"id":1}', 2, "Invalid request: too many parameters"),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "Invalid value type: expected Boolean"),
        ('{"method":"SET_PROPERTY","params":["combined"],"id":1}', 1, "Invalid value type: expected Boolean"),
        ('{"method":"SET_PROPERTY","params":["other",true],"id":1}', 0, "Unknown property"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusals_in_binances_words(text: str, code: int, msg: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_command(text)
    assert (refused.value.code, refused.value.msg) == (code, msg)
    answer = json.loads(refused.value.answer())
    assert answer["error"] == {"code": code, "msg": msg}
    assert answer.get("id") == (1 if '"id":1}' in text or '"id":1,' in text else None)
