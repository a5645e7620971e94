"""Days on which the exchange's own intervals are known to disagree with each other.

Source: binance-facts section 7. A kline that touches one of them is never rolled up: the exchange's own row
of the requested interval is fetched and served.
"""

from typing import Final

from app.domain.interval import DAY_MS
from app.domain.span import Span, Spans

_DAYS: Final = {
    "2019-09-24": 1569283200000,  # 18:00–20:00: an hour lost in 1h, present in 5m and 30m
    "2022-07-16": 1657929600000,  # 00–08h
    "2023-08-16": 1692144000000,  # 08–16h; 1m corrected afterwards
    "2023-11-10": 1699574400000,  # 12–16h
    "2024-10-28": 1730073600000,  # 20:00–21:13: 74 flat empty minutes in 1m, volume in 1h
    "2025-01-29": 1738108800000,  # 01:30–03:00: flat minutes where 30m and 1h have volume
}
DISAGREEMENTS: Final = Spans(Span(start_ms, start_ms + DAY_MS) for start_ms in _DAYS.values())
"""The UTC days on which roll-up is not trusted."""
