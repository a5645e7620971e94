"""What only several snapshots tell: frames a second, and when what is missing will be held."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from app.status.snapshot import Snapshot

KEPT_MS: Final = 30_000  # rates are those of the last half minute: long enough for a page of REST klines to count


@dataclass(frozen=True, slots=True)
class Rates:
    """Changes a second; None while there is only one snapshot, or nothing moves."""

    frames: float | None = None
    klines: float | None = None
    left_s: int | None = None
    """In how many seconds nothing is missing any more, at this rate."""


class Trend:
    """Keeps the snapshots of the last KEPT_MS."""

    def __init__(self) -> None:
        self._kept: deque[Snapshot] = deque()

    def add(self, snapshot: Snapshot) -> Rates:
        """The rates up to `snapshot`. A node that has been restarted begins anew."""
        kept = self._kept
        if kept and (snapshot.frames < kept[-1].frames or snapshot.taken_ms <= kept[-1].taken_ms):
            kept.clear()
        kept.append(snapshot)
        while snapshot.taken_ms - kept[0].taken_ms > KEPT_MS:
            kept.popleft()
        first = kept[0]
        elapsed_s = (snapshot.taken_ms - first.taken_ms) / 1000
        if not elapsed_s:
            return Rates()
        frames = (snapshot.frames - first.frames) / elapsed_s
        filled = None if first.missing is None or snapshot.missing is None else first.missing - snapshot.missing
        if not filled or filled < 0 or not snapshot.missing:
            return Rates(frames)
        klines = filled / elapsed_s
        return Rates(frames, klines, int(snapshot.missing / klines))
