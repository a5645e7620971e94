"""What only several snapshots tell: frames a second, and when what is missing will be held and a job be done."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from app.status.job import RUNNING
from app.status.snapshot import Snapshot

KEPT_MS: Final = 30_000  # rates are those of the last half minute: long enough for a page of REST klines to count


@dataclass(frozen=True, slots=True)
class Rates:
    """Changes a second; None while there is only one snapshot, or nothing moves."""

    frames: float | None = None
    klines: float | None = None
    left_s: int | None = None
    """In how many seconds nothing is missing any more, at this rate."""
    jobs_left_s: Mapping[str, int] = field(default_factory=dict)
    """By name of a running job: in how many seconds it will be done, at the rate of its last half minute."""


class Trend:
    """Keeps the snapshots of the last KEPT_MS."""

    def __init__(self) -> None:
        self._kept: deque[Snapshot] = deque()

    def add(self, snapshot: Snapshot) -> Rates:
        """The rates up to `snapshot`. After a restart of the node they begin again."""
        kept = self._kept
        if kept and (snapshot.frames < kept[-1].frames or snapshot.taken_ms < kept[-1].taken_ms):
            kept.clear()
        if kept and snapshot.taken_ms == kept[-1].taken_ms:
            kept.pop()  # the node makes its overview once a second; this is the same one
        kept.append(snapshot)
        while snapshot.taken_ms - kept[0].taken_ms > KEPT_MS:
            kept.popleft()
        first = kept[0]
        elapsed_s = (snapshot.taken_ms - first.taken_ms) / 1000
        if not elapsed_s:
            return Rates()
        frames, jobs_left_s = (snapshot.frames - first.frames) / elapsed_s, self._jobs_left_s()
        filled = None if first.missing is None or snapshot.missing is None else first.missing - snapshot.missing
        if not filled or filled < 0 or not snapshot.missing:
            return Rates(frames, jobs_left_s=jobs_left_s)
        klines = filled / elapsed_s
        return Rates(frames, klines, int(snapshot.missing / klines), jobs_left_s)

    def _jobs_left_s(self) -> dict[str, int]:
        last, found = self._kept[-1], {}
        for job in last.jobs:
            if job.state != RUNNING or job.total <= job.done:
                continue
            earlier = ((each, then) for each in self._kept for then in each.jobs if then.name == job.name)
            first, then = next(earlier)
            if (done := job.done - then.done) > 0:
                found[job.name] = int((job.total - job.done) * (last.taken_ms - first.taken_ms) / 1000 / done)
        return found
