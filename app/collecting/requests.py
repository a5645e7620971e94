"""The requests of a session: which feeds wait for one, which are under way, and who gets the answer."""

from typing import Final

from app.collecting.effects import Fetch
from app.collecting.feed_rules import NEVER_MS
from app.collecting.followed import Followed
from app.collecting.outlet import Outlet
from app.collecting.rest_gate import RestGate
from app.domain.records import Feed

FETCH_MS: Final = 60_000
"""A request without an answer or failure for so long is given up: the runtime's own time-outs are shorter."""


class Requests:
    """At most one request of each feed waits or is under way; they are sent in the order in which they were wanted."""

    def __init__(self, weight_per_minute: int, outlet: Outlet) -> None:
        self.gate: Final = RestGate(weight_per_minute)
        self._outlet = outlet
        self._waiting: dict[Feed, Followed] = {}
        self._under_way: dict[int, tuple[Followed | None, int]] = {}
        self._number = 0
        self._ready_ms = NEVER_MS

    def want(self, followed: Followed) -> None:
        """Send the request of this feed when there is room."""
        self._waiting.setdefault(followed.rules.feed, followed)

    def is_waiting(self, followed: Followed) -> bool:
        """Whether a request of this feed waits for room."""
        return self._waiting.get(followed.rules.feed) is followed

    def forget(self, followed: Followed) -> None:
        """The feed is not followed any more; an answer that is under way will not be wanted."""
        self._waiting.pop(followed.rules.feed, None)
        for number, (owner, sent_ms) in self._under_way.items():
            if owner is followed:
                self._under_way[number] = (None, sent_ms)

    def send(self, now_ms: int) -> list[Followed]:
        """Send what there is room for; return the feeds whose requests were sent."""
        sent = []
        self._ready_ms = NEVER_MS
        while self._waiting:
            feed, followed = next(iter(self._waiting.items()))
            request = followed.rules.wanted(now_ms)
            if request is not None:
                if not self.gate.admit(request.weight, now_ms):
                    ready_ms = self.gate.ready_ms(request.weight, now_ms)
                    self._ready_ms = ready_ms if ready_ms > now_ms else NEVER_MS  # an answer will make room
                    break
                self._number += 1
                self._under_way[self._number] = (followed, now_ms)
                self._outlet.effects.append(Fetch(self._number, request))
                followed.rules.sent(now_ms)
                sent.append(followed)
            del self._waiting[feed]
        return sent

    def ended(self, fetch: int) -> Followed | None:
        """Whose request ended; None: it was given up before, or nobody wants the answer any more."""
        entry = self._under_way.pop(fetch, None)
        if entry is None:
            return None
        self.gate.done()
        return entry[0]

    def overdue(self, now_ms: int) -> list[int]:
        """The requests that are given up now."""
        return [fetch for fetch, (_, sent_ms) in self._under_way.items() if now_ms - sent_ms >= FETCH_MS]

    def due_ms(self) -> int:
        """When there will be room, or a request will be given up."""
        oldest_ms = min((sent_ms for _, sent_ms in self._under_way.values()), default=NEVER_MS)
        return min(self._ready_ms, oldest_ms + FETCH_MS)
