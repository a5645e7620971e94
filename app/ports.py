"""The few interfaces that have two implementations: one that touches the world and one that a test or simulation owns."""

from typing import Protocol


class Clock(Protocol):
    """Wall time and waiting. Nothing else in klinenode may read a clock or sleep."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock's time."""
        ...
