"""The delay of closing frames after the end of their minute."""

from infra.sandbox.noise import chance
from infra.sandbox.universe import Instrument

CLOSE_DELAY_MIN_MS = 200  # recorded: closing frames come 0.2–2.0 s after the minute, those of quiet symbols last
_BUSY_SPREAD_MS = 500
_QUIET_FLOOR_MS = 1_200
_QUIET_SPREAD_MS = 800


def close_delay_ms(item: Instrument, minute_ms: int) -> int:
    """The delay in ms of a symbol's closing frame after the end of the minute."""
    bits = chance(f"{item.uid}/close/{minute_ms}")
    if item.quiet:
        return _QUIET_FLOOR_MS + bits % _QUIET_SPREAD_MS
    return CLOSE_DELAY_MIN_MS + bits % _BUSY_SPREAD_MS
