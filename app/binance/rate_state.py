"""The rate state of an IP address and its rules: weight, requests under way, stand-down, silence of the exchange."""

from dataclasses import dataclass, field
from typing import Final

from app.domain.interval import MINUTE_MS
from app.domain.kind import Bucket
from app.domain.validity import is_fresh

SKEW_MS_MAX: Final = 1_000
"""How far the exchange's clock may be from ours: weight spent this close to the end of a minute counts in both."""
MINUTES_MAX: Final = 8  # kept: three that may count, and as many from a process whose clock is not corrected yet
FEELING_MS: Final = 2_000  # while a minute is not known, the next request waits for an answer this long at most
CALM_MS: Final = MINUTE_MS  # a success this long after the end of a stand-down resets the escalation
SILENCE_MAX: Final = 5  # requests in a row without an answer: as many as there are tries of one tail request
PAUSE_MS_MAX: Final = 15_000  # between two probes: the longest that a return of the exchange stays unnoticed
GRANTED: Final = {bucket: 500 if bucket is Bucket.FUNDING else 1_000 for bucket in Bucket}
"""Requests in WINDOW_MS (binance-facts section 1.1)."""
WINDOW_MS: Final = 5 * MINUTE_MS
SLOT_MS: Final = 30_000  # requests are counted by half minute; whether the exchange's window slides is not known
SLOTS_COUNTED: Final = (WINDOW_MS + SKEW_MS_MAX) // SLOT_MS + 1  # by `asked`; one more in the first second of a slot
SLOTS_MAX: Final = 12  # kept for each bucket: those that count in five minutes, and the one in progress


@dataclass(slots=True)
class Minute:
    """A clock minute: the weight booked in it, and whether an answer in that minute showed the exchange's count."""

    used: int = 0
    is_told: bool = False


@dataclass(slots=True)
class UnderWay:
    """The requests of one process that have not ended, their weight, and the newest minute in which it counts."""

    requests: int = 0
    weight: int = 0
    minute: int = 0


