"""The REST weight that this address may spend in a clock minute, shared out by priority."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from app.domain.interval import MINUTE_MS
from app.ports import Clock, Priority, StandDown, UpstreamUnavailable
from infra.binance.stand_down import StandDownGuard
from infra.binance.waiting import until

SHARES: Final = {Priority.USER: 0.95, Priority.TAIL: 0.85, Priority.BACKFILL: 0.70, Priority.VERIFY: 0.50}
"""How far each priority may fill the minute: history leaves room for the tail, everything leaves room for users, and
the last 5 % stay for programs behind the same address whose requests are under way."""
SKEW_MS_MAX: Final = 1_000
"""How far the exchange's minute may be from ours: weight spent so close to a minute's turn counts on both sides."""
IN_FLIGHT_MAX: Final = 16
"""Requests at once: at 100 ms each that is four times what 2,400 a minute allows."""
WAITERS_MAX: Final = 500  # of each priority; who comes later is better off asking again than waiting for minutes


class Ticket:
    """The weight of one request, from before it leaves until it has ended."""

    __slots__ = ("is_success", "last_minute", "sent_ms", "used_weight", "weight")

    def __init__(self, weight: int, sent_ms: int, last_minute: int) -> None:
        self.weight = weight
        self.sent_ms = sent_ms
        self.last_minute = last_minute
        self.used_weight: int | None = None
        self.is_success = False

    def answered(self, used_weight: int | None, *, is_success: bool) -> None:
        """Note the answer: what it says this address has used in the minute, and whether it was a good one."""
        self.used_weight = used_weight
        self.is_success = is_success


class _Waiter:
    __slots__ = ("outcome", "wake", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.wake = asyncio.Event()
        self.outcome: Ticket | StandDown | None = None


class WeightBudget:
    """Admits requests while the minute has room for their weight, smaller priorities first, each in order of arrival.

    Weight counts in every clock minute in which the exchange may book it, from when it leaves until its answer is
    here. What other programs behind the same address use is learned from the answers' X-MBX-USED-WEIGHT-1M. After a
    start or a stand-down requests leave one at a time until an answer has told the state of the minute.
    """

    def __init__(self, clock: Clock, limit_per_minute: int, stand_down: StandDownGuard) -> None:
        assert limit_per_minute > 0, "the weight limit must be positive"
        self.limit = limit_per_minute
        self._clock = clock
        self._stand_down = stand_down
        self._used: dict[int, int] = {}
        self._in_flight: set[Ticket] = set()
        self._queues: dict[Priority, deque[_Waiter]] = {priority: deque() for priority in Priority}
        self._is_probing = True

    @property
    def used(self) -> int:
        """The weight used in the current clock minute, as far as known; never less than the truth about our own."""
        self._roll(self._clock.now_ms())
        return self._used.get(self._clock.now_ms() // MINUTE_MS, 0)

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def spend(self, weight: int, priority: Priority) -> AsyncIterator[Ticket]:
        """Hold `weight` for one request; enter when there is room. Raises StandDown, UpstreamUnavailable."""
        ticket = await self._acquire(weight, priority)
        try:
            yield ticket
        finally:
            self._settle(ticket)

    async def stand_down(self, status: int, retry_after: str | None, msg: str, sent_ms: int) -> StandDown:
        """Begin the stand-down that an answer calls for and store it; all who wait are refused. Returns the error."""
        error = self._stand_down.announce(status, retry_after, msg, sent_ms)
        self._refuse_waiters()
        await self._stand_down.persist()
        return error

    def restore(self, until_ms: int, reason: str) -> None:
        """Take over a stored stand-down: of an earlier run, or of another process behind the same address."""
        self._stand_down.restore(until_ms, reason)
        self._refuse_waiters()

    async def _acquire(self, weight: int, priority: Priority) -> Ticket:
        if weight > self.limit:
            raise UpstreamUnavailable(f"a request of weight {weight} never fits WEIGHT_PER_MINUTE={self.limit}")
        if refusal := self._stand_down.active():
            await self._stand_down.persist()
            raise refusal
        queue = self._queues[priority]
        if len(queue) >= WAITERS_MAX:
            raise UpstreamUnavailable(f"{len(queue)} requests of priority {priority.name} wait for weight already")
        waiter = _Waiter(weight)
        queue.append(waiter)
        self._admit()
        try:
            while waiter.outcome is None:
                await until(waiter.wake, self._clock, self._until_turn_s())
                self._admit()
        except asyncio.CancelledError:
            self._withdraw(waiter, queue)
            raise
        if isinstance(waiter.outcome, StandDown):
            raise StandDown(waiter.outcome.until_ms, waiter.outcome.reason)
        return waiter.outcome

    def _withdraw(self, waiter: _Waiter, queue: deque[_Waiter]) -> None:
        if isinstance(waiter.outcome, Ticket):
            self._settle(waiter.outcome)
        elif waiter.outcome is None:
            queue.remove(waiter)
            self._admit()

    def _admit(self) -> None:
        """Let in who is first, and then next, as long as there is room."""
        now_ms = self._clock.now_ms()
        self._roll(now_ms)
        if self._stand_down.active():
            self._refuse_waiters()
            return
        for priority, queue in self._queues.items():
            while queue:
                if not self._has_room(queue[0].weight, priority, now_ms):
                    return  # nobody overtakes
                waiter = queue.popleft()
                waiter.outcome = self._book(waiter.weight, now_ms)
                waiter.wake.set()

    def _has_room(self, weight: int, priority: Priority, now_ms: int) -> bool:
        if len(self._in_flight) >= (1 if self._is_probing else IN_FLIGHT_MAX):
            return False
        ceiling = max(int(self.limit * SHARES[priority]), weight)  # a small limit still lets one request through
        return all(self._used.get(minute, 0) + weight <= ceiling for minute in _minutes(now_ms, now_ms))

    def _book(self, weight: int, now_ms: int) -> Ticket:
        minutes = _minutes(now_ms, now_ms)
        for minute in minutes:
            self._used[minute] = self._used.get(minute, 0) + weight
        ticket = Ticket(weight, now_ms, minutes[-1])
        self._in_flight.add(ticket)
        return ticket

    def _settle(self, ticket: Ticket) -> None:
        now_ms = self._clock.now_ms()
        self._roll(now_ms)
        self._in_flight.discard(ticket)
        minutes = _minutes(ticket.sent_ms, now_ms)
        if ticket.used_weight is None:
            self._is_probing = self._is_probing and not ticket.is_success
        elif len(minutes) == 1:  # else it cannot be told which minute the header speaks of
            unseen = sum(other.weight for other in self._in_flight)
            self._used[minutes[0]] = max(self._used.get(minutes[0], 0), ticket.used_weight + unseen)
            self._is_probing = self._stand_down.active() is not None
        if ticket.is_success:
            self._stand_down.note_success()
        self._admit()

    def _roll(self, now_ms: int) -> None:
        """Count what is in flight in the minutes that have begun since it left; forget minutes long past."""
        newest = (now_ms + SKEW_MS_MAX) // MINUTE_MS
        for ticket in self._in_flight:
            for minute in range(max(ticket.last_minute + 1, newest - 1), newest + 1):
                self._used[minute] = self._used.get(minute, 0) + ticket.weight
            ticket.last_minute = max(ticket.last_minute, newest)
        for minute in [minute for minute in self._used if minute < newest - 2]:
            del self._used[minute]

    def _refuse_waiters(self) -> None:
        refusal = self._stand_down.active()
        if refusal is None:
            return
        self._is_probing = True
        for queue in self._queues.values():
            while queue:
                waiter = queue.popleft()
                waiter.outcome = refusal
                waiter.wake.set()

    def _until_turn_s(self) -> float:
        """Seconds until the minute before this one no longer counts, which is when room appears by itself."""
        now_ms = self._clock.now_ms()
        past_ms = (now_ms - SKEW_MS_MAX) % MINUTE_MS
        return (MINUTE_MS - past_ms) / 1_000


def _minutes(first_ms: int, last_ms: int) -> range:
    """The exchange's clock minutes that the time between may belong to."""
    return range((first_ms - SKEW_MS_MAX) // MINUTE_MS, (last_ms + SKEW_MS_MAX) // MINUTE_MS + 1)
