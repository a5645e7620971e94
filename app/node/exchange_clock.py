"""The exchange's time: what the exchange has said it is, carried on by a clock of this machine that nobody can set."""

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
"""Frames that say for so long that we are behind are believed: REST cannot be asked, or it would have told by now."""
HEARD_MAX: Final = 1_000  # frames remembered of those
OFFSET_MS_KEPT: Final = 500  # a change by less is not worth a write


class KeptTime(NamedTuple):
    """What a later start can know of the time before the exchange has told it.

    `offset_ms` is what has to be added to the machine's clock, which somebody may set meanwhile; `base_ms` to the
    steady one, which holds as long as the machine's start `boot` lasts.
    """

    offset_ms: int
    base_ms: int
    boot: str

    def encoded(self) -> bytes:
        """The document that is stored."""
        return f"{self.offset_ms} {self.base_ms} {self.boot}".encode()

    @classmethod
    def decoded(cls, document: bytes) -> "KeptTime":
        """What a stored document says."""
        offset_ms, base_ms, boot = document.decode().split(" ", 2)
        return cls(int(offset_ms), int(base_ms), boot)


Keep = Callable[[KeptTime], Awaitable[None]]
"""Stores the time durably; may raise StoreUnavailable."""
HEARD_LATE_MS_MAX: Final = 3_000  # recorded frames came up to 2 s after the time they state (binance-facts section 7)


class ExchangeClock:
    """A Clock that runs on the exchange's time, by which klines close and weight windows turn.

    Until the exchange has told its time, the machine's is taken, corrected as it had to be the last time. From then on
    nothing that is done to the machine's clock matters.
    """

    def __init__(self, machine: MachineClock) -> None:
        self._machine = machine
        self._base_ms = machine.now_ms() - machine.steady_ms()
        self._kept = KeptTime(0, 0, "")
        self._ahead: list[tuple[int, int]] = []  # of frames in a row that say we are behind: when, and by how much
        self.measured = asyncio.Event()
        """Set when the exchange has told its time once."""
        self._is_confirmed = False
        self._doubted = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch by the exchange's clock."""
        return self._machine.steady_ms() + self._base_ms

    @property
    def offset_ms(self) -> int:
        """What has to be added to this machine's clock."""
        return self.now_ms() - self._machine.now_ms()

    def assume(self, kept: KeptTime) -> None:
        """Take what an earlier run kept for right until the exchange has told its time."""
        if not self._is_confirmed:
            is_same_boot = kept.boot != "" and kept.boot == self._machine.boot()
            steady_ms = self._machine.steady_ms()
            self._base_ms = kept.base_ms if is_same_boot else self._machine.now_ms() + kept.offset_ms - steady_ms
        self._kept = kept

    @property
    def is_trusted(self) -> bool:
        """Whether the exchange has confirmed this time since the start.

        A clock that lags makes old klines look like the newest. While it is not trusted nobody may say which is newest.
        """
        return self._is_confirmed

    def confirm(self) -> None:
        """The exchange agrees with this time."""
        self._is_confirmed = True

    def heard(self, event_ms: int) -> None:
        """A frame that the exchange sent at `event_ms` has come: it confirms our time, or gives reason to measure it.

        One frame never sets the time: REST says it better, and a wrong one must not make klines in progress closed
        ones. But REST may be forbidden for hours, during which a clock that lags would make us deaf.
        """
        now_ms = self.now_ms()
        ahead_ms = event_ms - now_ms
        if ahead_ms > DATE_ERROR_MS_MAX:
            self._doubted.set()
            self._ahead.append((now_ms, ahead_ms))
            if now_ms - self._ahead[0][0] >= HEARD_AHEAD_MS:
                self._put_right(min(by_ms for _, by_ms in self._ahead))
            elif len(self._ahead) > HEARD_MAX:
                del self._ahead[1]  # the first one says since when
            return
        self._ahead.clear()
        if ahead_ms >= -HEARD_LATE_MS_MAX and not self._is_confirmed:
            self.confirm()

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        await self._machine.sleep(delay_s)

    async def measure(self, rest: RestApi) -> bool:
        """Ask the exchange for its time and take it over; False when the answer took too long. Raises UpstreamError."""
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
        """To be called when a request leaves; what it returns, with the time its answer is dated by (to the second).

        That time lies between the moments the request left and its answer came; where ours cannot be right, it is put
        right. A clock that ran ahead would let the kline in progress pass for a closed one.
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
            return  # tried again at the next measurement; the store reports its own trouble, a follower keeps none

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

    async def run(self, rest: RestApi, rng: random.Random, keep: Keep) -> None:
        """Measure now and then, and soon when there is reason to doubt the time, for ever; `keep` what was found."""
        while True:
            try:
                delay_s = MEASURE_EVERY_S if await self.measure(rest) else RETRY_S
                await self._keep_time(keep)
            except UpstreamError:
                delay_s = RETRY_S  # the clock of this machine serves meanwhile; other requests report the failure
            self._doubted.clear()
            delay_s *= rng.uniform(0.9, 1.1)
            await self.sleep(min(delay_s, RETRY_S))
            while (delay_s := delay_s - RETRY_S) > 0 and not self._doubted.is_set():
                await self._keep_time(keep)  # it changes when somebody sets the machine's clock
                await self._until_doubted(min(delay_s, RETRY_S))

    async def _until_doubted(self, delay_s: float) -> None:
        """Return after `delay_s`, or as soon as there is reason to doubt the time."""
        if delay_s > 0:
            await self._first(self._doubted.wait(), self.sleep(delay_s))
