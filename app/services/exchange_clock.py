"""The exchange's time: this machine's clock, corrected by what the exchange says it is."""

import random
from typing import Final

from app.ports import Clock, Priority, RestApi, UpstreamError

MEASURE_EVERY_S: Final = 600.0
RETRY_S: Final = 30.0
ROUND_TRIP_MS_MAX: Final = 2_000  # a slower answer says too little about the time
OFFSET_MS_MIN: Final = 50  # less than this is within the error of measurement


class ExchangeClock:
    """A Clock that runs on the exchange's time, by which klines close and weight windows turn."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self.offset_ms = 0
        """What has to be added to this machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch by the exchange's clock."""
        return self._machine.now_ms() + self.offset_ms

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        await self._machine.sleep(delay_s)

    async def measure(self, rest: RestApi) -> None:
        """Ask the exchange for its time and take it over. Raises UpstreamError."""
        sent_ms = self._machine.now_ms()
        server_ms = await rest.server_time_ms(Priority.TAIL)
        received_ms = self._machine.now_ms()
        if received_ms - sent_ms > ROUND_TRIP_MS_MAX:
            return
        offset_ms = server_ms - (sent_ms + received_ms) // 2
        self.offset_ms = offset_ms if abs(offset_ms) >= OFFSET_MS_MIN else 0

    async def run(self, rest: RestApi, rng: random.Random) -> None:
        """Measure now and then, for ever."""
        while True:
            try:
                await self.measure(rest)
                delay_s = MEASURE_EVERY_S
            except UpstreamError:
                delay_s = RETRY_S  # the clock of this machine serves meanwhile; other requests report the failure
            await self.sleep(delay_s * rng.uniform(0.9, 1.1))
