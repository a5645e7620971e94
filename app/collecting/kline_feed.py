"""The rules of a kline feed: finals once and complete, the kline in progress as it comes."""

from collections.abc import Sequence
from random import Random
from typing import Final

from app.collecting.backfill import Backfill
from app.collecting.feed_rules import NEVER_MS, FeedEvent, FeedStatus
from app.collecting.kline_sequence import grid_of, open_of, sequence_of
from app.collecting.ledger import Origin
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpan
from app.domain.gap_reason import GapReason
from app.domain.interval import Grid
from app.domain.records import Feed, KlineRecord
from app.domain.venue import Request
from app.ports.venue import Venue

FETCH_AFTER_MS: Final = 3_000
"""A final that the socket did not bring is fetched so long after the close, when the exchanges' REST has it."""
GAP_AFTER_MS: Final = 20_000
"""A final that is still missing is a gap: venues without a final flag are always fetched, which is none."""
BACKFILL_MAX: Final = 50_000
"""Klines fetched after an outage: a month of minutes; the older part of a longer gap is confirmed."""
FUTURE_MS: Final = 60_000
"""How far the exchange's clock may be ahead of ours; a kline from further ahead is dropped."""


class KlineFeed:
    """The klines of one instrument and interval. It begins with what the ledger holds, or with the first seen."""

    def __init__(self, feed: Feed, venue: Venue, origin: Origin, outlet: Outlet, chance: Random) -> None:
        self.feed: Final = feed
        self.due_ms = 0
        self._venue = venue
        self._known = known = origin.known
        self._open_before: Sequence[SequenceSpan] = origin.open
        self._outlet = outlet
        self._backfill = Backfill(feed, known, outlet, chance)
        self._reason = origin.reason if known else GapReason.MISSING
        self._grid: Grid = grid_of(feed.interval)
        self._live: KlineRecord | None = None
        self._heard_from = 0

    def received(self, event: FeedEvent, socket: int, now_ms: int) -> None:
        """Take a kline of a frame."""
        assert type(event) is KlineRecord, "a kline feed takes klines"
        self._heard_from = socket
        if event.open_ms > now_ms + FUTURE_MS:
            self._outlet.counters["unreadable"] += 1
            return
        if not self._known:
            self._begin(event)
        if event.is_final:
            self._take_final(event, now_ms)
            if not self._known.holes:
                self._reason = GapReason.MISSING
        elif sequence_of(self._grid, event.open_ms) >= self._known.end and self._is_news(event):
            self._live = event
            self._outlet.emit(event)

    def cut(self, socket: int, reason: GapReason, now_ms: int) -> None:
        """Remember why finals may be missing."""
        self._reason = reason

    def tick(self, now_ms: int) -> None:
        """Announce what is missing for too long."""
        if self._open_before:
            self._backfill.restore(self._open_before, self._reason, now_ms)
            self._open_before = ()
        for hole in self._holes(now_ms - GAP_AFTER_MS):
            for part in self._backfill.unannounced(hole):
                self._backfill.open(self._timed(part), self._reason, now_ms)
                if part.end - part.first > BACKFILL_MAX:
                    self._backfill.confirm(part._replace(end=part.end - BACKFILL_MAX), GapReason.TOO_OLD, now_ms)
        self._plan(now_ms)

    def wanted(self, now_ms: int) -> Request | None:
        """A page of the finals that are missing."""
        if self._backfill.is_asking or now_ms < self._backfill.pause.until_ms:
            return None
        piece = self._backfill.piece(self._holes(now_ms - FETCH_AFTER_MS), now_ms)
        if piece is None:
            return None
        start_ms = open_of(self._grid, piece.first - 1)
        return self._venue.klines_request(self.feed, start_ms, open_of(self._grid, piece.end + 1))

    def sent(self, now_ms: int) -> None:
        """A page is on its way."""
        self._backfill.is_asking = True
        self._plan(now_ms)

    def answered(self, body: bytes, now_ms: int) -> None:
        """Publish the finals that were missing; learn which the exchange lacks."""
        klines = [
            record
            for record in self._venue.read_answer(self.feed, body, now_ms)
            if type(record) is KlineRecord and record.instrument == self.feed.instrument and record.is_final
        ]
        piece = self._backfill.ended()
        assert piece is not None, "an answer comes after a request"
        emitted = 0
        for kline in klines:
            if piece.first <= sequence_of(self._grid, kline.open_ms) < piece.end:
                emitted += self._take_final(kline, now_ms)
        shown = sorted(sequence_of(self._grid, kline.open_ms) for kline in klines)
        self._backfill.answered(piece, shown, emitted > 0, now_ms)
        self._plan(now_ms)

    def failed(self, now_ms: int) -> None:
        """Ask again after a pause."""
        self._backfill.failed(now_ms)
        self._plan(now_ms)

    def leave(self, now_ms: int) -> None:
        """End the gaps that are open, and those of finals that nobody will fetch any more."""
        self._backfill.leave(self._holes(now_ms), now_ms)

    def delivers_on(self, socket: int) -> bool:
        """Whether a kline came by this socket."""
        return self._heard_from == socket

    def status(self) -> FeedStatus:
        """How the feed stands."""
        state = "waiting" if not self._known else "filling" if self._backfill.open_gaps else "live"
        newest_ms = open_of(self._grid, self._known.end - 1) if self._known else None
        return FeedStatus(self.feed, state, self._backfill.open_gaps, newest_ms)

    def _begin(self, kline: KlineRecord) -> None:
        self._grid = grid_of(self.feed.interval, kline.open_ms)
        before = sequence_of(self._grid, kline.open_ms) - 1
        self._known.add(before, before + 1, kline.open_ms, kline.open_ms)
        self.due_ms = min(self.due_ms, self._closed_ms(before + 1) + FETCH_AFTER_MS)

    def _take_final(self, kline: KlineRecord, now_ms: int) -> bool:
        sequence = sequence_of(self._grid, kline.open_ms)
        if self._known.has(sequence) or sequence < self._known.first:
            self._outlet.counters["duplicates"] += 1
            return False
        self._known.add(sequence, sequence + 1, kline.open_ms, kline.open_ms)
        self._outlet.emit(kline)
        self._backfill.settle(now_ms)
        return True

    def _is_news(self, kline: KlineRecord) -> bool:
        live = self._live
        if live is None or live.open_ms < kline.open_ms:
            return True
        if live.open_ms > kline.open_ms or live.timestamp_ms > kline.timestamp_ms:
            return False
        return (live.high, live.low, live.close, live.volume, live.trades) != (
            kline.high,
            kline.low,
            kline.close,
            kline.volume,
            kline.trades,
        )

    def _holes(self, closed_before_ms: int) -> list[SequenceSpan]:
        """What is missing of the klines that were closed at this time."""
        if not self._known:
            return []
        end = sequence_of(self._grid, self._grid.floor(closed_before_ms))
        return [self._timed(hole) for hole in self._known.missing(self._known.first, end)]

    def _timed(self, hole: SequenceSpan) -> SequenceSpan:
        return hole._replace(from_ms=open_of(self._grid, hole.first), to_ms=open_of(self._grid, hole.end))

    def _closed_ms(self, sequence: int) -> int:
        return open_of(self._grid, sequence + 1)

    def _plan(self, now_ms: int) -> None:
        if not self._known:
            self.due_ms = NEVER_MS
            return
        next_ms = self._grid.shift(self._grid.floor(now_ms - FETCH_AFTER_MS), 1) + FETCH_AFTER_MS
        holes = self._holes(now_ms - FETCH_AFTER_MS)
        if holes and (gap_ms := self._closed_ms(holes[-1].end - 1) + GAP_AFTER_MS) > now_ms:
            next_ms = min(next_ms, gap_ms)
        if not self._backfill.is_asking:
            next_ms = min(next_ms, self._backfill.due_ms(holes, NEVER_MS))
        self.due_ms = next_ms
