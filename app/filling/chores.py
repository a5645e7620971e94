"""The quiet moment: the middle of a minute, when no kline closes and no client asks for one that has just closed."""

from collections.abc import Callable
from typing import Final

from app.domain.interval import MINUTE_MS
from app.ports.clock import Clock

MIDDLE_MS: Final = MINUTE_MS // 2


async def in_quiet_moments(clock: Clock, do: Callable[[], None]) -> None:
    """Call `do` in the middle of each minute, for ever."""
    while True:
        await clock.sleep(((MIDDLE_MS - clock.now_ms() - 1) % MINUTE_MS + 1) / 1000)
        do()
