"""A node's /metrics, parsed into numbers."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from tests.system.processes import Place

LAG: Final = "klinenode_close_lag_seconds"


@dataclass
class Scrape:
    """The values of one scrape."""

    names: set[str]
    """The names of all declared metrics."""
    values: defaultdict[str, float]
    """The sum over all labels, by the name of the sample line."""
    lag: dict[str, dict[float, float]] = field(default_factory=dict)
    """The histogram of close lag by interval: cumulative counts by upper bound."""


async def scraped(place: Place) -> Scrape:
    """Fetch and parse /metrics of the node at `place`."""
    text = (await place.get("/metrics")).text
    found = Scrape({line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}, defaultdict(float))
    for family in text_string_to_metric_families(text):
        for line in family.samples:
            if line.name == f"{LAG}_bucket":
                found.lag.setdefault(line.labels["interval"], {})[float(line.labels["le"])] = line.value
            else:
                found.values[line.name] += line.value
    return found