@dataclass(slots=True)
class RateState:
    """What the processes know together; `under_way` by the number of each process."""

    minutes: dict[int, Minute] = field(default_factory=dict)
    under_way: dict[int, UnderWay] = field(default_factory=dict)
    left_ms: int = 0
    """When the latest request left (ms)."""
    until_ms: int = 0
    """The end of the latest stand-down, which began at `began_ms` for `reason` and was number `in_a_row` in a row."""
    began_ms: int = 0
    in_a_row: int = 0
    reason: str = ""
    failures: int = 0
    """Requests in a row without an answer; `silence` is the error of the last one."""
    probes: int = 0
    """Probes in a row without an answer; the next is due at `retry_ms`; one is under way until `probe_ms`, if not 0."""
    retry_ms: int = 0
    probe_ms: int = 0
    silence: str = ""
    slots: dict[Bucket, dict[int, int]] = field(default_factory=dict)
    """For each bucket: the number of requests that left in each half minute (SLOT_MS)."""

    # --- weight -------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        """The number of requests under way in all processes."""
        return sum(each.requests for each in self.under_way.values())

    def used(self, minute: int) -> int:
        """Return the weight used in a clock minute; a request that left before it and has not ended may count in it."""
        booked = self.minutes[minute].used if minute in self.minutes else 0
        return booked + sum(each.weight for each in self.under_way.values() if each.minute < minute)

    def has_room(self, weight: int, ceiling: int, now_ms: int) -> bool:
        """Whether `weight` stays within `ceiling` in every minute in which the exchange may book it."""
        return all(self.used(minute) + weight <= ceiling for minute in minutes_of(now_ms, now_ms))

    def is_known(self, now_ms: int) -> bool:
        """Whether an answer has shown the exchange's count of this minute."""
        entry = self.minutes.get(now_ms // MINUTE_MS)
        return entry is not None and entry.is_told

    def may_feel(self, now_ms: int) -> bool:
        """Whether a request may leave in a minute that is not known: the one before it has ended or takes too long."""
        return not self.requests or not is_fresh(self.left_ms, now_ms, FEELING_MS)

    def roll(self, me: int, now_ms: int) -> None:
        """Count the weight that process `me` has under way in each minute that has begun since it was booked."""
        mine = self.under_way.get(me)
        newest = (now_ms + SKEW_MS_MAX) // MINUTE_MS
        if mine is None or newest in (mine.minute, mine.minute - 1):
            return
        first = newest - 1 if newest < mine.minute else max(mine.minute + 1, newest - 1)  # a clock may be set back
        for minute in range(first, newest + 1):
            self._minute(minute).used += mine.weight
        mine.minute = newest

    def book(self, me: int, weight: int, now_ms: int) -> None:
        """Book a request of process `me` that is about to leave."""
        self.roll(me, now_ms)
        minutes = minutes_of(now_ms, now_ms)
        for minute in minutes:
            self._minute(minute).used += weight
        mine = self.under_way.setdefault(me, UnderWay(minute=minutes[-1]))
        mine.requests += 1
        mine.weight += weight
        self.left_ms = now_ms

    def ended(self, me: int, weight: int, now_ms: int) -> None:
        """Record that a request of process `me` has ended, with or without an answer."""
        self.roll(me, now_ms)
        mine = self.under_way.get(me)
        if mine is None:
            return  # it left under another number, which counts as a dead process
        mine.requests -= 1
        mine.weight -= weight
        if mine.requests <= 0:
            del self.under_way[me]

    def told(self, used_weight: int | None, sent_ms: int, now_ms: int) -> None:
        """Record the weight that an answer says this address has used (None: no number); it was sent at `sent_ms`."""
        minutes = minutes_of(sent_ms, now_ms)
        is_over = now_ms >= self.until_ms  # else it is out of date when requests may leave again
        if used_weight is None:
            self._minute(now_ms // MINUTE_MS).is_told |= is_over
        elif len(minutes) == 1:  # else it is not known which minute it counts
            unseen = sum(each.weight for each in self.under_way.values())
            entry = self._minute(minutes[0])
            entry.used = max(entry.used, used_weight + unseen)
            entry.is_told |= is_over

    # --- buckets ------------------------------------------------------------------------------------------------

    def asked(self, bucket: Bucket, now_ms: int) -> int:
        """Return how many requests the exchange may count in its five minutes now; later ones than now count too."""
        first = (now_ms - WINDOW_MS - SKEW_MS_MAX) // SLOT_MS
        return sum(count for slot, count in self.slots.get(bucket, {}).items() if slot >= first)

    def room_ms(self, bucket: Bucket, now_ms: int) -> int:
        """Return when the oldest requests that count now no longer count."""
        first = (now_ms - WINDOW_MS - SKEW_MS_MAX) // SLOT_MS
        oldest = min((slot for slot in self.slots.get(bucket, {}) if slot >= first), default=first)
        return (oldest + 1) * SLOT_MS + WINDOW_MS + SKEW_MS_MAX

    def asked_lately(self, bucket: Bucket, now_ms: int) -> int:
        """Return how many requests have left in the half minute of now."""
        return self.slots.get(bucket, {}).get(now_ms // SLOT_MS, 0)

    def draw(self, bucket: Bucket, now_ms: int) -> None:
        """Count a request in `bucket` that is about to leave, and in the one that counts it together with others."""
        slot = now_ms // SLOT_MS
        for each in {bucket, bucket.whole}:
            slots = self.slots.setdefault(each, {})
            slots[slot] = slots.get(slot, 0) + 1
            while len(slots) > SLOTS_MAX:
                del slots[max(slots, key=lambda other: abs(other - slot))]

    # --- learning -----------------------------------------------------------------------------------------------

    def unlearn(self) -> None:
        """Make requests leave one at a time again: what others use of these minutes is no longer known."""
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

    def calmed(self, now_ms: int) -> None:
        """Record a success: long enough after a stand-down, it resets the escalation."""
        if now_ms >= self.until_ms + CALM_MS:
            self.in_a_row = 0

    @property
    def is_silent(self) -> bool:
        """Whether so many requests in a row got no answer that only probes may leave."""
        return self.failures >= SILENCE_MAX

    def is_probe_due(self, now_ms: int) -> bool:
        """Whether the pause after the last probe is over; an impossibly long one was written with a wrong clock."""
        return not 0 < self.retry_ms - now_ms <= PAUSE_MS_MAX

    def answered(self) -> bool:
        """Record an answer; returns whether the exchange was silent before."""
        was_silent = self.is_silent
        self.failures = self.probes = self.retry_ms = self.probe_ms = 0
        self.silence = ""
        return was_silent

    # --- processes ----------------------------------------------------------------------------------------------

    def join(self, other: "RateState", me: int) -> None:
        """Merge what process `me` has learned while it could not use the shared state."""
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


def minutes_of(first_ms: int, last_ms: int) -> range:
    """Return the exchange's clock minutes to which a time from `first_ms` to `last_ms` may belong."""
    return range((first_ms - SKEW_MS_MAX) // MINUTE_MS, (last_ms + SKEW_MS_MAX) // MINUTE_MS + 1)
