"""The control messages of clients on sockets, and the errors for invalid ones (binance-facts section 5.3)."""

import json
from dataclasses import dataclass
from typing import Final

METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_EXPECTED = ", ".join(f"`{method}`" for method in METHODS)

RequestId = int | str | None


class CommandError(Exception):
    """A refused control message, with Binance's `code` (0–4) and `msg`, and the `request_id` if it could be read."""

    def __init__(self, code: int, msg: str, request_id: RequestId = None) -> None:
        super().__init__(msg)
        self.code, self.msg, self.request_id = code, msg, request_id


@dataclass(frozen=True, slots=True)
class Command:
    """A valid control message; `streams` of SUBSCRIBE and UNSUBSCRIBE, `value` of SET_PROPERTY."""

    method: str
    request_id: RequestId
    streams: tuple[str, ...] = ()
    value: bool = False


def parse_command(text: str) -> Command:
    """Parse a control message. Raises CommandError."""
    try:
        message = json.loads(text)
    except ValueError as error:
        line, column = (error.lineno, error.colno) if isinstance(error, json.JSONDecodeError) else (1, 1)
        raise CommandError(3, f"Invalid JSON: expected value at line {line} column {column}") from None
    if not isinstance(message, dict):
        raise CommandError(3, "Invalid JSON: expected value at line 1 column 1")
    request_id = _request_id(message.get("id"))
    if "method" not in message:
        raise _invalid(f"missing field `method` at line 1 column {len(text)}", request_id)
    method = message["method"]
    if method not in METHODS:
        column = text.find(json.dumps(method, ensure_ascii=False)) + len(json.dumps(method, ensure_ascii=False))
        raise _invalid(f"unknown variant `{method}`, expected one of {_EXPECTED} at line 1 column {column}", request_id)
    params = message.get("params", [])
    if not isinstance(params, list):
        raise _invalid("params must be a list", request_id)
    if method in {"SUBSCRIBE", "UNSUBSCRIBE"}:
        return Command(method, request_id, _streams(params, request_id))
    if method == "LIST_SUBSCRIPTIONS":
        return Command(method, request_id)
    return _property(method, params, request_id)


def _request_id(value: object) -> RequestId:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _invalid("request ID must be an unsigned integer", None)


def _streams(params: list[object], request_id: RequestId) -> tuple[str, ...]:
    if not all(isinstance(name, str) for name in params):
        raise _invalid("stream name must be a string", request_id)
    return tuple(str(name) for name in params)


def _property(method: str, params: list[object], request_id: RequestId) -> Command:
    expected = 2 if method == "SET_PROPERTY" else 1
    if len(params) > expected:
        raise _invalid("too many parameters", request_id)
    if not params or not isinstance(params[0], str):
        raise _invalid("property name must be a string", request_id)
    if params[0] != "combined":
        raise CommandError(0, "Unknown property", request_id)
    if expected == 1:
        return Command(method, request_id)
    if len(params) < expected or not isinstance(params[1], bool):
        raise CommandError(1, "Invalid value type: expected Boolean", request_id)
    return Command(method, request_id, value=params[1])


def _invalid(msg: str, request_id: RequestId) -> CommandError:
    return CommandError(2, f"Invalid request: {msg}", request_id)
