"""Telemetry: turns events into log lines and metrics, and measures requests."""

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.responses import PlainTextResponse

from app import events
from app.events import Event, Observe
from infra.local.shared_metrics import SharedMetrics

_LEVELS: Final[dict[type[Event], int]] = {
    events.RequestDone: logging.DEBUG,
    events.FramesReceived: logging.DEBUG,
    events.KlineClosed: logging.DEBUG,
    events.RowsCommitted: logging.DEBUG,
    events.KlinesVerified: logging.DEBUG,
    events.SymbolsUnlisted: logging.WARNING,
    events.Relisted: logging.WARNING,
    events.SymbolsReplaced: logging.WARNING,
    events.RelistingRefuted: logging.WARNING,
    events.KlinesMended: logging.WARNING,
    events.IntervalsDisagree: logging.WARNING,
    events.StandDownBegan: logging.WARNING,
    events.ExchangeSilent: logging.WARNING,
    events.StandingNotShared: logging.WARNING,
    events.SocketLost: logging.WARNING,
    events.KlineDisputed: logging.WARNING,
    events.GarbageDropped: logging.WARNING,
    events.ArchiveRejected: logging.INFO,
    events.UnpackerLost: logging.WARNING,
    events.CommitFailed: logging.ERROR,
    events.StoreFailed: logging.ERROR,
    events.StoreRecovered: logging.WARNING,  # whoever read the error wants to read its end
    events.BackfillPaused: logging.WARNING,
    events.TaskEnded: logging.ERROR,
    events.LineFailed: logging.WARNING,
}
"""How loud an event is; INFO when it is not named here."""

