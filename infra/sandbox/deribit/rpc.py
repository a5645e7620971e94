"""Deribit's JSON-RPC: requests, and the texts of results, errors and notifications."""

from typing import Final, NamedTuple

import orjson

from infra.sandbox.deribit.query import Params, RpcError

_MICROS: Final = 1_000
_ANSWER_US: Final = 120  # what an answer says it took


class Request(NamedTuple):
    """A request; `number` is its id, as sent."""

    method: str
    params: Params
    number: object


def parse(text: str | bytes) -> Request:
    """Parse a request. Raises RpcError."""
    try:
        message = orjson.loads(text)
    except ValueError:
        raise RpcError(-32700, "Parse error") from None
    if not isinstance(message, dict):
        raise RpcError(-32600, "Invalid Request")
    method, params, number = message.get("method"), message.get("params") or {}, message.get("id")
    if not isinstance(method, str):
        raise RpcError(-32600, "Invalid Request", number=number)
    if not isinstance(params, dict):
        raise RpcError(-32602, "Invalid params", number=number)
    return Request(method, params, number)


def result(number: object, value: object, now_ms: int) -> bytes:
    """The answer of a request that succeeded."""
    return orjson.dumps({**_head(number), "result": value, **_times(now_ms)})


def error(number: object, refused: RpcError, now_ms: int) -> bytes:
    """The answer of a request that was refused."""
    body: dict[str, object] = {"code": refused.code, "message": refused.message}
    if refused.data is not None:
        body["data"] = dict(refused.data)
    return orjson.dumps({**_head(refused.number if number is None else number), "error": body, **_times(now_ms)})


def notification(channel: str, data: str) -> str:
    """A frame of a channel; `data` is JSON."""
    return f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}'


def heartbeat(kind: str) -> str:
    """A heartbeat, or a test_request."""
    return f'{{"jsonrpc":"2.0","method":"heartbeat","params":{{"type":"{kind}"}}}}'


def _head(number: object) -> dict[str, object]:
    return {"jsonrpc": "2.0"} if number is None else {"jsonrpc": "2.0", "id": number}


def _times(now_ms: int) -> dict[str, object]:
    began_us = now_ms * _MICROS
    return {"usIn": began_us, "usOut": began_us + _ANSWER_US, "usDiff": _ANSWER_US, "testnet": False}
