"""What goes wrong during a run, and when: drawn from a seed."""

from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

PAUSE_S: Final = (3.0, 12.0)  # between two of them
OUTAGE_S: Final = (3.0, 15.0)
KILLED_S: Final = (0.5, 6.0)
NATS: Final = "nats killed"
COLLECTOR: Final = "collector killed"
BOTH: Final = "both killed"
PROCESSES: Final = (NATS, COLLECTOR, BOTH)
VENUES: Final = ("binance", "okx", "deribit")
BLOCKS: Final = 4
"""Faults of the exchange between two of the processes."""

_FAULTS: Final[tuple[tuple[dict[str, object], tuple[str, ...]], ...]] = (
    ({"kind": "cut"}, VENUES),
    ({"kind": "half_open"}, VENUES),
    ({"kind": "silence", "duration_s": 20}, VENUES),
    ({"kind": "rotation", "delay_s": 4}, VENUES),
    ({"kind": "gap", "count": 2}, VENUES),
    ({"kind": "gap", "count": 3, "stream": "*rade*"}, VENUES),  # aggTrade, trades-all, trades
    ({"kind": "duplicate", "count": 20}, VENUES),
    ({"kind": "malformed_frame", "count": 2}, VENUES),
    ({"kind": "slow_socket", "delay_s": 3}, VENUES),
    ({"kind": "http_5xx", "duration_s": 8}, VENUES),
    ({"kind": "http_429", "retry_after_s": 3, "count": 2}, VENUES),
    ({"kind": "refuse", "duration_s": 6}, VENUES),
    ({"kind": "reset"}, ("okx", "deribit")),
    ({"kind": "snapshot_missing", "count": 1}, ("okx", "deribit")),
    ({"kind": "error_answer", "count": 1, "code": 1}, ("okx", "deribit")),
)


class Mishap(NamedTuple):
    """One thing that goes wrong `pause_s` after the one before; a killed process is away for `away_s`."""

    pause_s: float
    kind: str
    fault: dict[str, object]
    """What the sandbox is told; empty if a process is killed."""
    away_s: float

    @property
    def name(self) -> str:
        """What it is called on the page."""
        return str(self.fault["kind"]) if self.fault else self.kind


def mishaps(seed: int) -> Iterator[Mishap]:
    """The endless sequence of a seed: every kind comes before one comes again."""
    chance = Random(f"mishaps {seed}")
    processes: list[str] = []
    faults: list[dict[str, object]] = []
    while True:
        for _ in range(BLOCKS):
            if not faults:
                faults = [{**fault, "venue": venue} for fault, venues in _FAULTS for venue in venues]
                chance.shuffle(faults)
            yield Mishap(chance.uniform(*PAUSE_S), "fault", faults.pop(), 0.0)
        if not processes:
            processes = list(PROCESSES)
            chance.shuffle(processes)
        kind = processes.pop()
        away_s = chance.uniform(*(KILLED_S if kind == COLLECTOR else OUTAGE_S))
        yield Mishap(chance.uniform(*PAUSE_S), kind, {}, away_s)
