"""The clock: wall time and waiting, which a test or the simulation may own."""

from typing import Protocol


class Clock(Protocol):
    """Wall time and waiting. Nothing else in klinenode may read a clock or sleep."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock's time."""
        ...


class MachineClock(Clock, Protocol):
    """The clock of this machine, which somebody may set, and beside it one that nobody can."""

    def steady_ms(self) -> int:
        """Milliseconds since some moment; it only goes forward, also while the machine is suspended."""
        ...

    def boot(self) -> str:
        """Which start of the machine `steady_ms` counts from; "" where another process may count from another one."""
        ...
