"""Requests that only the writer can answer: other processes forward them, and the writer's own routes answer them."""

from typing import Final

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

from app.domain.reason import Reason
from app.http.archive_header import ARCHIVE_ROWS
from app.http.errors import unavailable
from app.http.headers import REASON
from app.http.services import WriterLine
from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable

HEADERS_SENT: Final = frozenset(
    {"authorization", "content-type", "host", "origin", "sec-fetch-site", "traceparent", "tracestate", "user-agent"}
)
"""Request headers that admin guard, routes and traces read; the writer repeats the checks of the forwarding process."""
HEADERS_BACK: Final = frozenset(
    {
        "content-type",
        "cache-control",
        "retry-after",
        "www-authenticate",
        "x-klinenode-holds-ms",
        ARCHIVE_ROWS,
        REASON.decode(),
    }
)
FORWARDED: Final = "klinenode.forwarded"  # key in the scope of a request that another process forwarded


async def forwarded(line: WriterLine, request: Request, body: bytes = b"") -> Response | None:
    """The writer's answer to a request with this `body`; None when this process has to answer itself.

    Raises ApiError (503) when the writer cannot be reached.
    """
    if FORWARDED in request.scope or not await line.is_elsewhere():
        return None
    client = request.client.host if request.client else ""
    headers = [(name, value) for name, value in request.headers.items() if name in HEADERS_SENT]
    query = request.url.query
    try:
        told = await line.ask(RpcRequest(request.method, request.url.path, query, client, headers, body))
    except WriterUnreachable as error:
        raise unavailable(f"{error}.", Reason.WRITER, 1) from error
    return Response(told.body, told.status, dict(told.headers))


async def answer_by(app: ASGIApp, asked: RpcRequest) -> RpcResponse:
    """Run a forwarded request through `app`, in the writer, and collect the response."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "http",
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": asked.query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in asked.headers]
        + [(b"content-length", b"%d" % len(asked.body))],
        "client": (asked.client, 0),
        "server": None,
        FORWARDED: True,
    }
    status, headers, parts = 500, list[tuple[str, str]](), list[bytes]()
    incoming: list[Message] = [{"type": "http.request", "body": asked.body, "more_body": False}]

    async def receive() -> Message:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"])
            headers.extend(pair for pair in pairs if pair[0] in HEADERS_BACK)
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return RpcResponse(status, headers, b"".join(parts))
