"""Events: each class declares its level and metrics completely and once."""

import dataclasses
import inspect
import logging
from collections import Counter
from types import ModuleType

import pytest

from app import collector_events, events
from app.collector_events import COLLECTOR_EVENTS
from app.events import EVENTS, Event, GapsCounted
from app.metric import Merge, Metric
from app.node import collector_gauges, gauges

ALL = (*EVENTS, *COLLECTOR_EVENTS)
METRICS: list[Metric] = [
    *(metric for event in ALL for metric in event.METRICS),
    *gauges.METRICS,
    *collector_gauges.METRICS,
]
NAMED_BY_OTHERS = {
    "messages_processed_total",
    "messages_published_total",
    "errors_total",
    "uptime_seconds",
    "exchange_connections_active",
}
"""Metrics under the names that monitoring of collectors expects."""


@pytest.mark.parametrize(
    ("module", "found"),
    [(events, ("Event", *EVENTS)), (collector_events, COLLECTOR_EVENTS)],
    ids=["events", "collector_events"],
)
def test_every_class_of_the_module_that_is_an_event_is_among_them(
    module: ModuleType, found: tuple[str | type[Event], ...]
) -> None:
    named = [name for name, each in vars(module).items() if inspect.isclass(each) and dataclasses.is_dataclass(each)]
    declared = [name for name in named if getattr(module, name).__module__ == module.__name__]
    assert declared == [each if isinstance(each, str) else each.__name__ for each in found]


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.__name__)
def test_an_event_has_a_docstring_a_level_and_metrics_of_its_own_attributes(event: type[Event]) -> None:
    assert event.__doc__
    assert not event.__doc__.startswith(f"{event.__name__}("), "the docstring that dataclass makes says nothing"
    assert event.LEVEL in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
    attributes = {field.name for field in dataclasses.fields(event)}
    attributes |= {name for name, each in vars(event).items() if isinstance(each, property)}
    for metric in event.METRICS:
        read = {*metric.labels.values(), *([metric.value] if metric.value else [])}
        assert read <= attributes, metric.name


def test_an_event_keeps_no_dictionary() -> None:
    assert [event for event in ALL if event.__dictoffset__] == []


def test_every_metric_has_a_name_of_its_own_and_a_help() -> None:
    assert [name for name, times in Counter(metric.name for metric in METRICS).items() if times > 1] == []
    assert {metric.name for metric in METRICS if not metric.name.startswith("klinenode_")} == NAMED_BY_OTHERS
    assert [metric.name for metric in METRICS if not metric.help.endswith(".")] == []


def test_what_is_unknown_at_start_is_the_writers() -> None:
    """The metric is dropped when the process stops being the writer; another process's value would be lost with it."""
    unknown = [metric for metric in METRICS if not getattr(metric, "is_known_at_start", True)]
    assert [metric.name for metric in unknown] == [metric.name for metric in GapsCounted.METRICS]
    assert {metric.merge for metric in unknown} == {Merge.WRITER}
