"""The exchange's time: this machine's clock, corrected by what the exchange says it is."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from app.ports import Clock, Priority, RestApi, UpstreamError

MEASURE_EVERY_S: Final = 600.0
RETRY_S: Final = 30.0
ROUND_TRIP_MS_MAX: Final = 2_000  # a slower answer says too little about the time
MEASURE_WAIT_S: Final = 30.0
DATE_ERROR_MS_MAX: Final = 500  # servers behind one name differ a little
OFFSET_MS_MIN: Final = 50  # less than this is within the error of measurement


class ExchangeClock:
    """A Clock that runs on the exchange's time, by which klines close and weight windows turn."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self.offset_ms = 0
        """What has to be added to this machine's clock."""
        self.measured = asyncio.Event()
        """Set when the exchange has told its time once."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch by the exchange's clock."""
        return self._machine.now_ms() + self.offset_ms

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        await self._machine.sleep(delay_s)

    async def measure(self, rest: RestApi) -> bool:
        """Ask the exchange for its time and take it over; False when the answer took too long. Raises UpstreamError."""
        sent_ms = self._machine.now_ms()
        server_ms = await rest.server_time_ms(Priority.TAIL)
        received_ms = self._machine.now_ms()
        if received_ms - sent_ms > ROUND_TRIP_MS_MAX:
            return False
        offset_ms = server_ms - (sent_ms + received_ms) // 2
        self.offset_ms = offset_ms if abs(offset_ms) >= OFFSET_MS_MIN else 0
        self.measured.set()
        return True

    def asking(self) -> Callable[[int], None]:
        """To be called when a request leaves; what it returns, with the time its answer is dated by (to the second).

        That time lies between the moments the request left and its answer came; where ours cannot be right, it is put
        right. A clock that ran ahead would let the kline in progress pass for a closed one.
        """
        sent_ms = self._machine.now_ms()

        def dated(date_ms: int) -> None:
            ahead_ms = sent_ms + self.offset_ms - (date_ms + 1_000)
            behind_ms = date_ms - self.now_ms()
            if ahead_ms > DATE_ERROR_MS_MAX:
                self.offset_ms -= ahead_ms
            elif behind_ms > DATE_ERROR_MS_MAX:
                self.offset_ms += behind_ms

        return dated

    async def until_measured(self) -> None:
        """Return when the exchange has told its time, or after `MEASURE_WAIT_S`: then it cannot be reached anyway."""
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(self.measured.wait())
            patience = group.create_task(self.sleep(MEASURE_WAIT_S))
            await asyncio.wait((waiting, patience), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            patience.cancel()

    async def run(self, rest: RestApi, rng: random.Random) -> None:
        """Measure now and then, for ever."""
        while True:
            try:
                delay_s = MEASURE_EVERY_S if await self.measure(rest) else RETRY_S
            except UpstreamError:
                delay_s = RETRY_S  # the clock of this machine serves meanwhile; other requests report the failure
            await self.sleep(delay_s * rng.uniform(0.9, 1.1))
