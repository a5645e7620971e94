"""The subscriptions of one socket: what to ask, at which pace, what was acknowledged and what refused."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from app.collecting.feed_rules import NEVER_MS
from app.collecting.pause import Pause
from app.domain.market_events import Accepted, Refused
from app.ports.venue import Venue

ACKNOWLEDGE_MS: Final = 10_000
"""An exchange that has not acknowledged a subscription after so long never will: they answer within a second."""
REFUSED_LONGEST_MS: Final = 600_000
"""The longest pause before a refused channel is asked for again: an instrument may be listed later."""
FIRST_REFUSED_MS: Final = 10_000


class Refusal:
    """That a channel was refused: why, and when it is asked for again."""

    __slots__ = ("message", "pause")

    def __init__(self, chance: Random) -> None:
        self.message = ""
        self.pause = Pause(chance, REFUSED_LONGEST_MS)


@dataclass(slots=True)
class _Message:
    names: set[str]
    sent_ms: int
    is_answered: bool = False


class Subscriptions:
    """What one socket carries. `refusals` belong to the channels' place and outlive the socket."""

    def __init__(self, venue: Venue, refusals: dict[str, Refusal], next_id: Callable[[], int], chance: Random) -> None:
        self._venue = venue
        self._refusals = refusals
        self._next_id = next_id
        self._chance = chance
        self._spacing_ms = -(-1_000 // venue.limits.messages_per_s_max)
        self._send_ms = 0
        self._to_add: dict[str, int] = {}
        self._alone: set[str] = set()
        self._to_remove: dict[str, None] = {}
        self._asked: dict[int, _Message] = {}
        self._sent: set[str] = set()
        self.active: set[str] = set()

    def add(self, names: Iterable[str]) -> None:
        """Subscribe to channels; refused ones when their pause is over."""
        for name in names:
            refusal = self._refusals.get(name)
            self._to_remove.pop(name, None)
            self._to_add[name] = refusal.pause.until_ms if refusal is not None else 0

    def remove(self, name: str) -> None:
        """End a subscription."""
        self._to_add.pop(name, None)
        self._alone.discard(name)
        self._take_asked(name)
        self.active.discard(name)
        if name in self._sent:
            self._sent.discard(name)
            self._to_remove[name] = None

    def again(self, name: str) -> None:
        """End a subscription and begin it again."""
        self.remove(name)
        self._to_add.setdefault(name, 0)

    def accepted(self, event: Accepted) -> None:
        """Note which channels were acknowledged; an acknowledgement without names is for the whole message."""
        message = self._asked.get(event.request_id) if event.request_id is not None else None
        names = set(event.channels) or (set(message.names) if message is not None else set())
        for name in names:
            if self._take_asked(name):
                self.active.add(name)
                self._alone.discard(name)
                self._refusals.pop(name, None)

    def refused(self, event: Refused, now_ms: int) -> None:
        """Set the refused channel aside; if it is not named, its message's channels are asked for one by one."""
        if event.channel:
            if self._take_asked(event.channel) or event.channel in self.active:
                self._sent.discard(event.channel)
                self._refuse(event.channel, event.message, now_ms)
            return
        request_id = event.request_id
        if request_id is None and len(self._asked) == 1:
            request_id = next(iter(self._asked))
        message = self._asked.pop(request_id, None) if request_id is not None else None
        if message is None:
            return
        if len(message.names) == 1:
            self._refuse(next(iter(message.names)), event.message, now_ms)
            return
        for name in sorted(message.names):
            self._alone.add(name)
            self._to_add[name] = 0

    def is_overdue(self, now_ms: int) -> bool:
        """Whether a whole message was not acknowledged in time; single channels left out count as refused."""
        for request_id, message in list(self._asked.items()):
            if now_ms - message.sent_ms < ACKNOWLEDGE_MS:
                continue
            if not message.is_answered:
                return True
            del self._asked[request_id]
            for name in sorted(message.names):
                self._refuse(name, "not acknowledged", now_ms)
        return False

    def texts(self, now_ms: int) -> list[str]:
        """The messages to send now."""
        if now_ms < self._send_ms:
            return []
        names = self._batch(self._to_remove)
        if names:
            for name in names:
                del self._to_remove[name]
            text = self._venue.unsubscribe(self._next_id(), names)
        else:
            names = self._next_names(now_ms)
            if not names:
                return []
            for name in names:
                del self._to_add[name]
            request_id = self._next_id()
            self._asked[request_id] = _Message(set(names), now_ms)
            self._sent.update(names)
            text = self._venue.subscribe(request_id, names)
        self._send_ms = now_ms + self._spacing_ms
        return [text]

    def is_settled(self) -> bool:
        """Whether every channel is subscribed or refused."""
        return not self._asked and all(name in self._refusals for name in self._to_add)

    def due_ms(self) -> int:
        """When there is something to send or to give up."""
        due_ms = min((message.sent_ms + ACKNOWLEDGE_MS for message in self._asked.values()), default=NEVER_MS)
        if self._to_remove:
            due_ms = min(due_ms, self._send_ms)
        if self._to_add:
            due_ms = min(due_ms, max(self._send_ms, min(self._to_add.values())))
        return due_ms

    def _next_names(self, now_ms: int) -> list[str]:
        ready = [name for name, from_ms in self._to_add.items() if from_ms <= now_ms]
        if ready and (ready[0] in self._alone or ready[0] in self._refusals):
            return ready[:1]
        return self._batch(name for name in ready if name not in self._alone and name not in self._refusals)

    def _batch(self, names: Iterable[str]) -> list[str]:
        return list(names)[: self._venue.limits.channels_per_message_max]

    def _take_asked(self, name: str) -> bool:
        for request_id, message in list(self._asked.items()):
            if name in message.names:
                message.names.discard(name)
                message.is_answered = True
                if not message.names:
                    del self._asked[request_id]
                return True
        return False

    def _refuse(self, name: str, message: str, now_ms: int) -> None:
        self.active.discard(name)
        refusal = self._refusals.setdefault(name, Refusal(self._chance))
        refusal.message = message
        refusal.pause.failed(now_ms)
        refusal.pause.until_ms = max(refusal.pause.until_ms, now_ms + FIRST_REFUSED_MS)
        self._to_add[name] = refusal.pause.until_ms
