"""The exchange's time: measured at the exchange, and advanced by this machine's steady clock, which nobody can set."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, NamedTuple

from app.ports.clock import MachineClock
from app.ports.errors import StoreUnavailable, UpstreamError
from app.ports.exchange import Priority, RestApi

MEASURE_EVERY_S: Final = 600.0
RETRY_S: Final = 30.0
ROUND_TRIP_MS_MAX: Final = 2_000  # a slower answer says too little about the time
MEASURE_WAIT_S: Final = 30.0
DATE_ERROR_MS_MAX: Final = 500  # servers behind one name differ a little
OFFSET_MS_MIN: Final = 50  # less than this is within the error of measurement
HEARD_AHEAD_MS: Final = 45_000
"""Frames that show our clock behind for this long are believed: a reachable REST would have corrected it."""
HEARD_MAX: Final = 1_000  # such frames kept
OFFSET_MS_KEPT: Final = 500  # a smaller change is not worth a write


class KeptTime(NamedTuple):
    """The stored clock correction that a later start uses until the exchange has reported its time.

    `offset_ms` is to be added to the machine's wall clock, which somebody may set meanwhile; `base_ms` to the steady
    clock, which is valid only until the machine reboots (`boot` names the boot).
    """

    offset_ms: int
    base_ms: int
    boot: str

    def encoded(self) -> bytes:
        """The document to store."""
        return f"{self.offset_ms} {self.base_ms} {self.boot}".encode()

    @classmethod
    def decoded(cls, document: bytes) -> "KeptTime":
        """Parse a stored document. Raises ValueError."""
        offset_ms, base_ms, boot = document.decode().split(" ", 2)
        return cls(int(offset_ms), int(base_ms), boot)


Keep = Callable[[KeptTime], Awaitable[None]]
"""Stores the KeptTime durably; may raise StoreUnavailable."""
HEARD_LATE_MS_MAX: Final = 3_000  # recorded frames arrived up to 2 s after their event time (binance-facts section 7)


class ExchangeClock:
    """A Clock that runs on the exchange's time, by which klines close and weight windows turn.

    Until the exchange has reported its time, the machine's clock is used with the correction stored by the last run.
    From then on changes to the machine's clock have no effect.
    """

    def __init__(self, machine: MachineClock) -> None:
        self._machine = machine
        self._base_ms = machine.now_ms() - machine.steady_ms()
        self._kept = KeptTime(0, 0, "")
        self._ahead: list[tuple[int, int]] = []  # frames in a row that show us behind: (our time, by how many ms)
        self.measured = asyncio.Event()
        """Set when the exchange's time was measured once."""
        self._is_confirmed = False
        self._doubted = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch by the exchange's clock."""
        return self._machine.steady_ms() + self._base_ms

    @property
    def offset_ms(self) -> int:
        """Milliseconds to add to this machine's clock for the exchange's time."""
        return self.now_ms() - self._machine.now_ms()

    def assume(self, kept: KeptTime) -> None:
        """Use an earlier run's stored correction until the exchange has reported its time."""
        if not self._is_confirmed:
            is_same_boot = kept.boot != "" and kept.boot == self._machine.boot()
            steady_ms = self._machine.steady_ms()
            self._base_ms = kept.base_ms if is_same_boot else self._machine.now_ms() + kept.offset_ms - steady_ms
        self._kept = kept

    @property
    def is_trusted(self) -> bool:
        """Whether the exchange has confirmed this time since the start.

        A clock that lags makes old klines look like the newest. While it is not trusted, no answer may claim to end
        with the newest kline.
        """
        return self._is_confirmed

    def confirm(self) -> None:
        """Mark this clock as trusted: the exchange has confirmed its time."""
        self._is_confirmed = True

    def heard(self, event_ms: int) -> int:
        """Check our time against a frame that the exchange sent at `event_ms`; confirm or re-measure it, and return it.

        One frame never sets the time: REST is more precise, and a wrong frame must not turn klines in progress into
        closed ones. But REST may be banned for hours, in which a lagging clock would cut us off from live klines;
        therefore frames that show us behind for HEARD_AHEAD_MS set the time.
        """
        now_ms = self.now_ms()
        ahead_ms = event_ms - now_ms
        if ahead_ms > DATE_ERROR_MS_MAX:
            self._doubted.set()
            self._ahead.append((now_ms, ahead_ms))
            if now_ms - self._ahead[0][0] >= HEARD_AHEAD_MS:
                self._put_right(min(by_ms for _, by_ms in self._ahead))
            elif len(self._ahead) > HEARD_MAX:
                del self._ahead[1]  # the first one is kept: it tells since when
            return self.now_ms()
        self._ahead.clear()
        if ahead_ms >= -HEARD_LATE_MS_MAX and not self._is_confirmed:
            self.confirm()
        return now_ms

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        await self._machine.sleep(delay_s)

    async def measure(self, rest: RestApi) -> bool:
        """Measure the exchange's time and set this clock; False when the answer took too long. Raises UpstreamError."""
        sent_ms = self._machine.steady_ms()
        server_ms = await rest.server_time_ms(Priority.TAIL)
        received_ms = self._machine.steady_ms()
        if received_ms - sent_ms > ROUND_TRIP_MS_MAX:
            return False
        by_ms = server_ms - (sent_ms + received_ms) // 2 - self._base_ms
        if abs(by_ms) >= OFFSET_MS_MIN:
            self._put_right(by_ms)
        self.confirm()
        self.measured.set()
        return True

    def asking(self) -> Callable[[int], None]:
        """Call this when a request is sent, and the returned function with the date of its answer (ms, whole seconds).

        The date lies between the sending of the request and the arrival of its answer; a clock that contradicts it is
        corrected. A clock that runs ahead would make the kline in progress look closed.
        """
        sent_ms = self._machine.steady_ms()

        def dated(date_ms: int) -> None:
            ahead_ms = sent_ms + self._base_ms - (date_ms + 1_000)
            behind_ms = date_ms - self.now_ms()
            if ahead_ms > DATE_ERROR_MS_MAX:
                self._put_right(-ahead_ms)
            elif behind_ms > DATE_ERROR_MS_MAX:
                self._put_right(behind_ms)
            self.confirm()

        return dated

    def _put_right(self, by_ms: int) -> None:
        self._base_ms += by_ms
        self._ahead.clear()

    async def _keep_time(self, keep: Keep) -> None:
        now, before = KeptTime(self.offset_ms, self._base_ms, self._machine.boot()), self._kept
        is_changed = max(abs(now.offset_ms - before.offset_ms), abs(now.base_ms - before.base_ms)) >= OFFSET_MS_KEPT
        if not is_changed and now.boot == before.boot:
            return
        try:
            await keep(now)
            self._kept = now
        except StoreUnavailable:
            return  # tried again later; the store reports its own failure, and a follower stores no time

    async def until_measured(self) -> None:
        """Return when the exchange's time was measured, or after `MEASURE_WAIT_S`: the exchange is unreachable then."""
        await self._first(self.measured.wait(), self.sleep(MEASURE_WAIT_S))

    @staticmethod
    async def _first(event: Coroutine[None, None, object], patience: Coroutine[None, None, None]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(event), group.create_task(patience)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    async def run(self, rest: RestApi, rng: random.Random, keep: Keep) -> None:
        """Measure every MEASURE_EVERY_S, sooner when frames contradict the time, for ever; `keep` stores the result."""
        while True:
            try:
                delay_s = MEASURE_EVERY_S if await self.measure(rest) else RETRY_S
                await self._keep_time(keep)
            except UpstreamError:
                delay_s = RETRY_S  # this clock runs on meanwhile; other requests report the failure
            self._doubted.clear()
            delay_s *= rng.uniform(0.9, 1.1)
            await self.sleep(min(delay_s, RETRY_S))
            while (delay_s := delay_s - RETRY_S) > 0 and not self._doubted.is_set():
                await self._keep_time(keep)  # the offset changes when somebody sets the machine's clock
                await self._until_doubted(min(delay_s, RETRY_S))

    async def _until_doubted(self, delay_s: float) -> None:
        """Return after `delay_s` seconds, or as soon as a frame contradicts the time."""
        if delay_s > 0:
            await self._first(self._doubted.wait(), self.sleep(delay_s))
