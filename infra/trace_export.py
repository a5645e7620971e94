"""The way of ended spans to the collector: a bounded queue, and a count of what did not arrive.

OpenTelemetry's own queue drops spans without counting them, and its exporter logs each failure. Here spans are counted
before they enter the queue and after they leave it, and the exporter's complaints are kept as the reason.
"""

import logging
import re
from collections.abc import Sequence
from threading import Thread
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

REASON_CHARS_MAX: Final = 300  # of a complaint; it quotes what a host has answered
_GIVEN_UP: Final = "due to timeout"  # in the message that follows those with the reason
_QUERY: Final = re.compile(r"\?[^\s'\"),]*")  # of a URL: some collectors take their key there


class _Complaints(logging.Handler):
    """Keeps the newest complaint of OpenTelemetry instead of printing all."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.newest = ""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if _GIVEN_UP not in message or not self.newest:
            self.newest = _QUERY.sub("?…", message)[:REASON_CHARS_MAX]


class _Delivery(SpanExporter):
    """Passes batches to the collector, in the queue's thread, and counts them."""

    def __init__(self) -> None:
        self._inner = OTLPSpanExporter()  # reads endpoint, headers, certificates and time limit from the environment
        self.left = 0
        """Spans that have left the queue, delivered or not."""
        self.lost = 0
        self.is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self.is_failing = result is not SpanExportResult.SUCCESS
            self.lost += len(spans) if self.is_failing else 0
            self.left += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]


class TraceExport(SpanProcessor):
    """Takes ended spans, and gives them to the collector of OTEL_… at most `queue_spans_max` later."""

    def __init__(self, queue_spans_max: int) -> None:
        self._complaints = _Complaints()
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self._complaints)
        logger.propagate = False
        self._queue_spans_max = queue_spans_max
        self._delivery = _Delivery()
        self._queue = BatchSpanProcessor(
            self._delivery, max_queue_size=queue_spans_max, max_export_batch_size=min(512, queue_spans_max)
        )
        self._entered = 0
        self._refused = 0

    @property
    def lost(self) -> int:
        """The number of spans that did not reach the collector."""
        return self._refused + self._delivery.lost

    @property
    def waiting(self) -> int:
        """The number of spans that are in the queue, or on their way."""
        return self._entered - self._delivery.left

    @property
    def trouble(self) -> str:
        """Why the newest batch did not arrive; empty if it did."""
        if not self._delivery.is_failing:
            return ""
        return self._complaints.newest or "it does not take them"

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, or count it as lost if the queue is full."""
        if self.waiting >= self._queue_spans_max:
            self._refused += 1
        else:
            self._entered += 1
            self._queue.on_end(span)

    def flush(self) -> Thread:
        """Begin to send what waits, and take no more; the thread ends when all is sent or given up."""
        thread = Thread(target=self._queue.shutdown, name="traces-flush", daemon=True)  # no exit waits for a collector
        thread.start()
        return thread

    def give_up(self) -> None:
        """Stop trying, and count what waits as lost. The numbers do not change after this."""
        self._delivery.shutdown()
        self._refused += self.waiting
        self._entered = self._delivery.left
