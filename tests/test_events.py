"""Events: each class declares its level and metrics completely and once."""

import dataclasses
import inspect
import logging
from collections import Counter

import pytest

from app import events
from app.events import EVENTS, Event, GapsCounted
from app.metric import Merge, Metric
from app.node import gauges

METRICS: list[Metric] = [*(metric for event in EVENTS for metric in event.METRICS), *gauges.METRICS]


def test_every_class_of_the_module_that_is_an_event_is_among_them() -> None:
    named = [name for name, each in vars(events).items() if inspect.isclass(each) and dataclasses.is_dataclass(each)]
    declared = [name for name in named if getattr(events, name).__module__ == events.__name__]
    assert declared == ["Event", *(event.__name__ for event in EVENTS)]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
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
    assert [event for event in EVENTS if event.__dictoffset__] == []


def test_every_metric_has_a_name_of_its_own_and_a_help() -> None:
    assert [name for name, times in Counter(metric.name for metric in METRICS).items() if times > 1] == []
    assert [metric.name for metric in METRICS if not metric.name.startswith("klinenode_")] == []
    assert [metric.name for metric in METRICS if not metric.help.endswith(".")] == []


def test_what_is_unknown_at_start_is_the_writers() -> None:
    """The metric is dropped when the process stops being the writer; another process's value would be lost with it."""
    unknown = [metric for metric in METRICS if not getattr(metric, "is_known_at_start", True)]
    assert [metric.name for metric in unknown] == [metric.name for metric in GapsCounted.METRICS]
    assert {metric.merge for metric in unknown} == {Merge.WRITER}
