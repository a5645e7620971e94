"""The rules of an order book: what is published is exactly what the held book did, or a gap and a new snapshot."""

from random import Random
from typing import Final

from app.collecting.book_chain import BookChain, BookRule, Broken, Changes
from app.collecting.book_check import BookChecks
from app.collecting.effects import Emit
from app.collecting.feed_rules import NEVER_MS, FeedEvent, FeedStatus
from app.collecting.ledger import Origin
from app.collecting.open_gaps import abandoned
from app.collecting.outlet import Outlet
from app.collecting.pause import Pause
from app.domain.gap_reason import GapReason
from app.domain.market_events import BookUpdate
from app.domain.records import BookDelta, BookSnapshot, Feed, Gap, GapState
from app.domain.venue import Request
from app.ports.venue import Venue

SNAPSHOT_EVERY_MS: Final = 60_000
"""A reader that comes late has a whole book within a minute."""
LEVELS_KEPT_PART: Final = 4
"""A side known to a price only, of whose snapshot less than this part (a fourth) remains, is fetched again."""
REFETCH_MS: Final = 10_000
"""The shortest time between two such fetches: a snapshot of 1,000 levels weighs 20."""
SILENCE_MS: Final = 30_000
"""A book without a frame for so long is subscribed again: books tick many times a second."""
SILENCE_MAX_MS: Final = 600_000
"""How long a book may be silent that was subscribed again before and brought nothing but snapshots."""
CHECK_MS_MAX: Final = 60_000
"""After so long the session has given the request of a comparison up."""


