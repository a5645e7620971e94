"""The rules of a state (ticker, open interest): the latest value counts, and a silence is a gap by time."""

from random import Random
from typing import Final

from msgspec.structs import replace

from app.collecting.feed_rules import NEVER_MS, FeedEvent, FeedStatus
from app.collecting.ledger import Origin
from app.collecting.open_gaps import abandoned
from app.collecting.outlet import Outlet
from app.collecting.pause import Pause
from app.domain.gap_reason import GapReason
from app.domain.records import Feed, Gap, GapState, OpenInterest, Ticker
from app.domain.venue import Request
from app.ports.venue import Venue

SILENCE_MS: Final = 60_000
"""A state that did not come for so long may have changed unseen: the slowest channels tick every few seconds."""
POLLS_MISSED: Final = 3
"""A polled state is called silent after so many of its polls."""


class StateFeed:
    """The state of one instrument. It begins at the newest that is stored, if there is one."""

    def __init__(self, feed: Feed, venue: Venue, origin: Origin, outlet: Outlet, chance: Random) -> None:
        poll = venue.poll(feed)
        self.feed: Final = feed
        self.due_ms = 0
        self._venue = venue
        self._outlet = outlet
        self._poll = poll
        self._pause = Pause(chance)
        self._poll_ms = 0
        self._is_asked = False
        self._silence_ms = max(SILENCE_MS, POLLS_MISSED * poll.every_ms if poll is not None else 0)
        self._newest_ms = origin.newest_ms
        self._last: Ticker | OpenInterest | None = None
        self._heard_ms: int | None = None
        self._gap: GapReason | None = None
        self._reason = origin.reason if origin.newest_ms is not None else None
        self._heard_from = 0

    def received(self, event: FeedEvent, socket: int, now_ms: int) -> None:
        """Take a value of a frame."""
        assert type(event) is Ticker or type(event) is OpenInterest, "a state feed takes states"
        self._heard_from = socket
        self._take(event, now_ms)

    def cut(self, socket: int, reason: GapReason, now_ms: int) -> None:
        """What happens from now on is not seen: a gap, unless the state is polled alone."""
        if self._poll is None:
            self._open(reason, now_ms)

    def tick(self, now_ms: int) -> None:
        """Announce the gap that the restart left, or a silence."""
        if self._heard_ms is None:
            self._heard_ms = now_ms
            if self._reason:
                self._open(self._reason, now_ms)
        if now_ms - self._heard_ms >= self._silence_ms:
            self._heard_ms = now_ms
            self._open(GapReason.SILENT, now_ms)
            if self._poll is None:
                self._outlet.resubscribes.append((self.feed, 0))
        self._plan()

    def wanted(self, now_ms: int) -> Request | None:
        """The poll that is due."""
        if self._poll is None or self._is_asked or now_ms < max(self._poll_ms, self._pause.until_ms):
            return None
        return self._poll.request

    def sent(self, now_ms: int) -> None:
        """The poll is on its way."""
        self._is_asked = True
        self._plan()

    def answered(self, body: bytes, now_ms: int) -> None:
        """Take the values of a poll."""
        assert self._poll is not None, "only polls are answered"
        records = self._venue.read_answer(self.feed, body, now_ms)
        self._is_asked = False
        self._pause.succeeded()
        self._poll_ms = now_ms + self._poll.every_ms
        for record in records:
            if isinstance(record, Ticker | OpenInterest) and record.instrument == self.feed.instrument:
                self._take(record, now_ms)
        self._plan()

    def failed(self, now_ms: int) -> None:
        """Ask again after a pause."""
        self._is_asked = False
        self._pause.failed(now_ms)
        self._plan()

    def leave(self, now_ms: int) -> None:
        """End the gap if one is open."""
        if self._gap is not None:
            self._gap = None
            self._outlet.gap(abandoned(self.feed, self._newest_ms or 0, now_ms))

    def delivers_on(self, socket: int) -> bool:
        """Whether a value came by this socket."""
        return self._heard_from == socket

    def status(self) -> FeedStatus:
        """How the feed stands."""
        state = "waiting" if self._last is None else "silent" if self._gap is not None else "live"
        return FeedStatus(self.feed, state, int(self._gap is not None), self._newest_ms)

    def _take(self, value: Ticker | OpenInterest, now_ms: int) -> None:
        self._heard_ms = now_ms
        if self._last is not None and not self._is_news(value, self._last):
            self._outlet.counters["duplicates"] += 1
            return
        if self._gap is not None:
            from_ms = self._newest_ms or 0
            to_ms = max(from_ms, value.timestamp_ms)
            gap = Gap(self.feed, GapState.CONFIRMED, self._gap, from_ms, to_ms, now_ms)
            self._outlet.gap(gap)
            self._gap = None
        self._last = value
        self._newest_ms = value.timestamp_ms
        self._outlet.emit(value)

    def _is_news(self, value: Ticker | OpenInterest, last: Ticker | OpenInterest) -> bool:
        """Whether it is newer, or of the same time and different (two sockets bring each value twice)."""
        if value.timestamp_ms != last.timestamp_ms:
            return value.timestamp_ms > last.timestamp_ms
        return self._gap is not None or replace(value, received_ms=last.received_ms) != last

    def _open(self, reason: GapReason, now_ms: int) -> None:
        if self._gap is not None or self._newest_ms is None:
            return
        self._gap = reason
        to_ms = max(self._newest_ms, now_ms)
        self._outlet.gap(Gap(self.feed, GapState.OPEN, reason, self._newest_ms, to_ms, now_ms))

    def _plan(self) -> None:
        silent_ms = NEVER_MS if self._heard_ms is None else self._heard_ms + self._silence_ms
        poll_ms = NEVER_MS if self._poll is None or self._is_asked else max(self._poll_ms, self._pause.until_ms)
        self.due_ms = min(silent_ms, poll_ms)
