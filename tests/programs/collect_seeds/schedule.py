"""What a seed plays: the kind of exchange, and which mishaps happen when."""

from dataclasses import dataclass
from random import Random
from typing import Final

from app.domain.interval import MINUTE_MS

BEGIN_MS: Final = 1_790_000_000_000 - 1_790_000_000_000 % MINUTE_MS
ACTIVE_MS: Final = 6 * MINUTE_MS
QUIET_MS: Final = 13 * MINUTE_MS
"""Without mishaps at the end: longer than the time after which a gap nobody answers for is confirmed."""
MISHAPS: Final = (
    "cut",
    "cut_all",
    "silent",
    "mute",
    "gap",
    "gap",
    "duplicate",
    "delay",
    "refuse_connects",
    "refuse_channel",
    "lose_acknowledgement",
    "rest_fails",
    "rest_limited",
    "garbage",
    "closing",
    "heartbeat",
    "reset_book",
    "reset_trades",
    "snapshot_missing",
    "kill",
    "kill",
    "unfollow",
    "leave",
)


@dataclass(frozen=True)
class Plan:
    """One seed's run."""

    seed: int
    is_streamed: bool
    has_final_flag: bool
    is_newest_page: bool
    absent_part: float
    mishaps: tuple[tuple[int, str], ...]


def plan(seed: int) -> Plan:
    """The plan of a seed."""
    chance = Random(f"plan {seed}")
    kinds = chance.sample(sorted(set(MISHAPS)), chance.randint(3, len(set(MISHAPS))))
    allowed = [kind for kind in MISHAPS if kind in kinds]
    times = sorted(BEGIN_MS + chance.randrange(5_000, ACTIVE_MS) for _ in range(chance.randint(4, 30)))
    return Plan(
        seed,
        is_streamed=chance.random() < 0.5,
        has_final_flag=chance.random() < 0.7,
        is_newest_page=chance.random() < 0.5,
        absent_part=chance.choice((0.0, 0.0, 0.02, 0.1)),
        mishaps=tuple((time_ms, chance.choice(allowed)) for time_ms in times),
    )
