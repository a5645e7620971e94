"""A job of a node, as /v1/overview lists it: work with an end, and how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

RUNNING: Final = "running"


@dataclass(frozen=True, slots=True)
class Job:
    """Work with an end: what it is, its state, and how far it is (`total` of 0: not known)."""

    name: str
    state: str
    done: int
    total: int
    error: str | None = None


def job_of(job: Mapping[str, Any]) -> Job:
    """Read a job of /v1/overview. Its name tells it from the others: the work, the series, the days."""
    error, days = job.get("error"), f", {_day(job['start'])} to {_day(job['end'])}" if job["end"] else ""
    return Job(
        f"{job['job']} {_series(job['named'], int(job['series']))}{days}",
        str(job["state"]),
        int(job["done"]),
        int(job["total"]),
        None if error is None else str(error),
    )


def _series(named: Sequence[str], count: int) -> str:
    """The first series by name and how many others there are, or how many there are."""
    if not named:
        return f"{count:,} series"
    return named[0] if count == 1 else f"{named[0]} and {count - 1:,} more"


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")
