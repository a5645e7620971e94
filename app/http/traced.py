"""The outermost layer of a node that sends traces: the fast path, and a span for each request.

A span cannot be left to FastAPI's own telemetry: most answers are made before FastAPI, or before ASGI, begins.
"""

from collections.abc import Collection, Iterable, Sequence
from time import perf_counter_ns
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from app.http.fast_path import FastPath, ParsedRequest
from app.http.headers import Header
from app.http.klines import PATH
from app.ports.tracing import RequestTraces, ServedRequest

_STATUS: Final = slice(9, 12)  # of a head: HTTP/1.1 200 OK


class TracedFastPath(FastPath):
    """A FastPath that measures what it answers, and what is answered behind it.

    `direct`: the paths that are answered without routing.
    """

    def __init__(self, *arguments: Any, requests: RequestTraces, direct: Collection[str]) -> None:
        super().__init__(*arguments)
        self._requests = requests
        self._carriers = frozenset(requests.carriers)
        self._direct = frozenset(direct)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request, in a span if it is one of HTTP."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        path, parent = scope["path"], self.parent_of(scope["headers"])
        request = ServedRequest(
            scope["method"], path, scope["query_string"], parent, path if path in self._direct else None
        )
        with self._requests.serve(request) as span:
            others = [header for header in scope["headers"] if header[0] not in self._carriers]
            scope["headers"] = [*others, *span.headers()]  # what is passed on to the writer belongs to this span

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.answered(message["status"])
                await send(message)

            try:
                await super().__call__(scope, receive, send_noted)
            finally:
                if (route := getattr(scope.get("route"), "path", None)) is not None:
                    span.routed(route)

    def parent_of(self, headers: Iterable[Header]) -> Sequence[Header]:
        """The headers that name the client's span."""
        return [header for header in headers if header[0] in self._carriers]

    def remember(self, request: bytes, heard: ParsedRequest) -> None:
        """Remember parsed headers, unless they name a span: those never come again."""
        if not heard.parent:
            super().remember(request, heard)

    def answer(self, heard: ParsedRequest, stated: Sequence[Header]) -> tuple[bytes, ...] | None:
        """The bytes of head and body, or None when the request has to go through ASGI, where its span is made."""
        began_ns = perf_counter_ns()
        pieces = super().answer(heard, stated)
        if pieces is not None:
            request = ServedRequest("HEAD" if heard.is_head else "GET", PATH, heard.key[1], heard.parent, PATH)
            self._requests.served(request, int(pieces[0][_STATUS]), perf_counter_ns() - began_ns)
        return pieces
