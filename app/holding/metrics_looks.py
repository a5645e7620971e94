"""What was seen of the archive's metrics files, one document a symbol and month, and when each is looked at again."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from app.binance.metrics_csv import MetricsDay
from app.binance.unreadable import UNREADABLE
from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS
from app.domain.span import Span
from app.ports.store import StoreReader, StoreWriter

RETRY_MS: Final = 6 * HOUR_MS
"""When a file that is missing, or cannot be read, is tried again while it is young: it may be late."""
RETRY_AGE_MS: Final = 7 * DAY_MS  # after it should have been published
AGAIN_MS: Final = 30 * DAY_MS
"""When an old file that is missing, and a file that was read, is looked at again: files are republished."""
AGAIN_AGE_MS: Final = 90 * DAY_MS  # assumed: a file that was read so long after it appeared is not replaced any more
CONFIRM_MS: Final = HOUR_MS // 2
"""When a file that may have been kept from us is looked at again: only then are its rows believed to be absent."""
MONTH: Final = INTERVALS["1M"].grid

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Look(NamedTuple):
    """What was seen of one file: its SHA-256, or None and the reason why it gave no rows; and when (ms)."""

    sha256: str | None
    reason: str
    looked_ms: int
    is_proof: bool = True
    """False if the file gave no rows, and it is not sure yet that it has none."""


Looks = dict[int, Look]
"""By the begin of the file's day (ms)."""


def due_ms(file: MetricsDay, look: Look | None) -> int | None:
    """When `file` is to be looked at next; None: never."""
    if look is None:
        return file.published_ms
    age_ms = look.looked_ms - file.published_ms
    if not look.is_proof:
        return look.looked_ms + CONFIRM_MS
    if look.sha256 is None:
        return look.looked_ms + (RETRY_MS if age_ms < RETRY_AGE_MS else AGAIN_MS)
    return look.looked_ms + AGAIN_MS if age_ms < AGAIN_AGE_MS else None


def month_of(time_ms: int) -> Span:
    """The UTC month that contains `time_ms`."""
    start_ms = MONTH.floor(time_ms)
    return Span(start_ms, MONTH.shift(start_ms, 1))


async def looks_of(store: StoreReader, symbol: str, month_ms: int) -> Looks:
    """What was seen of the files of the month that begins at `month_ms`. Raises StoreUnavailable.

    A record that cannot be read counts as none: the files are read again.
    """
    stored = await store.document(_name(symbol, month_ms))
    if stored is None:
        return {}
    try:
        return msgspec.json.decode(stored[0], type=Looks)
    except UNREADABLE:
        return {}


async def save_looks(store: StoreWriter, symbol: str, month_ms: int, looks: Mapping[int, Look], now_ms: int) -> None:
    """Store what was seen. Raises StoreUnavailable."""
    await store.save_document(_name(symbol, month_ms), msgspec.json.encode(looks), now_ms)


def _name(symbol: str, month_ms: int) -> str:
    return f"metrics-files/{symbol}/{_EPOCH + timedelta(milliseconds=month_ms):%Y-%m}"
