"""Spans of OpenTelemetry: of requests to this node, of those to an exchange, and of work, and which is whose parent.

This module is imported only where OTEL_… asks for traces. The provider is the node's own and not the process's: what
other libraries would measure of themselves, among it whole URLs, is not sent.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from app.domain.letters import lower
from app.events import Event, RequestDone
from app.ports.tracing import Attributes, Headers, ServedRequest
from infra.trace_export import TraceExport

PATH_CHARS_MAX: Final = 200  # of a path, and of a query; a client chooses them
QUERY_SHOWN: Final = frozenset(
    b"symbol pair interval contractType period limit startTime endTime fromId as_of window".split()
)
"""Parameters whose values a span has. No other is in it: clients send signatures, and put keys into wrong places."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY"})
_UNNAMED: Final = "unknown_service"  # how OpenTelemetry calls a service without OTEL_SERVICE_NAME
_NOBODY: Final = Context()  # the parent of a trace's first span


class _Serving:
    """A RequestSpan, current while it is entered."""

    def __init__(self, span: Span, surroundings: Context) -> None:
        self._span = span
        self._context = trace.set_span_in_context(span, surroundings)
        self._status = 0

    def __enter__(self) -> Self:
        self._token = context.attach(self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None, /
    ) -> None:
        context.detach(self._token)
        if kind is not None:
            _fail(self._span, kind.__name__)
        elif not self._status:
            _fail(self._span, "no_answer")
        self._span.end()

    def headers(self) -> Headers:
        carrier: dict[str, str] = {}
        propagate.inject(carrier, self._context)
        return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in carrier.items()]

    def answered(self, status: int) -> None:
        self._status = status
        _set_status(self._span, status)

    def routed(self, route: str) -> None:
        if self._span.is_recording():
            method = self._span.attributes["http.request.method"]  # type: ignore[attr-defined]  # ours are readable
            self._span.set_attribute("http.route", route)
            self._span.update_name(f"{method} {route}")


class Tracing:
    """Makes the spans of one process; `server` is the host by which its clients know it."""

    def __init__(self, export: TraceExport, server: str) -> None:
        found = Resource.create()  # of OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        own: dict[str, str | int] = {"service.version": version("klinenode"), "process.pid": os.getpid()}
        resource = Resource(own).merge(found)
        if str(found.attributes[SERVICE_NAME]).startswith(_UNNAMED):
            resource = resource.merge(Resource({SERVICE_NAME: "klinenode"}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # the sampler is that of OTEL_TRACES_…
        provider.add_span_processor(export)
        self._tracer: Tracer = provider.get_tracer("klinenode", version("klinenode"))
        self._server = server
        self.carriers = frozenset(lower(name).encode() for name in propagate.get_global_textmap().fields)

    # --- requests to this node ------------------------------------------------------------------------------------

    def serve(self, request: ServedRequest) -> _Serving:
        """The span of a request that will be answered inside of it."""
        surroundings = _extracted(request.parent)
        return _Serving(self._started(request, surroundings), surroundings)

    def served(self, request: ServedRequest, status: int, elapsed_ns: int) -> None:
        """Make the span of a request that has just been answered."""
        span = self._started(request, _extracted(request.parent), _now_ns() - elapsed_ns)
        _set_status(span, status)
        span.end()

    def _started(self, request: ServedRequest, surroundings: Context, began_ns: int | None = None) -> Span:
        is_known = request.method in METHODS
        method = request.method if is_known else "_OTHER"
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "server.address": self._server,
            "url.path": request.path[:PATH_CHARS_MAX],
            "url.scheme": "http",
        }
        if query := _shown(request.query):
            attributes["url.query"] = query
        name = method if is_known else "HTTP"
        if request.route is not None:
            attributes["http.route"] = request.route
            name = f"{name} {request.route}"
        return self._tracer.start_span(name, surroundings, SpanKind.SERVER, attributes, start_time=began_ns)

    # --- requests to an exchange ----------------------------------------------------------------------------------

    def observe(self, event: Event) -> None:
        """Make the span of a request to an exchange that has ended, in the context of what asked for it.

        The exchange is told of no trace.
        """
        if not isinstance(event, RequestDone):
            return
        attributes: dict[str, str | int] = {
            "http.request.method": "GET",
            "server.address": event.host,
            "url.path": event.path[:PATH_CHARS_MAX],
            "klinenode.weight": event.weight,
        }
        if event.used_weight is not None:
            attributes["klinenode.weight_used"] = event.used_weight
        began_ns = _now_ns() - max(0, int(event.elapsed_s * 1e9))
        span = self._tracer.start_span("GET", None, SpanKind.CLIENT, attributes, start_time=began_ns)
        if event.status:
            span.set_attribute("http.response.status_code", event.status)
        if not event.status or event.status >= 400:
            _fail(span, str(event.status) if event.status else "no_answer")
        span.end()

    # --- work -------------------------------------------------------------------------------------------------------

    @contextmanager
    def work(self, name: str, attributes: Attributes) -> Iterator[None]:
        """A span around a piece of work. An error is named by its class: its text may quote what is secret."""
        span = self._tracer.start_span(name, attributes=attributes)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield
            except BaseException as error:
                _fail(span, type(error).__name__)
                raise


def current_ids() -> Mapping[str, str]:
    """What a log line says of the current span; nothing outside of one."""
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(found.trace_id), "span_id": trace.format_span_id(found.span_id)}


def _extracted(headers: Headers) -> Context:
    """The context that a client's headers tell."""
    if not headers:
        return _NOBODY
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return propagate.extract(carrier, _NOBODY)


def _shown(query: bytes) -> str:
    """The parts of a query that a span has."""
    if not query:
        return ""
    parts = query[:PATH_CHARS_MAX].split(b"&")
    return b"&".join(part for part in parts if part.partition(b"=")[0] in QUERY_SHOWN).decode("latin-1")


def _set_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        _fail(span, str(status))


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _now_ns() -> int:
    return time.time_ns()  # noqa: TID251  spans have the machine's time, as those of all other services