class BookFeed:
    """The book of one instrument. Its own sequence grows by one with each delta, snapshot and gap, within `epoch`."""

    def __init__(
        self, feed: Feed, venue: Venue, rule: BookRule, origin: tuple[int, Origin], outlet: Outlet, chance: Random
    ) -> None:
        self.feed: Final = feed
        self.due_ms = 0
        self._venue = venue
        self._request = venue.snapshot_request(feed.instrument)
        self._rule = rule
        self._epoch, begin = origin
        self._newest_ms = begin.newest_ms
        self._outlet = outlet
        self._pause = Pause(chance)
        self._chance = chance
        self._sequence = 0
        self._active: BookChain | None = None
        self._next: BookChain | None = None
        self._is_asked = False
        self._gap: Gap | None = None
        self._reason = begin.reason if self._newest_ms is not None else None
        self._heard_ms: int | None = None
        self._silence_ms = SILENCE_MS
        self._snapshot_ms = 0
        self._refetch_ms = 0
        self._checks = BookChecks(rule, chance)

    def received(self, event: FeedEvent, socket: int, now_ms: int) -> None:
        """Take a frame of the book."""
        assert type(event) is BookUpdate, "a book takes its updates"
        self._heard_ms = now_ms
        if not event.is_snapshot:
            self._silence_ms = SILENCE_MS
        active = self._active
        if active is not None and active.socket == socket:
            self._take_active(active, event, now_ms)
            if self._next is None or self._active is not active:
                return
        self._take_next(event, socket, now_ms)

    def cut(self, socket: int, reason: GapReason, now_ms: int) -> None:
        """Go over to the other socket's book if it joins; otherwise the book breaks."""
        if self._next is not None and self._next.socket == socket:
            self._next = None
        if self._active is not None and self._active.socket == socket:
            self._leave(self._active, reason, now_ms)

    def tick(self, now_ms: int) -> None:
        """Announce the gap that the restart left, repeat the snapshot, and notice silence."""
        if self._heard_ms is None:
            self._heard_ms = now_ms
            if self._reason:
                self._open(self._reason, now_ms)
        if self._active is not None and now_ms >= self._snapshot_ms:
            self._publish_snapshot(self._active, now_ms)
        if now_ms - self._heard_ms >= self._silence_ms:
            self._heard_ms = now_ms
            self._silence_ms = min(2 * self._silence_ms, SILENCE_MAX_MS)
            self._outlet.resubscribes.append((self.feed, 0))
        elif self._lacks_snapshot() and now_ms >= self._pause.until_ms:
            self._subscribe_again(self._next.socket if self._next is not None else 0, now_ms)
        self._plan(now_ms)

    def repeat(self, now_ms: int) -> None:
        """Publish the whole book now, if it is held: a record before it was dropped."""
        if self._active is not None:
            self._publish_snapshot(self._active, now_ms)
            self._plan(now_ms)

    def wanted(self, now_ms: int) -> Request | None:
        """A snapshot, if a chain of frames waits for one."""
        if self._is_asked or self._request is None:
            return None
        if self._next is not None:
            return self._request if not self._next.is_valid and now_ms >= self._pause.until_ms else None
        is_check = self._active is not None and max(self._checks.due_ms, self._outlet.checking_until_ms) <= now_ms
        return self._request._replace(is_check=True) if is_check else None

    def sent(self, now_ms: int) -> None:
        """A snapshot is on its way."""
        self._is_asked = True
        if self._next is None and self._active is not None:
            self._outlet.checking_until_ms = now_ms + CHECK_MS_MAX
            self._checks.start(self._active, now_ms)
        self._plan(now_ms)

    def answered(self, body: bytes, now_ms: int) -> None:
        """Begin the waiting chain with the snapshot."""
        snapshot = self._venue.read_snapshot(self.feed.instrument, body, now_ms)
        self._is_asked = False
        chain = self._next
        if chain is not None and not chain.is_valid:
            if chain.begin(snapshot) is None:
                self._pause.succeeded()
                self._take_over(now_ms)
            else:
                self._pause.failed(now_ms)
        self._checks.begin(snapshot, now_ms)
        self._compare(now_ms)
        self._plan(now_ms)

    def failed(self, now_ms: int) -> None:
        """Ask again after a pause."""
        self._is_asked = False
        if self._checks.chain is None:
            self._pause.failed(now_ms)
        self._end_check(now_ms)
        self._plan(now_ms)

    def leave(self, now_ms: int) -> None:
        """End the gap if one is open."""
        gap, self._gap = self._gap, None
        if gap is not None:
            self._outlet.gap(abandoned(self.feed, gap.from_ms, now_ms, (gap.from_sequence, gap.to_sequence)))

    def delivers_on(self, socket: int) -> bool:
        """Whether the published book comes by this socket."""
        return self._active is not None and self._active.socket == socket

    def held(self) -> BookChain | None:
        """The chain whose book is published; None while none is proven."""
        return self._active

    def status(self) -> FeedStatus:
        """How the feed stands."""
        state = "live" if self._active is not None else "broken" if self._gap is not None else "waiting"
        levels = (0, 0) if self._checks.newest is None else self._checks.newest
        return FeedStatus(self.feed, state, int(self._gap is not None), self._newest_ms, levels=levels)

    @property
    def _is_streamed(self) -> bool:
        """Whether a subscription begins with a snapshot, since none can be fetched."""
        return self._request is None

    def _lacks_snapshot(self) -> bool:
        return self._is_streamed and self._next is not None and not self._next.is_valid

    def _chain(self, socket: int) -> BookChain:
        return BookChain(socket, self._rule, is_streamed=self._is_streamed)

    def _take_active(self, active: BookChain, update: BookUpdate, now_ms: int) -> None:
        if update.is_snapshot:
            self._take_snapshot(active, update, now_ms)
            return
        result = active.take(update)
        if type(result) is Changes:
            self._sequence += 1
            self._newest_ms = update.timestamp_ms
            self._outlet.effects.append(
                Emit(
                    BookDelta(
                        self.feed.instrument,
                        self._epoch,
                        self._sequence,
                        tuple(result.bids),
                        tuple(result.asks),
                        update.last,
                        update.timestamp_ms,
                        update.received_ms,
                    )
                )
            )
            if self._rule.snapshot_levels is not None:
                self._refetch_if_thin(active, self._rule.snapshot_levels // LEVELS_KEPT_PART, now_ms)
        elif isinstance(result, Broken):
            self._leave(active, result.value, now_ms)
            if self._active is None and self._next is None and not self._is_streamed:
                self._take_next(update, active.socket, now_ms)  # the first frame that a new snapshot must join
            elif self._active is None and self._next is None:
                self._next = self._chain(active.socket)
                self._subscribe_again(active.socket, now_ms)
        if self._active is active and self._checks.chain is not None:
            self._checks.take(update, now_ms)
            self._compare(now_ms)

    def _take_snapshot(self, active: BookChain, update: BookUpdate, now_ms: int) -> None:
        """A snapshot in the stream replaces the book; unless it is of the same moment, what led to it is not known."""
        chain = self._chain(active.socket)
        if chain.begin(update) is not None:
            self._leave(active, Broken.CROSSED.value, now_ms)
            return
        if not chain.covers(active):
            self._leave(active, GapReason.NEW_SNAPSHOT, now_ms)
            if self._active is not None:
                return
        self._next = chain
        self._take_over(now_ms)
        self._plan(now_ms)

    def _take_next(self, update: BookUpdate, socket: int, now_ms: int) -> None:
        chain = self._next
        if chain is None or chain.socket < socket:
            if self._active is not None and self._active.socket > socket:
                return
            chain = self._next = self._chain(socket)
        elif chain.socket > socket:
            return
        result = chain.take(update)
        if isinstance(result, Broken):
            self._next = self._chain(socket)
            self._pause.failed(now_ms)
        elif self._lacks_snapshot() and now_ms >= self._pause.until_ms:
            self._subscribe_again(socket, now_ms)
        elif chain.is_valid:
            self._take_over(now_ms)
        self._plan(now_ms)

    def _take_over(self, now_ms: int) -> None:
        """Publish from the next chain on, if nothing was lost between the published book and its own."""
        chain, active = self._next, self._active
        if chain is None or not chain.is_valid:
            return
        if active is None:
            self._pause.succeeded()
            self._active, self._next = chain, None
            self._checks.plan(now_ms)
            self._close_gap(chain, now_ms)
            self._publish_snapshot(chain, now_ms)
        elif chain.covers(active):
            self._pause.succeeded()
            self._active, self._next = chain, None
            self._end_check(now_ms)
            self._publish_difference(active, chain, now_ms)

    def _compare(self, now_ms: int) -> None:
        """End a comparison that can be; an unequal book is a gap since it was right for sure, and begins again."""
        active, fresh = self._active, self._checks.chain
        comparison = None if active is None else self._checks.result(active)
        if active is None or comparison is None:
            return
        self._outlet.checking_until_ms = 0
        if comparison.equal < comparison.compared:
            self._next = None  # also a chain of another socket: what is wrong is told
            self._leave(active, GapReason.UNEQUAL, now_ms, self._checks.trusted_ms(active))
            self._next = fresh
            self._take_over(now_ms)

    def _end_check(self, now_ms: int) -> None:
        if self._checks.chain is not None:
            self._outlet.checking_until_ms = 0
            self._checks.stop(now_ms)

    def _leave(self, active: BookChain, reason: GapReason, now_ms: int, since_ms: int | None = None) -> None:
        """The published chain ends: by the next chain if that joins, otherwise by a gap, from `since_ms` if given."""
        self._end_check(now_ms)
        if self._next is not None and self._next.socket != active.socket and self._next.covers(active):
            self._take_over(now_ms)
            return
        if self._next is not None and self._next.socket == active.socket:
            self._next = None
        self._active = None
        self._newest_ms = active.timestamp_ms if since_ms is None else since_ms
        self._outlet.counters["resyncs"] += 1
        self._open(reason, now_ms)
        self._take_over(now_ms)
        self._plan(now_ms)

    def _open(self, reason: GapReason, now_ms: int) -> None:
        from_ms = self._newest_ms or 0
        own = (None, None) if self._sequence == 0 else (self._sequence + 1, self._sequence + 2)
        self._gap = Gap(self.feed, GapState.OPEN, reason, from_ms, max(from_ms, now_ms), now_ms, *own)
        self._sequence += self._sequence > 0
        self._outlet.gap(self._gap)

    def _close_gap(self, chain: BookChain, now_ms: int) -> None:
        gap = self._gap
        if gap is None:
            return
        self._gap = None
        to_ms = max(gap.from_ms, chain.timestamp_ms)
        own = (gap.from_sequence, gap.to_sequence)
        self._outlet.gap(Gap(self.feed, GapState.CONFIRMED, gap.reason, gap.from_ms, to_ms, now_ms, *own))

    def _publish_difference(self, old: BookChain, new: BookChain, now_ms: int) -> None:
        bids, asks = old.book.bids.difference(new.book.bids), old.book.asks.difference(new.book.asks)
        if bids or asks:
            self._sequence += 1
            self._newest_ms = new.timestamp_ms
            self._outlet.emit(
                BookDelta(
                    self.feed.instrument,
                    self._epoch,
                    self._sequence,
                    tuple(bids),
                    tuple(asks),
                    new.last,
                    new.timestamp_ms,
                    now_ms,
                )
            )

    def _publish_snapshot(self, chain: BookChain, now_ms: int) -> None:
        self._sequence += 1
        self._newest_ms = chain.timestamp_ms
        self._snapshot_ms = now_ms + int(SNAPSHOT_EVERY_MS * self._chance.uniform(0.9, 1.0))
        self._outlet.emit(
            BookSnapshot(
                self.feed.instrument,
                self._epoch,
                self._sequence,
                chain.book.bids.sorted(),
                chain.book.asks.sorted(),
                chain.last,
                chain.timestamp_ms,
                now_ms,
            )
        )

    def _refetch_if_thin(self, active: BookChain, levels_min: int, now_ms: int) -> None:
        if active.book.levels_min() < levels_min and self._next is None and now_ms >= self._refetch_ms:
            self._refetch_ms = now_ms + REFETCH_MS
            self._next = self._chain(active.socket)
            self._plan(now_ms)

    def _subscribe_again(self, socket: int, now_ms: int) -> None:
        self._pause.failed(now_ms)
        self._outlet.resubscribes.append((self.feed, socket))
        self._plan(now_ms)

    def _plan(self, now_ms: int) -> None:
        due_ms = NEVER_MS if self._heard_ms is None else self._heard_ms + self._silence_ms
        if self._active is not None:
            due_ms = min(due_ms, self._snapshot_ms)
            if self._next is None and not self._is_asked:
                due_ms = min(due_ms, max(now_ms, self._checks.due_ms, self._outlet.checking_until_ms))
        is_waiting = self._next is not None and not self._next.is_valid
        if is_waiting and not self._is_asked:
            due_ms = min(due_ms, max(now_ms, self._pause.until_ms))
        self.due_ms = due_ms
