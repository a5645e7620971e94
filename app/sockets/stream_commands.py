"""The grammar of socket clients' URLs and control messages, with Binance's error texts and codes for what it refuses.

The codes are in binance-facts section 5.3.
"""

import json
from typing import Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote

import msgspec

METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
ROUTES: Final = frozenset({"market", "public", "private"})
_EXPECTED: Final = ", ".join(f"`{method}`" for method in METHODS)
_QUERY_FIELDS_MAX: Final = 16  # `streams`, `listenKey`, `events`; everything else is ignored

RequestId = int | str | None


class Address(NamedTuple):
    """A parsed URL: whether events are wrapped as `{"stream":…,"data":…}`, and the streams to subscribe to at once."""

    is_combined: bool
    streams: tuple[str, ...]


class Command(NamedTuple):
    """A valid control message; `streams` belongs to SUBSCRIBE and UNSUBSCRIBE, `value` to SET_PROPERTY."""

    method: str
    id: RequestId
    streams: tuple[str, ...] = ()
    value: bool = False


class CommandError(Exception):
    """A control message that is refused; `id` is the message's id, None if it could not be read."""

    def __init__(self, code: int, msg: str, request_id: RequestId = None) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.id = request_id

    def answer(self) -> bytes:
        """The error message for the client, as JSON."""
        body: dict[str, object] = {"error": {"code": self.code, "msg": self.msg}}
        if self.id is not None:
            body["id"] = self.id
        return msgspec.json.encode(body)


def parse_target(target: str) -> Address | None:
    """The address in a request's target (path and query as sent); None if the path is not a socket's.

    The route (/market, /public or /private) may be missing or wrong. Binance would acknowledge the subscription and
    stay silent (binance-facts section 5.1); the node delivers.
    """
    path, _, query = target.partition("?")
    first, *names = [unquote(part) for part in path.strip("/").split("/")]
    if first in ROUTES and names:
        first, *names = names
    if first == "stream":
        try:
            fields = dict(parse_qsl(query, max_num_fields=_QUERY_FIELDS_MAX))
        except ValueError:
            return None
        names = fields.get("streams", "").split("/")
    elif first != "ws":
        return None
    return Address(first == "stream", tuple(name for name in names if name))


def accepted(request_id: RequestId, result: object = None) -> bytes:
    """The answer to a command that succeeded, as JSON."""
    return msgspec.json.encode({"result": result, "id": request_id})


def parse_command(text: str) -> Command:
    """Parse a control message. Raises CommandError with the message's id."""
    message = _object(text)
    request_id = _id(message.get("id"))

    def refuse(msg: str) -> NoReturn:
        raise CommandError(2, f"Invalid request: {msg}", request_id)

    if "method" not in message:
        refuse(f"missing field `method` at line 1 column {len(text)}")
    method = message["method"]
    if method not in METHODS:
        shown = json.dumps(method, ensure_ascii=False)
        column = text.find(shown) + len(shown)
        refuse(f"unknown variant `{method}`, expected one of {_EXPECTED} at line 1 column {column}")
    params = message.get("params")
    params = [] if params is None else params
    if not isinstance(params, list):
        refuse("params must be a list")
    if method in {"SUBSCRIBE", "UNSUBSCRIBE"}:
        if not all(isinstance(name, str) for name in params):
            refuse("stream name must be a string")
        return Command(method, request_id, tuple(params))
    if method == "LIST_SUBSCRIPTIONS":
        return Command(method, request_id)
    if len(params) > (2 if method == "SET_PROPERTY" else 1):
        refuse("too many parameters")
    if not params or not isinstance(params[0], str):
        refuse("property name must be a string")
    if params[0] != "combined":
        raise CommandError(0, "Unknown property", request_id)
    if method == "GET_PROPERTY":
        return Command(method, request_id)
    if len(params) < 2 or not isinstance(params[1], bool):
        raise CommandError(1, "Invalid value type: expected Boolean", request_id)
    return Command(method, request_id, value=params[1])


def _object(text: str) -> dict[str, object]:
    line, column = 1, 1
    try:
        message = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(message, ensure_ascii=False).encode()  # refuse lone surrogates: no answer could contain them
    except json.JSONDecodeError as error:
        line, column = error.lineno, error.colno
    except (ValueError, RecursionError):
        pass  # NaN, a number of thousands of digits, thousands of brackets: there is no position to report
    else:
        if isinstance(message, dict):
            return message
    raise CommandError(3, f"Invalid JSON: expected value at line {line} column {column}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _id(value: object) -> RequestId:
    """The id as sent: an unsigned integer as documented, or a string, as some clients send. Raises CommandError."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    raise CommandError(2, "Invalid request: request ID must be an unsigned integer")
