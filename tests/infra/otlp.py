"""A collector of OpenTelemetry on loopback: takes spans by OTLP over HTTP, and waits for those that a test names."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.patience import PATIENCE_S


class Received(NamedTuple):
    """A span as it arrived; ids in hex, times in ns."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str | int]
    is_error: bool
    took_ns: int
    resource: dict[str, str | int]


class Collector:
    """What has arrived. `status` is what it answers with."""

    def __init__(self) -> None:
        self.status = 200
        self.spans: list[Received] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self._arrived = threading.Condition()

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """Take one request; the status of the answer."""
        with self._arrived:
            self.headers.append(headers)
            self.bodies.append(body)
            if self.status == 200:
                self.spans += _spans(body)
            self._arrived.notify_all()
            return self.status

    def wait(self, is_enough: Callable[[list[Received]], bool]) -> list[Received]:
        """Return the spans once there are enough of them; blocks."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: is_enough(self.spans), PATIENCE_S)
            assert found, [span.name for span in self.spans]
            return list(self.spans)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            status = collector.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


def _spans(body: bytes) -> Iterator[Received]:
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    span.name,
                    Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    _attributes(span.attributes),
                    span.status.code == Status.STATUS_CODE_ERROR,
                    span.end_time_unix_nano - span.start_time_unix_nano,
                    resource,
                )


def _attributes(pairs: object) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for pair in pairs:  # type: ignore[attr-defined]
        found[pair.key] = pair.value.string_value or pair.value.int_value
    return found