_GAPS_MOVED_SHARE: Final = 20
"""Gaps are worth a line when they moved by a twentieth (5 %) of the wish; the metrics have every count."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # `_created` would double the series of every counter and say nothing new

Sample = Callable[[], Iterable[tuple[dict[str, str], float]]]
"""Read on scrape: label values and number, for each line of a metric."""

HistogramSample = Callable[[], Iterable[tuple[dict[str, str], Sequence[int], float]]]
"""Read on scrape: label values, counts between bounds (the last beyond all of them) and sum, for each histogram."""


class _Sampled(Collector):
    """Metrics whose numbers are read when they are scraped, so that keeping them costs nothing."""

    def __init__(self) -> None:
        self.samples: dict[str, tuple[str, Sample]] = {}
        self.histograms: dict[str, tuple[str, Sequence[float], HistogramSample]] = {}

    def collect(self) -> Iterable[Metric]:
        for name, (documentation, sample) in self.samples.items():
            lines = list(sample())
            family = GaugeMetricFamily(name, documentation, labels=list(lines[0][0]) if lines else [])
            for labels, value in lines:
                family.add_metric(list(labels.values()), value)
            yield family
        for name, (documentation, bounds, read) in self.histograms.items():
            found = list(read())
            histogram = HistogramMetricFamily(name, documentation, labels=list(found[0][0]) if found else [])
            for labels, counts, total in found:
                names = [*(str(bound) for bound in bounds), "+Inf"]
                buckets = list(zip(names, map(float, accumulate(counts)), strict=True))
                histogram.add_metric(list(labels.values()), buckets, total)
            yield histogram

    def describe(self) -> Iterable[Metric]:
        return []


class Telemetry:
    """One node's logs and metrics. `observe` is the only way in for events."""

    def __init__(self, log_level: str, also: Iterable[Observe] = ()) -> None:
        self.registry = CollectorRegistry()
        self._also = tuple(also)
        self._log = _logger(log_level)
        self._shared: SharedMetrics | None = None
        self._gaps_told: events.GapsCounted | None = None
        self._sampled = _Sampled()
        self.registry.register(self._sampled)
        ProcessCollector(registry=self.registry)  # memory, processor time and open files under their usual names
        r = self.registry
        self._requests = Counter("klinenode_upstream_requests", "Upstream requests by status.", ["status"], registry=r)
        self._request_s = Histogram("klinenode_upstream_request_seconds", "Upstream answer times.", registry=r)
        self._weight = Gauge(
            "klinenode_upstream_weight_used", "REST weight used this minute, as the exchange counts it.", registry=r
        )
        self._frames = Counter("klinenode_frames", "Socket frames received.", registry=r)
        self._final = Counter("klinenode_closed_frames", "Socket frames that closed a kline.", registry=r)
        self._rows = Counter("klinenode_rows_written", "Rows committed, by source.", ["source", "interval"], registry=r)
        self._revised = Counter("klinenode_rows_revised", "Committed rows that changed a held one.", registry=r)
        self._verified = Counter(
            "klinenode_verified",
            "Days of series compared with the exchange's klines and found, or made, equal.",
            ["interval"],
            registry=r,
        )
        self._mended = Counter(
            "klinenode_rows_mended", "Held rows that verification replaced by the exchange's.", ["interval"], registry=r
        )
        self._disagreements = Counter(
            "klinenode_exchange_disagreements", "Klines of which the exchange contradicts itself.", registry=r
        )
        self._planned: events.GapsCounted | None = None
        self.sample("klinenode_klines_missing", "Klines wished and not held.", self._by_plan("missing_klines"))
        self.sample("klinenode_klines_wished", "Klines wished.", self._by_plan("wished_klines"))
        self.sample("klinenode_gaps", "Spans between wish and ledger.", self._by_plan("spans"))
        self._garbage = Counter("klinenode_garbage", "Unusable upstream data, dropped.", ["where"], registry=r)
        self._restarts = Counter("klinenode_task_restarts", "Restarts of background tasks.", ["task"], registry=r)
        self._commits_failed = Counter("klinenode_commits_failed", "Batches that could not be written.", registry=r)
        self._handovers = Counter("klinenode_socket_handovers", "Sockets replaced while they delivered.", registry=r)
        self._disputed = Counter(
            "klinenode_klines_disputed", "Closed klines that a later closing frame contradicted.", registry=r
        )
        self._settled = Counter("klinenode_disputes_settled", "Disputed klines that REST confirmed.", registry=r)
        self._sockets_lost = Counter("klinenode_sockets_lost", "Sockets that ended or fell silent.", registry=r)

    def sample(self, name: str, documentation: str, sample: Sample) -> None:
        """Add a gauge that is read on scrape."""
        self._sampled.samples[name] = (documentation, sample)

    def _by_plan(self, field: str) -> Sample:
        """Reads a number of the last plan; there is none before the first one, which is not the same as 0."""
        return lambda: [] if (plan := self._planned) is None else [({}, float(getattr(plan, field)))]

    def sample_histogram(self, name: str, documentation: str, bounds: Sequence[float], sample: HistogramSample) -> None:
        """Add a histogram that is read on scrape."""
        self._sampled.histograms[name] = (documentation, bounds, sample)

    def instrument(self, app: Any) -> None:
        """Measure the requests of a FastAPI application and serve `/metrics` on it."""
        Instrumentator(
            registry=self.registry,
            should_group_status_codes=False,
            excluded_handlers=["/metrics"],
        ).instrument(app)
        app.get(
            "/metrics",
            tags=["operations"],
            summary="What Prometheus scrapes: of all workers together, whichever answers",
            response_class=PlainTextResponse,  # it answers with its own; this is what the API's description says
        )(self._metrics)

    def share_in(self, folder: Path) -> None:
        """Count together with the other workers of this server, whose numbers are in `folder` too."""
        self._shared = SharedMetrics(folder, self.registry)

    def share(self) -> None:
        """Let the other workers know our numbers. Blocks for milliseconds."""
        if self._shared is not None:
            with contextlib.suppress(OSError):  # a full disk: health and log say so; the numbers go on from here
                self._shared.share()

    def exposition(self) -> bytes:
        """The metrics as Prometheus reads them."""
        if self._shared is not None:
            with contextlib.suppress(OSError):  # then those of this process alone are better than none
                return self._shared.exposition()
        return generate_latest(self.registry)

    def _metrics(self) -> PlainTextResponse:
        return PlainTextResponse(self.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    def observe(self, event: Event) -> None:
        """Take in a fact."""
        self._measure(event)
        level = self._level(event)
        if self._log.is_enabled_for(level):
            self._write(level, event)
        for observe in self._also:
            observe(event)

    def _level(self, event: Event) -> int:
        if isinstance(event, events.GapsCounted):
            if not self._have_gaps_moved(event):
                return logging.DEBUG
            self._gaps_told = event
        return _LEVELS.get(type(event), logging.INFO)

    def _have_gaps_moved(self, event: events.GapsCounted) -> bool:
        told = self._gaps_told
        if told is None or event.missing_klines == 0 != told.missing_klines:
            return True
        moved = abs(event.missing_klines - told.missing_klines)
        return moved > 0 and moved * _GAPS_MOVED_SHARE >= event.wished_klines

    def _write(self, level: int, event: Event) -> None:
        fields = {
            field.name: value
            for field in dataclasses.fields(event)
            if not isinstance(value := getattr(event, field.name), Exception)
        }
        crash = event.crash if isinstance(event, events.TaskEnded) else None
        self._log.log(level, type(event).__name__, **fields, **({"exc_info": crash} if crash else {}))

    def _measure(self, event: Event) -> None:
        match event:
            case events.RequestDone():
                self._requests.labels(str(event.status)).inc()
                self._request_s.observe(event.elapsed_s)
                if event.used_weight is not None:
                    self._weight.set(event.used_weight)
            case events.FramesReceived():
                self._frames.inc(event.frames)
                self._final.inc(event.final)
            case events.RowsCommitted():
                self._rows.labels(event.source.value, event.interval).inc(event.rows)
                self._revised.inc(event.revised)
            case events.GapsCounted():
                self._planned = event
            case events.LeaseChanged(is_writer=False):
                self._planned = None
            case events.KlinesVerified():
                self._verified.labels(event.interval).inc(event.compared)
            case events.KlinesMended():
                self._mended.labels(event.interval).inc(event.rows)
            case events.IntervalsDisagree():
                self._disagreements.inc()
            case events.GarbageDropped():
                self._garbage.labels(event.where.split(" ", 1)[0]).inc()
            case events.TaskEnded():
                self._restarts.labels(event.name).inc()
            case events.CommitFailed():
                self._commits_failed.inc()
            case events.KlineDisputed():
                self._disputed.inc()
            case events.DisputeSettled():
                self._settled.inc()
            case events.SocketHandedOver():
                self._handovers.inc()
            case events.SocketLost():
                self._sockets_lost.inc()
            case _:
                pass


def _logger(level: str) -> Any:
    number = logging.getLevelNamesMapping()[level]
    is_terminal = sys.stderr.isatty()
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(),
        structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer(default=str),
    ]
    if is_terminal:
        processors.remove(processors[2])
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    ).bind()
