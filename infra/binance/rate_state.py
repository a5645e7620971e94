"""The rate state of this address: weight, requests under way, stand-down, the exchange's silence; and their rules."""

import threading
from dataclasses import dataclass, field
from typing import Final, Protocol

from app.domain.interval import MINUTE_MS
from app.domain.kind import Bucket
from app.domain.validity import is_fresh
from app.ports.errors import StandDown, UpstreamAway

SKEW_MS_MAX: Final = 1_000
"""How far the exchange's minute may be from ours: weight spent so close to a minute's turn counts on both sides."""
MINUTES_MAX: Final = 8  # kept: three that may count, and as many of a process whose clock is not right yet
FEELING_MS: Final = 2_000  # without knowledge of the minute the next request waits for an answer, but not longer
CALM_MS: Final = MINUTE_MS  # an answer this long after a stand-down ended means it is over: escalation starts anew
SILENCE_MAX: Final = 5  # requests in a row without an answer: as many as one request of the tail is tried
PAUSE_MS_MAX: Final = 15_000  # between two probes: what a return of the exchange may stay unnoticed
PROBE_MS: Final = 2_000  # who is refused while a probe is under way may ask again after this long
GRANTED: Final = {Bucket.FUNDING: 500, Bucket.DATA: 1_000}
"""Requests in WINDOW_MS (binance-facts section 1.1)."""
WINDOW_MS: Final = 5 * MINUTE_MS
SLOT_MS: Final = 30_000  # requests are counted by half minutes; whether the exchange's window slides is not known
SLOTS_MAX: Final = 12  # kept of each bucket: those that count in five minutes, and the one in progress


@dataclass(slots=True)
class Minute:
    """A clock minute: the weight booked in it, and whether an answer of that minute has told the exchange's count."""

    used: int = 0
    is_told: bool = False


@dataclass(slots=True)
class UnderWay:
    """The requests of one process that have not ended, and the newest minute in which their weight counts."""

    requests: int = 0
    weight: int = 0
    minute: int = 0


