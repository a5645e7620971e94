"""The REST weight that this address may spend in a clock minute, shared out by priority."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from app.domain.interval import MINUTE_MS
from app.domain.kind import Bucket
from app.domain.reason import Reason
from app.events import Event, ExchangeAnswers, Observe
from app.ports.clock import Clock
from app.ports.errors import BucketFull, StandDown, UpstreamAway, UpstreamUnavailable
from app.ports.exchange import Priority
from infra.binance.breaker import Breaker
from infra.binance.http import NoAnswer
from infra.binance.rate_state import GRANTED, SKEW_MS_MAX, RateState, RateStateKeeper
from infra.binance.stand_down import StandDownGuard
from infra.binance.waiting import until

SHARES: Final = {Priority.USER: 0.95, Priority.TAIL: 0.85, Priority.BACKFILL: 0.70, Priority.VERIFY: 0.50}
"""How far each priority may fill the minute, and the requests at once: history leaves room for the tail, everything
leaves room for users, and the last 5 % stay for programs behind the same address whose requests are under way."""
IN_FLIGHT_MAX: Final = 16
"""Requests at once, of all processes: at 100 ms each that is four times what 2,400 a minute allows."""
WAITERS_MAX: Final = 500  # of each priority; who comes later is better off asking again than waiting for minutes
RECHECK_S: Final = 0.5  # how soon who waits learns what other processes did: room they left, a stand-down they met


class Ticket:
    """The weight of one request, from before it leaves until it has ended."""

    __slots__ = ("failure", "is_answered", "is_success", "sent_ms", "used_weight", "weight")

    def __init__(self, weight: int, sent_ms: int) -> None:
        self.weight = weight
        self.sent_ms = sent_ms
        self.used_weight: int | None = None
        self.is_answered = False
        self.is_success = False
        self.failure: str | None = None

    def answered(self, used_weight: int | None, *, is_success: bool) -> None:
        """Note the answer: what it says this address has used in the minute, and whether it was a good one."""
        self.used_weight = used_weight
        self.is_answered = True
        self.is_success = is_success


class _Waiter:
    __slots__ = ("bucket", "outcome", "wake", "weight")

    def __init__(self, weight: int, bucket: Bucket | None) -> None:
        self.weight = weight
        self.bucket = bucket
        self.wake = asyncio.Event()
        self.outcome: Ticket | StandDown | UpstreamAway | BucketFull | None = None


class WeightBudget:
    """Admits requests while the minute has room for their weight: users, tails, backfill, verification (`Priority`).

    Within a priority requests leave in order of arrival. Weight counts in every clock minute in which the exchange
    may book it, from when it leaves until its answer is here. What other programs behind the same address use is
    learned from the answers' X-MBX-USED-WEIGHT-1M. Until an answer has told the state of a minute, requests leave
    one at a time. What the exchange counts in a bucket of its own is refused when that is full: five minutes are
    too long to wait. All this holds for all processes together that keep the rate state with `keeper`; `stand_down`
    and `breaker` keep theirs with it too.
    """

    def __init__(
        self,
        clock: Clock,
        limit_per_minute: int,
        keeper: RateStateKeeper,
        stand_down: StandDownGuard,
        breaker: Breaker,
        observe: Observe,
    ) -> None:
        assert limit_per_minute > 0, "the weight limit must be positive"
        self.limit = limit_per_minute
        self._clock = clock
        self._keeper = keeper
        self._stand_down = stand_down
        self._breaker = breaker
        self._observe = observe
        self._queues: dict[Priority, deque[_Waiter]] = {priority: deque() for priority in Priority}

    @property
    def used(self) -> int:
        """The weight used in the current clock minute, as far as known; never less than the truth about our own."""
        with self._keeper as state:
            return state.used(self._clock.now_ms() // MINUTE_MS)

    @property
    def is_silent(self) -> bool:
        """Whether the exchange has not answered for so long that only probes are sent."""
        with self._keeper as state:
            return state.is_silent

    def is_short(self) -> bool:
        """Whether half of what the minute allows is used: what can wait, or be had from memory, had better."""
        return self.used * 2 > self.limit

    def waiting(self, priority: Priority) -> int:
        """Requests of this process that wait for room."""
        return len(self._queues[priority])

    def ceiling(self, priority: Priority) -> int:
        """The weight up to which a priority may fill a minute."""
        return int(self.limit * SHARES[priority])

    def complaints(self) -> list[str]:
        """What keeps requests from leaving, or makes them leave slowly, a stand-down apart."""
        found = [self._keeper.trouble] if self._keeper.trouble else []
        with self._keeper as state:
            refusal = state.refusal(self._clock.now_ms())
        if refusal is not None and not isinstance(refusal, StandDown):
            found.append(str(refusal))
        return found

    @asynccontextmanager
    async def spend(
        self, weight: int, priority: Priority, *, bucket: Bucket | None = None, is_probe: bool = False
    ) -> AsyncIterator[Ticket]:
        """Hold `weight` for one request; enter when there is room. Raises StandDown, UpstreamUnavailable.

        A probe is let through while the exchange is silent, but does not wait for anything.
        """
        ticket = self._book_probe(weight) if is_probe else await self._acquire(weight, priority, bucket)
        try:
            yield ticket
        except NoAnswer as error:
            ticket.failure = str(error)
            raise
        finally:
            self._settle(ticket)

    async def stand_down(self, status: int, retry_after: str | None, msg: str, sent_ms: int) -> StandDown:
        """Begin the stand-down that an answer calls for and store it; all who wait are refused. Returns the error."""
        error = self._stand_down.announce(status, retry_after, msg, sent_ms)
        self._admit()
        await self._stand_down.persist()
        return error

    def check(self) -> None:
        """Raise StandDown when one began after a request was let in: it may still be waiting for a connection."""
        if refusal := self._stand_down.active():
            raise refusal

    def restore(self, until_ms: int, reason: str) -> None:
        """Take over a stored stand-down: of an earlier run, or of another process behind the same address."""
        self._stand_down.restore(until_ms, reason)
        self._admit()

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
            self._admit()
            while waiter.outcome is None:
                await self._wait(waiter)
        except asyncio.CancelledError:
            self._withdraw(waiter, queue)
            raise
        if isinstance(waiter.outcome, Ticket):
            return waiter.outcome
        await self._stand_down.persist()  # this process may be the first one that can
        if isinstance(waiter.outcome, StandDown):
            raise StandDown(waiter.outcome.until_ms, waiter.outcome.reason)
        if isinstance(waiter.outcome, BucketFull):
            raise waiter.outcome
        raise UpstreamAway(waiter.outcome.until_ms, str(waiter.outcome))

    async def _wait(self, waiter: _Waiter) -> None:
        """Return when something may have changed. Who is first looks again and again; the others are woken."""
        waiter.wake.clear()
        if waiter is not self._first():
            await waiter.wake.wait()
        elif not await until(waiter.wake, self._clock, min(RECHECK_S, self._until_turn_s())):
            self._admit()

    def _first(self) -> _Waiter | None:
        return next((queue[0] for queue in self._queues.values() if queue), None)

    def _withdraw(self, waiter: _Waiter, queue: deque[_Waiter]) -> None:
        if isinstance(waiter.outcome, Ticket):
            self._settle(waiter.outcome)
        elif waiter.outcome is None:
            queue.remove(waiter)
            self._admit()

    def _admit(self) -> None:
        """Let in who is first, and then next, as long as there is room; or refuse them all."""
        with self._keeper as state:
            now_ms = self._clock.now_ms()
            state.roll(self._keeper.me, now_ms)
            refusal = state.refusal(now_ms)
            if refusal is None:
                self._let_in(state, now_ms)
        if refusal is not None:
            self._refuse(refusal)
        elif (first := self._first()) is not None:
            first.wake.set()  # it may not have been first before

    def _let_in(self, state: RateState, now_ms: int) -> None:
        for priority, queue in self._queues.items():
            while queue:
                if (full := self._full(state, queue[0].bucket, now_ms)) is not None:
                    waiter = queue.popleft()
                    waiter.outcome = full
                    waiter.wake.set()
                    continue
                if not self._has_room(state, queue[0].weight, priority, now_ms):
                    return  # nobody overtakes
                waiter = queue.popleft()
                if waiter.bucket is not None:
                    state.draw(waiter.bucket, now_ms)
                waiter.outcome = self._book(state, waiter.weight, now_ms)
                waiter.wake.set()

    def _full(self, state: RateState, bucket: Bucket | None, now_ms: int) -> BucketFull | None:
        if bucket is None or state.asked(bucket, now_ms) < int(GRANTED[bucket] * SHARES[Priority.USER]):
            return None
        reason = f"the {bucket.name} requests that the exchange grants in five minutes are used up"
        return BucketFull(state.room_ms(bucket, now_ms), reason)

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

    def _book_probe(self, weight: int) -> Ticket:
        with self._keeper as state:
            now_ms = self._clock.now_ms()
            refusal = state.stand_down(now_ms)
            if refusal is None and state.has_room(weight, self.ceiling(Priority.USER), now_ms):
                return self._book(state, weight, now_ms)
        raise refusal or UpstreamUnavailable("there is no room for a probe in this minute", Reason.WEIGHT)

    def _settle(self, ticket: Ticket) -> None:
        news: Event | None = None
        with self._keeper as state:
            now_ms = self._clock.now_ms()
            state.ended(self._keeper.me, ticket.weight, now_ms)
            if ticket.used_weight is not None or (ticket.is_success and ticket.weight):  # else it says nothing of it
                state.told(ticket.used_weight, ticket.sent_ms, now_ms)
            if ticket.is_success:
                state.calmed(now_ms)
            if ticket.failure is not None:
                news = self._breaker.unanswered(state, ticket.failure)
            elif ticket.is_answered and state.answered():
                news = ExchangeAnswers()
        if news is not None:
            self._observe(news)
        self._admit()

    def _refuse(self, refusal: StandDown | UpstreamAway) -> None:
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
