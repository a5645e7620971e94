"""A node that sends traces: each request has one span, whether it is answered before ASGI or behind it."""

from pathlib import Path
from typing import Self

from app.ports.tracing import Headers, ServedRequest
from tests.http.fakes import Node, served, wire
from tests.http.processes import processes

PARENT = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"


class Spans:
    """RequestTraces that keeps what it is told, as one line for each span."""

    carriers = frozenset({b"traceparent"})

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, str | None, int, list[tuple[bytes, bytes]]]] = []

    def serve(self, request: ServedRequest) -> "Entered":
        return Entered(self, request)

    def served(self, request: ServedRequest, status: int, elapsed_ns: int) -> None:
        assert elapsed_ns > 0
        self.ended.append(("before ASGI", request.method, request.route, status, list(request.parent)))


class Entered:
    def __init__(self, spans: Spans, request: ServedRequest) -> None:
        self._spans = spans
        self._request = request
        self._status = 0
        self._route = request.route

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        told = self._request
        self._spans.ended.append(("ASGI", told.method, self._route, self._status, list(told.parent)))

    def headers(self) -> Headers:
        return [(b"traceparent", b"ours")]

    def answered(self, status: int) -> None:
        self._status = status

    def routed(self, route: str) -> None:
        self._route = route


async def test_what_the_writer_answers_for_another_process_belongs_to_that_ones_span(tmp_path: Path) -> None:
    spans = Spans(), Spans()
    async with processes(tmp_path, traces=spans) as (reader, _), reader.operator() as client:
        assert (await client.post("/v1/admin/symbols/refresh", headers=dict([PARENT]))).status_code == 200
    [ours], [writers] = (each.ended for each in spans)
    assert ours == ("ASGI", "POST", "/v1/admin/symbols/refresh", 200, [(PARENT[0].encode(), PARENT[1].encode())])
    assert writers == ("ASGI", "POST", "/v1/admin/symbols/refresh", 200, [(b"traceparent", b"ours")])


async def test_each_request_has_one_span_with_its_parent(node: Node) -> None:
    spans = Spans()
    node = Node(traces=spans)
    node.symbols.info = b"{}"
    parent = [(PARENT[0].encode(), PARENT[1].encode())]
    async with served(node.app) as port:
        for headers in ((PARENT,), (PARENT,), (), ()):
            assert (await wire(port, KLINES, headers=headers)).status == 200
        assert (await wire(port, "/v1/coverage", headers=[PARENT])).status == 200
        assert (await wire(port, "/nowhere", headers=[PARENT])).status == 404
    path = KLINES.partition("?")[0]
    assert spans.ended == [
        ("ASGI", "GET", path, 200, parent),
        ("before ASGI", "GET", path, 200, parent),
        ("before ASGI", "GET", path, 200, []),
        ("before ASGI", "GET", path, 200, []),
        ("ASGI", "GET", "/v1/coverage", 200, parent),
        ("ASGI", "GET", None, 404, parent),
    ]