@dataclass(slots=True)
class RateState:
    """What is known, in total and by process (`under_way`, by the number each process goes by)."""

    minutes: dict[int, Minute] = field(default_factory=dict)
    under_way: dict[int, UnderWay] = field(default_factory=dict)
    left_ms: int = 0
    """When the latest request left."""
    until_ms: int = 0
    """The end of the latest stand-down; it began at `began_ms`, as one of `in_a_row`, for `reason`."""
    began_ms: int = 0
    in_a_row: int = 0
    reason: str = ""
    failures: int = 0
    """Requests in a row that got no answer, the last one because of `silence`."""
    probes: int = 0
    """Probes in a row that got none either; the next one is due at `retry_ms`, one is under way until `probe_ms`."""
    retry_ms: int = 0
    probe_ms: int = 0
    silence: str = ""
    slots: dict[Bucket, dict[int, int]] = field(default_factory=dict)
    """By bucket: the requests that left in each half minute."""

    # --- weight -------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        """The requests of all processes that are under way."""
        return sum(each.requests for each in self.under_way.values())

    def used(self, minute: int) -> int:
        """The weight used in a clock minute; what left earlier and has not ended may be booked in it too."""
        booked = self.minutes[minute].used if minute in self.minutes else 0
        return booked + sum(each.weight for each in self.under_way.values() if each.minute < minute)

    def has_room(self, weight: int, ceiling: int, now_ms: int) -> bool:
        """Whether `weight` stays within `ceiling` in every minute that the exchange may book it in."""
        return all(self.used(minute) + weight <= ceiling for minute in minutes_of(now_ms, now_ms))

    def is_known(self, now_ms: int) -> bool:
        """Whether an answer has told the state of this minute."""
        entry = self.minutes.get(now_ms // MINUTE_MS)
        return entry is not None and entry.is_told

    def may_feel(self, now_ms: int) -> bool:
        """Whether a request may leave that feels its way: the one before it has ended, or takes too long."""
        return not self.requests or not is_fresh(self.left_ms, now_ms, FEELING_MS)

    def roll(self, me: int, now_ms: int) -> None:
        """Count what process `me` has under way in the minutes that have begun since."""
        mine = self.under_way.get(me)
        newest = (now_ms + SKEW_MS_MAX) // MINUTE_MS
        if mine is None or newest in (mine.minute, mine.minute - 1):
            return
        first = newest - 1 if newest < mine.minute else max(mine.minute + 1, newest - 1)  # clocks are put right
        for minute in range(first, newest + 1):
            self._minute(minute).used += mine.weight
        mine.minute = newest

    def book(self, me: int, weight: int, now_ms: int) -> None:
        """A request of process `me` leaves."""
        self.roll(me, now_ms)
        minutes = minutes_of(now_ms, now_ms)
        for minute in minutes:
            self._minute(minute).used += weight
        mine = self.under_way.setdefault(me, UnderWay(minute=minutes[-1]))
        mine.requests += 1
        mine.weight += weight
        self.left_ms = now_ms

    def ended(self, me: int, weight: int, now_ms: int) -> None:
        """A request of process `me` has ended, with or without an answer."""
        self.roll(me, now_ms)
        mine = self.under_way.get(me)
        if mine is None:
            return  # it left under another number, whose process counts as dead
        mine.requests -= 1
        mine.weight -= weight
        if mine.requests <= 0:
            del self.under_way[me]

    def told(self, used_weight: int | None, sent_ms: int, now_ms: int) -> None:
        """A request sent at `sent_ms` was answered: by then this address had used `used_weight`, if that was said."""
        minutes = minutes_of(sent_ms, now_ms)
        is_over = now_ms >= self.until_ms  # else what it says of the minute is old when requests may leave again
        if used_weight is None:
            self._minute(now_ms // MINUTE_MS).is_told |= is_over
        elif len(minutes) == 1:  # else it cannot be told which minute it speaks of
            unseen = sum(each.weight for each in self.under_way.values())
            entry = self._minute(minutes[0])
            entry.used = max(entry.used, used_weight + unseen)
            entry.is_told |= is_over

    # --- buckets ------------------------------------------------------------------------------------------------

    def asked(self, bucket: Bucket, now_ms: int) -> int:
        """The requests that the exchange may count in its five minutes now; those of a clock put back count too."""
        first = (now_ms - WINDOW_MS - SKEW_MS_MAX) // SLOT_MS
        return sum(count for slot, count in self.slots.get(bucket, {}).items() if slot >= first)

    def room_ms(self, bucket: Bucket, now_ms: int) -> int:
        """When the oldest requests that count now will no longer."""
        first = (now_ms - WINDOW_MS - SKEW_MS_MAX) // SLOT_MS
        oldest = min((slot for slot in self.slots.get(bucket, {}) if slot >= first), default=first)
        return (oldest + 1) * SLOT_MS + WINDOW_MS + SKEW_MS_MAX

    def draw(self, bucket: Bucket, now_ms: int) -> None:
        """A request that is counted in `bucket` leaves."""
        slots = self.slots.setdefault(bucket, {})
        slot = now_ms // SLOT_MS
        slots[slot] = slots.get(slot, 0) + 1
        while len(slots) > SLOTS_MAX:
            del slots[max(slots, key=lambda other: abs(other - slot))]

    # --- learning -----------------------------------------------------------------------------------------------

    def unlearn(self) -> None:
        """From now on requests feel their way again: what others use of the minutes is not known any more."""
        for entry in self.minutes.values():
            entry.is_told = False

    def _minute(self, minute: int) -> Minute:
        entry = self.minutes.get(minute)
        if entry is None:
            if len(self.minutes) >= MINUTES_MAX:
                del self.minutes[max(self.minutes, key=lambda other: abs(other - minute))]
            entry = self.minutes[minute] = Minute()
        return entry

    # --- stand-down and silence ---------------------------------------------------------------------------------

    def stand_down(self, now_ms: int) -> StandDown | None:
        """The error to raise while the stand-down lasts."""
        return StandDown(self.until_ms, self.reason) if now_ms < self.until_ms else None

    def refusal(self, now_ms: int) -> StandDown | UpstreamAway | None:
        """Why no ordinary request may leave now, if that is so."""
        standing_down = self.stand_down(now_ms)
        if standing_down is not None or not self.is_silent:
            return standing_down
        reason = f"the exchange has not answered {self.failures} times in a row, it is probed until it does"
        due_ms = now_ms + PROBE_MS if self.is_probe_due(now_ms) else self.retry_ms
        return UpstreamAway(due_ms, f"{reason} ({self.silence})")

    def calmed(self, now_ms: int) -> None:
        """A request succeeded: long enough after a stand-down, escalation starts anew."""
        if now_ms >= self.until_ms + CALM_MS:
            self.in_a_row = 0

    @property
    def is_silent(self) -> bool:
        """Whether so many requests in a row got no answer that only probes are sent."""
        return self.failures >= SILENCE_MAX

    def is_probe_due(self, now_ms: int) -> bool:
        """Whether the pause after the last probe is over; one longer than any pause is from a clock since put right."""
        return not 0 < self.retry_ms - now_ms <= PAUSE_MS_MAX

    def answered(self) -> bool:
        """The exchange has answered; returns whether it was silent before."""
        was_silent = self.is_silent
        self.failures = self.probes = self.retry_ms = self.probe_ms = 0
        self.silence = ""
        return was_silent

    # --- processes ----------------------------------------------------------------------------------------------

    def join(self, other: "RateState", me: int) -> None:
        """Take over what process `me` knows from when it went by its own knowledge."""
        for minute, entry in other.minutes.items():
            mine = self._minute(minute)
            mine.used = max(mine.used, entry.used)
        for bucket, slots in other.slots.items():
            ours = self.slots.setdefault(bucket, {})
            for slot, count in slots.items():
                ours[slot] = max(ours.get(slot, 0), count)
            for slot in sorted(ours)[:-SLOTS_MAX]:
                del ours[slot]
        self.under_way.pop(me, None)
        if me in other.under_way:
            self.under_way[me] = other.under_way[me]
        if other.until_ms > self.until_ms:
            self.until_ms, self.began_ms, self.reason = other.until_ms, other.began_ms, other.reason
            self.in_a_row = max(self.in_a_row, other.in_a_row)
            self.unlearn()


class RateStateKeeper(Protocol):
    """Keeps the rate state. `with keeper as state:` holds it alone; inside, nothing may wait or be observed."""

    @property
    def me(self) -> int:
        """The number of this process in `RateState.under_way`; valid inside `with`."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why this process goes by its own knowledge although others may be at work; None when all is well."""
        ...

    def __enter__(self) -> RateState:
        """Take it."""
        ...

    def __exit__(self, *_: object) -> None:
        """Give it back, with what was changed."""
        ...


class OwnRateState:
    """Keeps the rate state in memory: for a process that shares its database with no other."""

    me: Final = 0
    trouble: Final = None

    def __init__(self) -> None:
        self._rate_state = RateState()
        self._lock = threading.Lock()  # metrics are read on a thread of their own

    def __enter__(self) -> RateState:
        self._lock.acquire()
        return self._rate_state

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def minutes_of(first_ms: int, last_ms: int) -> range:
    """The exchange's clock minutes that the time between may belong to."""
    return range((first_ms - SKEW_MS_MAX) // MINUTE_MS, (last_ms + SKEW_MS_MAX) // MINUTE_MS + 1)
