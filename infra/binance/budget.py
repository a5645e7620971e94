"""The REST weight that this address may spend in a clock minute, shared out by priority."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from app.binance.rate_state import GRANTED, SKEW_MS_MAX, SLOT_MS, SLOTS_COUNTED, RateState
from app.domain.interval import MINUTE_MS
from app.domain.kind import Bucket
from app.domain.reason import Reason
from app.events import Event, ExchangeAnswers, Observe
from app.ports.clock import Clock
from app.ports.coordination import RateStateKeeper
from app.ports.errors import BucketFull, StandDown, UpstreamAway, UpstreamUnavailable
from app.ports.exchange import Priority
from infra.binance.breaker import Breaker, away
from infra.binance.stand_down import StandDownGuard, standing_down
from infra.net.http import NoAnswer
from infra.net.waiting import until

SHARES: Final = {Priority.USER: 0.95, Priority.TAIL: 0.85, Priority.BACKFILL: 0.70, Priority.VERIFY: 0.50}
"""The part of the minute's weight, and of the requests at once, that each priority may fill. Backfill leaves room for
tails, all leave room for users, and 5 % remain for other programs behind the address with requests under way."""
IN_FLIGHT_MAX: Final = 16
"""Requests at once, of all processes: at 100 ms each, four times what 2,400 a minute allows."""
WAITERS_MAX: Final = 500  # of each priority; one more is refused, because it would wait for minutes
RECHECK_S: Final = 0.5  # until a waiting request sees what other processes did: freed room, began a stand-down


class Ticket:
    """The booked weight of one request, from before it leaves until it has ended."""

    __slots__ = ("failure", "is_answered", "is_success", "sent_ms", "used_weight", "weight")

    def __init__(self, weight: int, sent_ms: int) -> None:
        self.weight = weight
        self.sent_ms = sent_ms
        self.used_weight: int | None = None
        self.is_answered = False
        self.is_success = False
        self.failure: str | None = None

    def answered(self, used_weight: int | None, *, is_success: bool) -> None:
        """Record the answer: the weight that it says this address has used in the minute, and whether it succeeded."""
        self.used_weight = used_weight
        self.is_answered = True
        self.is_success = is_success


class _Waiter:
    __slots__ = ("bucket", "is_stored", "outcome", "wake", "weight")

    def __init__(self, weight: int, bucket: Bucket | None) -> None:
        self.weight = weight
        self.bucket = bucket
        self.wake = asyncio.Event()
        self.outcome: Ticket | StandDown | UpstreamAway | BucketFull | None = None
        self.is_stored = False  # the outcome, with what it books


class WeightBudget:
    """Admits requests while the minute has room for their weight: users, tails, backfill, verification (`Priority`).

    Within a priority, requests leave in order of arrival. Weight counts in every clock minute in which the exchange may
    book it, from before the request leaves until its answer has arrived. X-MBX-USED-WEIGHT-1M in the answers shows what
    other programs behind the same address use. Until an answer has shown that for a minute, requests leave one at a
    time. A request of a full bucket (which the exchange counts apart) is refused: five minutes are too long to wait.
    Where endpoints share a bucket, requests that are no users' are spread over the five minutes: a burst would leave
    users of the other endpoints without room, from when their part is used up until the burst no longer counts.
    All this holds for all processes that share `keeper`, together; `stand_down` and `breaker` use the same one. Each
    decision and its booking are one `update`: no two requests are admitted on the same reading.
    """

    def __init__(
        self,
        clock: Clock,
        limit_per_minute: int,
        keeper: RateStateKeeper,
        stand_down: StandDownGuard,
        breaker: Breaker,
        observe: Observe,
        *,
        is_data_shared: bool = True,
    ) -> None:
        """`is_data_shared`: whether the exchange counts the requests of all endpoints of /futures/data together."""
        assert limit_per_minute > 0, "the weight limit must be positive"
        self.limit = limit_per_minute
        self._clock = clock
        self._keeper = keeper
        self._stand_down = stand_down
        self._breaker = breaker
        self._observe = observe
        self._is_data_shared = is_data_shared
        self._queues: dict[Priority, deque[_Waiter]] = {priority: deque() for priority in Priority}

    @property
    def used(self) -> int:
        """The weight used in the current clock minute, as far as known; at least that of this process."""
        return self._keeper.look(lambda state: state.used(self._clock.now_ms() // MINUTE_MS))

    @property
    def is_silent(self) -> bool:
        """Whether the exchange has not answered for so long that only probes are sent."""
        return self._keeper.look(lambda state: state.is_silent)

    def is_short(self) -> bool:
        """Whether half of the minute's limit is used: what can wait, or be answered from memory, should."""
        return self.used * 2 > self.limit

    def waiting(self, priority: Priority) -> int:
        """The number of requests of this process that wait for room."""
        return len(self._queues[priority])

    def ceiling(self, priority: Priority) -> int:
        """The weight up to which a priority may fill a minute."""
        return int(self.limit * SHARES[priority])

    def complaints(self) -> list[str]:
        """Return what stops or slows down requests, except a stand-down."""
        found = [self._keeper.trouble] if self._keeper.trouble else []
        refusal = self._keeper.look(lambda state: _refusal(state, self._clock.now_ms()))
        if refusal is not None and not isinstance(refusal, StandDown):
            found.append(str(refusal))
        return found

    @asynccontextmanager
    async def spend(
        self, weight: int, priority: Priority, *, bucket: Bucket | None = None, is_probe: bool = False
    ) -> AsyncIterator[Ticket]:
        """Wait until there is room for `weight` and hold it for one request. Raises StandDown, UpstreamUnavailable.

        A probe is admitted while the exchange is silent, but never waits.
        """
        ticket = await self._book_probe(weight) if is_probe else await self._acquire(weight, priority, bucket)
        try:
            yield ticket
        except NoAnswer as error:
            ticket.failure = str(error)
            raise
        finally:
            await self._admit(ended=ticket)

    async def stand_down(self, status: int, retry_after: str | None, msg: str, sent_ms: int) -> StandDown:
        """Begin the stand-down that an answer requires, refuse waiting requests, and store it. Returns the error."""
        error = await self._stand_down.announce(status, retry_after, msg, sent_ms)
        await self._admit()
        await self._stand_down.persist()
        return error

    async def check(self) -> None:
        """Raise StandDown if one began after the request was admitted, while it waited for a connection."""
        await self._stand_down.check()

    async def restore(self, until_ms: int, reason: str) -> None:
        """Apply a stored stand-down of an earlier run or of another process behind the same address."""
        await self._stand_down.restore(until_ms, reason)
        await self._admit()

    async def _acquire(self, weight: int, priority: Priority, bucket: Bucket | None) -> Ticket:
        if weight > self.limit:
            text = f"a request of weight {weight} never fits WEIGHT_PER_MINUTE={self.limit}"
            raise UpstreamUnavailable(text, Reason.WEIGHT)
        queue = self._queues[priority]
        if len(queue) >= WAITERS_MAX:
            raise UpstreamUnavailable(
                f"{len(queue)} requests of priority {priority.name} wait for weight already", Reason.WEIGHT
            )
        waiter = _Waiter(weight, bucket)
        queue.append(waiter)
        try:
            await self._admit()
            while not waiter.is_stored:
                await self._wait(waiter)
        except asyncio.CancelledError:
            await self._withdraw(waiter, queue)
            raise
        assert waiter.outcome is not None, "it was decided before it was stored"
        if isinstance(waiter.outcome, Ticket):
            return waiter.outcome
        await self._stand_down.persist()  # this process may be the first that can write it
        if isinstance(waiter.outcome, StandDown):
            raise StandDown(waiter.outcome.until_ms, waiter.outcome.reason)
        if isinstance(waiter.outcome, BucketFull):
            raise waiter.outcome
        raise UpstreamAway(waiter.outcome.until_ms, str(waiter.outcome))

    async def _wait(self, waiter: _Waiter) -> None:
        """Return when something may have changed. The first waiting request rechecks; the others are woken."""
        waiter.wake.clear()
        if waiter is not self._first():
            await waiter.wake.wait()
        elif not await until(waiter.wake, self._clock, min(RECHECK_S, self._until_turn_s())):
            await self._admit()

    def _first(self) -> _Waiter | None:
        return next((queue[0] for queue in self._queues.values() if queue), None)

    async def _withdraw(self, waiter: _Waiter, queue: deque[_Waiter]) -> None:
        if isinstance(waiter.outcome, Ticket):
            await self._admit(ended=waiter.outcome)
        elif waiter.outcome is None:
            queue.remove(waiter)
            await self._admit()

    async def _admit(self, *, ended: Ticket | None = None) -> None:
        """Count the end of a request, if given; then admit waiting requests while there is room, or refuse them all.

        Waiting requests continue, and events are reported, only after the state was stored.
        """
        decided: list[_Waiter] = []
        events: list[Event] = []

        def change(state: RateState) -> None:
            now_ms = self._clock.now_ms()
            if ended is not None and (event := self._end(state, ended, now_ms)) is not None:
                events.append(event)
            decided.extend(self._decide(state, now_ms))

        try:
            await self._keeper.update(change)
        finally:  # also when the caller is cancelled
            for event in events:
                self._observe(event)
            for waiter in decided:
                waiter.is_stored = True
                waiter.wake.set()
            if (first := self._first()) is not None:
                first.wake.set()  # it may not have been first before

    def _end(self, state: RateState, ticket: Ticket, now_ms: int) -> Event | None:
        state.ended(self._keeper.me, ticket.weight, now_ms)
        if ticket.used_weight is not None or (
            ticket.is_success and ticket.weight
        ):  # else it says nothing of the weight
            state.told(ticket.used_weight, ticket.sent_ms, now_ms)
        if ticket.is_success:
            state.calmed(now_ms)
        if ticket.failure is not None:
            return self._breaker.unanswered(state, ticket.failure)
        return ExchangeAnswers() if ticket.is_answered and state.answered() else None

    def _decide(self, state: RateState, now_ms: int) -> Iterator[_Waiter]:
        """Give waiting requests their outcome as far as it is known now; yields them."""
        state.roll(self._keeper.me, now_ms)
        refusal = _refusal(state, now_ms)
        for priority, queue in self._queues.items():
            while queue:
                waiter = queue[0]
                outcome = refusal or self._full(state, waiter.bucket, priority, now_ms)
                if outcome is not None:
                    waiter.outcome = outcome
                elif self._has_room(state, waiter.weight, priority, now_ms):
                    if waiter.bucket is not None:
                        state.draw(waiter.bucket, now_ms)
                    waiter.outcome = self._book(state, waiter.weight, now_ms)
                else:
                    return  # nobody overtakes
                yield queue.popleft()

    def _full(self, state: RateState, bucket: Bucket | None, priority: Priority, now_ms: int) -> BucketFull | None:
        if bucket is None:
            return None
        limit = bucket.limit(is_data_shared=self._is_data_shared)
        ceiling = int(GRANTED[limit] * SHARES[priority])
        if state.asked(limit, now_ms) >= ceiling:
            reason = f"the {limit.name} requests that the exchange grants in five minutes are used up"
            return BucketFull(state.room_ms(limit, now_ms), reason)
        is_spread = limit is not bucket and priority is not Priority.USER
        if is_spread and state.asked_lately(limit, now_ms) * SLOTS_COUNTED >= ceiling:
            reason = f"the {limit.name} requests of this half minute are used up"
            return BucketFull((now_ms // SLOT_MS + 1) * SLOT_MS, reason)
        return None

    def _has_room(self, state: RateState, weight: int, priority: Priority, now_ms: int) -> bool:
        is_feeling = self._keeper.trouble is not None or not state.is_known(now_ms)
        if is_feeling and not state.may_feel(now_ms):
            return False
        if state.requests >= int(IN_FLIGHT_MAX * SHARES[priority]):
            return False
        ceiling = max(self.ceiling(priority), weight)  # a small limit still lets one request through
        return state.has_room(weight, ceiling, now_ms)

    def _book(self, state: RateState, weight: int, now_ms: int) -> Ticket:
        state.book(self._keeper.me, weight, now_ms)
        return Ticket(weight, now_ms)

    async def _book_probe(self, weight: int) -> Ticket:
        booked: list[Ticket] = []

        def change(state: RateState) -> StandDown | None:
            now_ms = self._clock.now_ms()
            refusal = standing_down(state, now_ms)
            if refusal is None and state.has_room(weight, self.ceiling(Priority.USER), now_ms):
                booked.append(self._book(state, weight, now_ms))
            return refusal

        try:
            refusal = await self._keeper.update(change)
        except asyncio.CancelledError:
            for ticket in booked:
                await self._admit(ended=ticket)
            raise
        if booked:
            return booked[0]
        raise refusal or UpstreamUnavailable("there is no room for a probe in this minute", Reason.WEIGHT)

    def _until_turn_s(self) -> float:
        """Seconds until the previous minute no longer counts: then there is room again without any answer."""
        now_ms = self._clock.now_ms()
        past_ms = (now_ms - SKEW_MS_MAX) % MINUTE_MS
        return (MINUTE_MS - past_ms) / 1_000


def _refusal(state: RateState, now_ms: int) -> StandDown | UpstreamAway | None:
    """Return why no request but a probe may leave now, or None."""
    return standing_down(state, now_ms) or away(state, now_ms)
