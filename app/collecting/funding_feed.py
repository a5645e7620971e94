"""The rules of a funding feed: forecasts when they change, the rates that were paid once and all of them."""

from random import Random
from typing import Final

from app.collecting.feed_rules import NEVER_MS, FeedEvent, FeedStatus
from app.collecting.ledger import FUNDING_POINTS_MS, Origin
from app.collecting.outlet import Outlet
from app.collecting.pause import Pause
from app.domain.gap_reason import GapReason
from app.domain.interval import DAY_MS, HOUR_MS
from app.domain.records import Feed, FundingRate
from app.domain.venue import Request
from app.ports.venue import Venue

PAID_EVERY_MS: Final = 300_000
"""How often the rates that were paid are asked for, even if no forecast said that one was."""
AFTER_PAID_MS: Final = 10_000
"""A forecast names the time of payment; so long after it, and after each full hour, the rate is asked for at once."""
FIRST_MS: Final = DAY_MS
"""A feed that begins also publishes the rates paid so long before."""
WINDOW_MS: Final = 4 * DAY_MS
"""Rates are asked for in windows of 96 hours: fewer rows than the smallest page (100), even if paid every hour."""


class FundingFeed:
    """The funding rates of one instrument. It begins with the times paid that the ledger holds."""

    def __init__(self, feed: Feed, venue: Venue, origin: Origin, outlet: Outlet, chance: Random) -> None:
        poll = venue.poll(feed)
        self.feed: Final = feed
        self.due_ms = 0
        self._venue = venue
        self._known = origin.known
        self._outlet = outlet
        self._pause = Pause(chance)
        self._poll = poll
        self._cursor_ms: int | None = None
        self._window_end_ms = 0
        self._poll_ms = NEVER_MS if poll is None else 0
        self._question_ms = 0
        self._is_poll = False
        self._is_asked = False
        self._forecast: FundingRate | None = None
        self._paid_ms = NEVER_MS
        self._heard_from = 0

    def received(self, event: FeedEvent, socket: int, now_ms: int) -> None:
        """Take a rate of a frame."""
        assert type(event) is FundingRate, "a funding feed takes funding rates"
        self._heard_from = socket
        self._take(event, now_ms)

    def cut(self, socket: int, reason: GapReason, now_ms: int) -> None:
        """Nothing: forecasts are states, and paid rates are asked for."""

    def tick(self, now_ms: int) -> None:
        """Plan the next question."""
        self._plan(now_ms)

    def wanted(self, now_ms: int) -> Request | None:
        """The window of paid rates that is due, or the poll of the forecast."""
        if self._is_asked or now_ms < self._next_ms():
            return None
        self._is_poll = self._poll is not None and self._poll_ms <= now_ms
        if self._poll is not None and self._is_poll:
            return self._poll.request
        if self._cursor_ms is None:
            self._cursor_ms = self._known.newest_ms - FUNDING_POINTS_MS if self._known else now_ms - FIRST_MS
        self._window_end_ms = min(self._cursor_ms + WINDOW_MS, now_ms + 1)
        return self._venue.funding_request(self.feed.instrument, self._cursor_ms, self._window_end_ms)

    def sent(self, now_ms: int) -> None:
        """A question is on its way."""
        self._is_asked = True
        self._plan(now_ms)

    def answered(self, body: bytes, now_ms: int) -> None:
        """Publish the paid rates that are new, and go on with the next window."""
        records = self._venue.read_answer(self.feed, body, now_ms)
        self._is_asked = False
        self._pause.succeeded()
        for record in records:
            if type(record) is FundingRate and record.instrument == self.feed.instrument:
                self._take(record, now_ms)
        if self._is_poll and self._poll is not None:
            self._poll_ms = now_ms + self._poll.every_ms
        elif self._window_end_ms <= now_ms - FUNDING_POINTS_MS:
            self._cursor_ms = self._window_end_ms
        else:
            self._cursor_ms = max(self._cursor_ms or 0, now_ms - FUNDING_POINTS_MS)
            self._question_ms = now_ms + PAID_EVERY_MS
            known_ms = self._window_end_ms - AFTER_PAID_MS  # what was paid later need not have been in the answer
            if self._paid_ms == NEVER_MS or self._paid_ms < known_ms:
                self._paid_ms = known_ms - known_ms % HOUR_MS + HOUR_MS
        self._plan(now_ms)

    def failed(self, now_ms: int) -> None:
        """Ask again after a pause."""
        self._is_asked = False
        self._pause.failed(now_ms)
        self._plan(now_ms)

    def leave(self, now_ms: int) -> None:
        """Nothing: it has no gaps."""

    def delivers_on(self, socket: int) -> bool:
        """Whether a rate came by this socket."""
        return self._heard_from == socket

    def status(self) -> FeedStatus:
        """How the feed stands."""
        newest = self._forecast
        newest_ms = newest.timestamp_ms if newest is not None else self._known.newest_ms if self._known else None
        return FeedStatus(self.feed, "waiting" if newest_ms is None else "live", 0, newest_ms)

    def _take(self, rate: FundingRate, now_ms: int) -> None:
        if rate.is_final:
            if self._known.has(rate.funding_ms) or self._is_before_start(rate):
                self._outlet.counters["duplicates"] += 1
                return
            self._known.add(rate.funding_ms, rate.funding_ms + 1, rate.funding_ms, rate.funding_ms)
            self._known.join_below(self._known.end - 2 * FUNDING_POINTS_MS)
            self._outlet.emit(rate)
            return
        last = self._forecast
        if last is not None and (
            rate.timestamp_ms < last.timestamp_ms or (rate.rate, rate.funding_ms) == (last.rate, last.funding_ms)
        ):
            return
        if last is not None and last.funding_ms < rate.funding_ms:
            self._paid_ms = min(self._paid_ms, last.funding_ms)
            self._plan(now_ms)
        self._forecast = rate
        self._outlet.emit(rate)

    def _is_before_start(self, rate: FundingRate) -> bool:
        return self._cursor_ms is not None and rate.funding_ms < self._cursor_ms

    def _next_ms(self) -> int:
        return max(min(self._poll_ms, self._question_ms, self._paid_ms + AFTER_PAID_MS), self._pause.until_ms)

    def _plan(self, now_ms: int) -> None:
        self.due_ms = NEVER_MS if self._is_asked else self._next_ms()
