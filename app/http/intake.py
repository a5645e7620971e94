"""The ASGI layer before the routes: it refuses oversize requests and answers HEAD as GET without a body."""

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.errors import refusal
from app.http.headers import Header

QUERY_BYTES_MAX: Final = 4096  # the longest sensible klines query has 150 bytes
BATCH_PATH: Final = "/v1/klines/batch"
BATCH_QUERY_BYTES_MAX: Final = 24_576  # 1,000 symbols of 20 characters, each with "%2C" behind it
PATH_BYTES_MAX: Final = 4096  # the longest path of a route has 40 bytes
HEADER_BYTES_MAX: Final = 16_384  # as two of nginx's large buffers
_HEADER_SIGNS: Final = 4  # colon, space and line end; otherwise ten thousand empty headers would count as nothing


class Intake:
    """A pure ASGI layer between the metrics and the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; an oversize one is answered with 414 or 431."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
            send = without_body(send)
        app = self._app
        if len(_path_of(scope)) > PATH_BYTES_MAX:
            app = refusal(scope["path"], 414, f"The path is longer than {PATH_BYTES_MAX} bytes.")
        elif len(scope["query_string"]) > (query_bytes_max := _query_bytes_max(scope)):
            app = refusal(scope["path"], 414, f"The query string is longer than {query_bytes_max} bytes.")
        elif size_of(scope["headers"]) > HEADER_BYTES_MAX:
            app = refusal(scope["path"], 431, f"The request headers are larger than {HEADER_BYTES_MAX} bytes.")
        await app(scope, receive, send)


def is_oversize(scope: Scope) -> bool:
    """Whether the path, the query string or the headers exceed their bound in bytes."""
    return (
        len(scope["query_string"]) > _query_bytes_max(scope)
        or len(_path_of(scope)) > PATH_BYTES_MAX
        or size_of(scope["headers"]) > HEADER_BYTES_MAX
    )


def _query_bytes_max(scope: Scope) -> int:
    return BATCH_QUERY_BYTES_MAX if scope["path"] == BATCH_PATH else QUERY_BYTES_MAX


def _path_of(scope: Scope) -> bytes:
    """The path as it was sent, percent-encoded."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path


def size_of(headers: Iterable[Header]) -> int:
    """The size of headers as they were sent, in bytes."""
    return sum(len(name) + len(value) + _HEADER_SIGNS for name, value in headers)


def without_body(send: Send) -> Send:
    """A `send` that empties the bodies, for answers to HEAD."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
