"""A node's /metrics as numbers."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from tests.system.processes import Place

LAG: Final = "klinenode_close_lag_seconds"


@dataclass
class Scrape:
    """What one scrape says."""

    names: set[str]
    """Of all metrics there are."""
    values: defaultdict[str, float]
    """By the name of a line, whatever its labels."""
    lag: dict[str, dict[float, float]] = field(default_factory=dict)
    """The histogram of close lag by interval: cumulative counts by upper bound."""


async def scraped(place: Place) -> Scrape:
    """Scrape the node there."""
    text = (await place.get("/metrics")).text
    found = Scrape({line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}, defaultdict(float))
    for family in text_string_to_metric_families(text):
        for line in family.samples:
            if line.name == f"{LAG}_bucket":
                found.lag.setdefault(line.labels["interval"], {})[float(line.labels["le"])] = line.value
            else:
                found.values[line.name] += line.value
    return found
