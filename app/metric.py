"""How a metric is declared: its name, its help, its type, and how the numbers of several processes become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import ClassVar, Final, Literal, NamedTuple


class Merge(Enum):
    """How the numbers of the processes of one server become one."""

    TOTAL = auto()
    """Added up, also those of processes that have ended: the sum never falls."""
    SUM = auto()
    """Added up while the processes live."""
    WRITER = auto()
    """Means something in the process that writes only; its last number stands until its successor has one."""
    LARGEST = auto()
    """All processes read it from the same place; where one is behind, the largest counts."""
    SMALLEST = auto()
    """The same with the smallest."""


@dataclass(frozen=True, slots=True)
class _Declared:
    name: str
    """As it is scraped."""
    help: str
    value: str | None = None
    """On an event's class: the attribute to count or show; without one, each counts 1. None leaves a gauge alone."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """On an event's class: by label, the attribute that says its value."""


@dataclass(frozen=True, slots=True)
class Counter(_Declared):
    """Only grows while the process lives.

    It is exposed as a counter when its name ends in `_total`, which Prometheus' library adds to all others. Those are
    exposed as gauges, under the names that dashboards know.
    """

    merge: ClassVar[Merge] = Merge.TOTAL

    @property
    def type(self) -> Literal["counter", "gauge"]:
        """The type that Prometheus reads."""
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True, slots=True)
class Gauge(_Declared):
    """Rises and falls."""

    type: ClassVar[Literal["gauge"]] = "gauge"
    merge: Merge = Merge.SUM
    is_known_at_start: bool = True
    """Whether it is 0 before the first event; if not, it is missing until then, and after the process stops writing."""


@dataclass(frozen=True, slots=True)
class Histogram(_Declared):
    """How many numbers lie below each bound."""

    type: ClassVar[Literal["histogram"]] = "histogram"
    merge: ClassVar[Merge] = Merge.TOTAL
    bounds: Sequence[float] = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


Metric = Counter | Gauge | Histogram


class Number(NamedTuple):
    """One line of a scrape: the name, with the ending of a histogram's or counter's line, the labels and the number."""

    name: str
    labels: Mapping[str, str]
    value: float


IS_WRITER: Final = Gauge("klinenode_is_writer", "1 in the process that ingests.")
"""It also says whose number counts where `Merge.WRITER` is declared."""
