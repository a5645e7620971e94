"""Telemetry: turns events into log lines and metrics, and measures requests."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from typing import Any

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
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.responses import PlainTextResponse

from app import metric
from app.collector_events import COLLECTOR_EVENTS
from app.events import EVENTS, Event, GapsCounted, LeaseChanged, Observe
from app.metric import Merge
from infra.local.shared_metrics import SharedMetrics
from infra.log_lines import LogStyle, line_writer

disable_created_metrics()  # type: ignore[no-untyped-call]  # `_created` would double the series of every counter and say nothing new

Sample = Callable[[], Iterable[tuple[dict[str, str], float]]]
"""Read on scrape: label values and number, for each line of a metric."""

HistogramSample = Callable[[], Iterable[tuple[dict[str, str], Sequence[int], float]]]
"""Read on scrape: label values, counts between bounds (the last beyond all of them) and sum, for each histogram."""

_Record = Callable[[float], None]
"""Takes a number."""

_Measure = Callable[[Any], None]
"""Takes an event, of which it records one metric."""


class _Sampled(Collector):
    """Metrics whose numbers are read when they are scraped, so that keeping them costs nothing."""

    def __init__(self) -> None:
        self.samples: dict[str, tuple[metric.Counter | metric.Gauge, Sample]] = {}
        self.histograms: dict[str, tuple[metric.Histogram, HistogramSample]] = {}

    def collect(self) -> Iterable[Metric]:
        for declared, sample in self.samples.values():
            family = Metric(_family_name(declared), declared.help, declared.type)
            for labels, value in sample():
                family.add_sample(declared.name, labels, value)
            yield family
        for histogram, read in self.histograms.values():
            found = list(read())
            names = [*map(str, histogram.bounds), "+Inf"]
            buckets = HistogramMetricFamily(histogram.name, histogram.help, labels=list(found[0][0]) if found else [])
            for labels, counts, total in found:
                sums = map(float, accumulate(counts))
                buckets.add_metric(list(labels.values()), list(zip(names, sums, strict=True)), total)
            yield buckets

    def describe(self) -> Iterable[Metric]:
        return []


class _ByLabels(dict[Any, _Record]):
    """Where the numbers of one metric go, by label values. Cached: the library's `labels()` is slower than counting."""

    def __init__(self, record_of: Callable[..., _Record]) -> None:
        super().__init__()
        self._record_of = record_of

    def __missing__(self, values: Any) -> _Record:
        record = self[values] = self._record_of(*(values if isinstance(values, tuple) else (values,)))
        return record


class Telemetry:
    """One node's logs and metrics. `observe` is the only way in for events."""

    def __init__(self, log_level: str, also: Iterable[Observe] = (), style: LogStyle | None = None) -> None:
        self.registry = CollectorRegistry()
        self._also = tuple(also)
        self._level_min = logging.getLevelNamesMapping()[log_level]
        self._line = line_writer(style or LogStyle())
        self._shared: SharedMetrics | None = None
        self._gaps_logged: GapsCounted | None = None
        self._sampled = _Sampled()
        self.registry.register(self._sampled)
        ProcessCollector(registry=self.registry)  # memory, processor time and open files under their usual names
        self._merges: dict[str, Merge] = {}
        self._latest: dict[str, float] = {}
        self._measures = {kind: tuple(map(self._measure, kind.METRICS)) for kind in (*EVENTS, *COLLECTOR_EVENTS)}
        self._measures[LeaseChanged] += (self._lease_changed,)

    def sample(self, declared: metric.Counter | metric.Gauge, sample: Sample) -> None:
        """Add a metric that is read on scrape."""
        self._merges[_family_name(declared)] = declared.merge
        self._sampled.samples[declared.name] = (declared, sample)

    def sample_histogram(self, declared: metric.Histogram, sample: HistogramSample) -> None:
        """Add a histogram that is read on scrape."""
        self._sampled.histograms[declared.name] = (declared, sample)

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
        self._shared = SharedMetrics(folder, self.registry, self._merges)

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

    def numbers(self) -> list[metric.Number]:
        """The metrics' present numbers, of all workers together where they count together."""
        families: Iterable[Metric] = ()
        if self._shared is not None:
            with contextlib.suppress(OSError):  # as above
                families = self._shared.families()
        found = families or self.registry.collect()
        return [metric.Number(each.name, each.labels, each.value) for family in found for each in family.samples]

    def _metrics(self) -> PlainTextResponse:
        return PlainTextResponse(self.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    def observe(self, event: Event) -> None:
        """Take in a fact."""
        for measure in self._measures[type(event)]:
            measure(event)
        if self._level_min <= event.LEVEL:
            self._write(event)
        for observe in self._also:
            observe(event)

    def _level(self, event: Event) -> int:
        if isinstance(event, GapsCounted):
            if not event.has_moved(self._gaps_logged):
                return logging.DEBUG
            self._gaps_logged = event
        return event.LEVEL

    def _write(self, event: Event) -> None:
        level = self._level(event)
        if level < self._level_min:
            return
        self._line(level, event)

    def _measure(self, declared: metric.Metric) -> _Measure:
        """Build what records one metric of an event. It runs for each event, so look-ups are done here, once."""
        value_of: Callable[[Event], Any] = attrgetter(declared.value) if declared.value else _one
        recorder = self._recorder(declared)
        if declared.labels:
            values_of, records = attrgetter(*declared.labels.values()), _ByLabels(recorder)
            return lambda event: records[values_of(event)](value_of(event))
        record = recorder()
        return lambda event: record(value_of(event))

    def _recorder(self, declared: metric.Metric) -> Callable[..., _Record]:
        """Build what returns, for label values, where the numbers of a metric go."""
        self._merges[_family_name(declared)] = declared.merge
        if isinstance(declared, metric.Gauge) and not declared.is_known_at_start:
            self.sample(declared, self._latest_of(declared.name))
            return lambda: partial(self._latest.__setitem__, declared.name)
        return _recorder_in(self.registry, declared)

    def _latest_of(self, name: str) -> Sample:
        return lambda: [] if (value := self._latest.get(name)) is None else [({}, value)]

    def _lease_changed(self, event: LeaseChanged) -> None:
        if not event.is_writer:
            self._latest.clear()


def _recorder_in(registry: CollectorRegistry, declared: metric.Metric) -> Callable[..., _Record]:
    """Build the same for a metric that the library keeps."""
    name, text, labels = declared.name, declared.help, tuple(declared.labels)
    match declared:
        case metric.Counter():
            assert declared.type == "counter", f"{name}: the library would add _total to its name"
            counter = Counter(name, text, labels, registry=registry)
            return lambda *values: (counter.labels(*values) if values else counter).inc
        case metric.Gauge():
            gauge = Gauge(name, text, labels, registry=registry)
            return lambda *values: partial(_set, gauge.labels(*values) if values else gauge)
        case metric.Histogram():
            histogram = Histogram(name, text, labels, registry=registry, buckets=declared.bounds)
            return lambda *values: (histogram.labels(*values) if values else histogram).observe


def _set(gauge: Gauge, value: float | None) -> None:
    if value is not None:
        gauge.set(value)


def _family_name(declared: metric.Metric) -> str:
    """The name without the `_total` that belongs to the samples of a counter."""
    return declared.name.removesuffix("_total") if declared.type == "counter" else declared.name


def _one(_: Event) -> int:
    return 1
