"""Printed rows for the tests of blocks."""

from collections.abc import Sequence
from typing import Final

from app.domain.interval import DAY_MS, MINUTE_MS
from app.domain.kline import Kline
from app.domain.span import Span
from app.kinds.klines import KLINES

DAY: Final = Span(20_000 * DAY_MS, 20_001 * DAY_MS)


def printed(opens_ms: Sequence[int]) -> list[bytes]:
    """A row for each open time, all different."""
    rows = (
        Kline(each, "1.10", "1.2", "0.9", "1.05", str(each % 977), "12.5", each % 31, "7", "8.25") for each in opens_ms
    )
    return [KLINES.encode(row, row.open_ms + MINUTE_MS - 1) for row in rows]
