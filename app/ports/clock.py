"""The clock: wall time and sleeping, which tests and the simulation replace."""

from typing import Protocol


class Clock(Protocol):
    """Wall time and sleeping. Nothing else in klinenode may read a clock or sleep."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock's time."""
        ...


class ConfirmedClock(Clock, Protocol):
    """A clock of which is known whether it is right."""

    @property
    def is_trusted(self) -> bool:
        """Whether the exchange has confirmed this time. One that lags would pass old klines off as the newest."""
        ...


class MachineClock(Clock, Protocol):
    """The machine's wall clock, which may be set at any time, and its monotonic clock, which cannot."""

    def steady_ms(self) -> int:
        """Milliseconds since an unspecified moment; never goes back, and counts while the machine is suspended."""
        ...

    def boot(self) -> str:
        """The id of the boot that `steady_ms` counts from; "" if other processes may count from another moment."""
        ...
