"""The exchange's time: this machine's clock, corrected by what the exchange says it is."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Final

from app.ports import Clock, Priority, RestApi, UpstreamError

MEASURE_EVERY_S: Final = 600.0
RETRY_S: Final = 30.0
ROUND_TRIP_MS_MAX: Final = 2_000  # a slower answer says too little about the time
MEASURE_WAIT_S: Final = 30.0
DATE_ERROR_MS_MAX: Final = 500  # servers behind one name differ a little
OFFSET_MS_MIN: Final = 50  # less than this is within the error of measurement
JUMP_MS_MAX: Final = 1_000  # a machine's clock that is put back by more has to be confirmed by the exchange anew
HEARD_LATE_MS_MAX: Final = 3_000  # recorded frames came up to 2 s after the time they state (realdata/INDEX.md)


class ExchangeClock:
    """A Clock that runs on the exchange's time, by which klines close and weight windows turn."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self.offset_ms = 0
        """What has to be added to this machine's clock."""
        self.measured = asyncio.Event()
        """Set when the exchange has told its time once."""
        self._is_confirmed = False
        self._latest_ms = 0
        self._doubted = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch by the exchange's clock."""
        machine_ms = self._machine.now_ms()
        if machine_ms < self._latest_ms - JUMP_MS_MAX:
            self._is_confirmed = False
            self._doubted.set()
        self._latest_ms = machine_ms
        return machine_ms + self.offset_ms

    @property
    def is_trusted(self) -> bool:
        """Whether the exchange has confirmed this time since the start, and since the machine's clock was put back.

        A clock that lags makes old klines look like the newest. While it is not trusted nobody may say which is newest.
        """
        self.now_ms()  # sees whether it was put back
        return self._is_confirmed

    def confirm(self) -> None:
        """The exchange agrees with this time."""
        self._is_confirmed = True
        self._latest_ms = self._machine.now_ms()

    def heard(self, event_ms: int) -> None:
        """A frame that the exchange sent at `event_ms` has come: it confirms our time, or gives reason to measure it.

        It never sets the time: REST says it better, and one wrong frame must not make klines in progress closed ones.
        """
        ahead_ms = event_ms - self.now_ms()
        if ahead_ms > DATE_ERROR_MS_MAX:
            self._doubted.set()
        elif ahead_ms >= -HEARD_LATE_MS_MAX and not self._is_confirmed:
            self.confirm()

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
        self.confirm()
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
            self.confirm()

        return dated

    async def until_measured(self) -> None:
        """Return when the exchange has told its time, or after `MEASURE_WAIT_S`: then it cannot be reached anyway."""
        await self._first(self.measured.wait(), self.sleep(MEASURE_WAIT_S))

    @staticmethod
    async def _first(event: Coroutine[None, None, object], patience: Coroutine[None, None, None]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(event), group.create_task(patience)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    async def run(self, rest: RestApi, rng: random.Random) -> None:
        """Measure now and then, and soon when there is reason to doubt the time, for ever."""
        while True:
            try:
                delay_s = MEASURE_EVERY_S if await self.measure(rest) else RETRY_S
            except UpstreamError:
                delay_s = RETRY_S  # the clock of this machine serves meanwhile; other requests report the failure
            self._doubted.clear()
            delay_s *= rng.uniform(0.9, 1.1)
            await self.sleep(min(delay_s, RETRY_S))
            await self._until_doubted(delay_s - RETRY_S)

    async def _until_doubted(self, delay_s: float) -> None:
        """Return after `delay_s`, or as soon as there is reason to doubt the time."""
        if delay_s > 0:
            await self._first(self._doubted.wait(), self.sleep(delay_s))
