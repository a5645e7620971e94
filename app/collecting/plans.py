"""The streams that the collector's messages are stored in, as data."""

from typing import Final, NamedTuple

from app.collecting.naming import ROOT
from app.ports.publishing import StreamPlan

BYTES_MAX: Final = 1_920 * 1024 * 1024
"""Of all streams in all: a server whose max_file_store is 2 GiB has room for them."""
AGE_S: Final = 24 * 3_600
WINDOW_S: Final = 3_600
"""How long the ids of what is kept are remembered: six times the longest outage promised (ten minutes). The server
needs about 100 bytes of memory for each."""
PASSING_WINDOW_S: Final = 120
"""The same for what is replaced by its newest, which is repeated for seconds at most."""


class StreamLimits(NamedTuple):
    """What an operator chooses: bytes of all streams, age of the oldest message, duplicate window of what is kept."""

    bytes_max: int = BYTES_MAX
    age_s: int = AGE_S
    window_s: int = WINDOW_S


class _Row(NamedTuple):
    name: str
    subjects: tuple[str, ...]
    percent: int
    is_kept: bool


_ROWS: Final = (
    _Row("MARKET_TRADES", (f"{ROOT}.*.*.trade",), 40, is_kept=True),
    _Row("MARKET_SERIES", (f"{ROOT}.*.*.kline.*", f"{ROOT}.*.*.funding_rate", f"{ROOT}.*.*.gap"), 15, is_kept=True),
    _Row("MARKET_BOOKS", (f"{ROOT}.*.*.orderbook",), 35, is_kept=False),
    _Row("MARKET_STATES", (f"{ROOT}.*.*.ticker", f"{ROOT}.*.*.open_interest"), 10, is_kept=False),
)


def stream_plans(limits: StreamLimits) -> tuple[StreamPlan, ...]:
    """The streams under `limits`. Raises ValueError for a duplicate window that is longer than the age."""
    if limits.window_s > limits.age_s:
        raise ValueError(
            f"the duplicate window ({limits.window_s} s) must not exceed the age of the oldest message "
            f"({limits.age_s} s): raise NATS_MAX_AGE_HOURS or lower NATS_DUPLICATE_WINDOW_SEC"
        )
    return tuple(
        StreamPlan(
            row.name,
            row.subjects,
            limits.bytes_max * row.percent // 100,
            limits.age_s,
            limits.window_s if row.is_kept else min(PASSING_WINDOW_S, limits.window_s),
        )
        for row in _ROWS
    )
