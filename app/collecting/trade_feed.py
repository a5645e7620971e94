"""The rules of a trade feed: in order they pass; a jump is a gap, filled by REST or confirmed."""

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

from app.collecting.backfill import Backfill
from app.collecting.effects import Emit
from app.collecting.feed_rules import NEVER_MS, FeedEvent, FeedStatus
from app.collecting.ledger import Origin
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpan
from app.domain.gap_reason import GapReason
from app.domain.market_events import Trades
from app.domain.records import Feed, Gap, GapState, Trade
from app.domain.venue import Request
from app.ports.venue import Venue

RESET_LATER_MS: Final = 2_000
"""A number that was seen before, on a trade this much newer than the newest, is a new count."""
RESET_BELOW: Final = 10_000_000
"""So far below the newest is no late frame of another socket: that is some days of the busiest instrument."""
RESET_AHEAD: Final = 100_000_000
"""So far ahead is no outage: a month of the busiest instrument."""
RECENT_MAX: Final = 32
"""The newest trades that are kept whole (20 MB at 2,000 instruments). Times do not tell a count that begins within
RESET_LATER_MS, but it must pass through the numbers of these before it can overtake the former one."""
BACKFILL_MAX: Final = 5_000_000
"""Trades of the busiest day; the older part of a longer gap is confirmed: fetching it takes hours of weight."""
QUIET_MS: Final = 30_000
"""REST is asked for newer trades after such a silence: a channel can be dead on a live socket."""
QUIET_MAX_MS: Final = 600_000
"""The longest pause between these questions, for instruments that trade seldom."""
IN_FLIGHT_MS: Final = 5_000
"""Only trades older than this prove a dead channel; newer ones may still be on their way."""
_AHEAD: Final = 1_000  # how far the question for newer trades reaches; a page


class TradeFeed:
    """The trades of one instrument. It begins with what the ledger holds, or with the first trade ever seen."""

    def __init__(self, feed: Feed, venue: Venue, origin: Origin, outlet: Outlet, chance: Random) -> None:
        self.feed: Final = feed
        self.due_ms = 0
        self._venue = venue
        self._known = known = origin.known
        self._open_before = origin.open
        self._recent: deque[Trade] = deque(maxlen=RECENT_MAX)
        self._outlet = outlet
        self._backfill = Backfill(feed, known, outlet, chance)
        self._reason = origin.reason if known else None
        self._is_question = False
        self._quiet_ms = QUIET_MS
        self._question_ms: int | None = None
        self._heard_from = 0

    def received(self, event: FeedEvent, socket: int, now_ms: int) -> None:
        """Take trades of a frame."""
        assert type(event) is Trades, "a trade feed takes trades"
        self._heard_from = socket
        trades = event.trades
        expected = first = self._known.end
        for trade in trades:
            if trade.sequence != expected:
                break
            expected += 1
        else:
            if trades and first:
                self._known.grow(expected, trades[-1].timestamp_ms)
                self._recent.extend(trades)
                self._outlet.effects.extend(map(Emit, trades))
                self._heard(now_ms)
                return
        for trade in trades:
            self._take(trade, now_ms)
        self._heard(now_ms)
        self._plan(now_ms)

    def cut(self, socket: int, reason: GapReason, now_ms: int) -> None:
        """Remember why trades may be missing; the next one, or REST, shows whether any are."""
        self._reason = reason
        self._quiet_ms = QUIET_MS
        self._question_ms = min(self._question_ms or NEVER_MS, now_ms + QUIET_MS)
        self._plan(now_ms)

    def tick(self, now_ms: int) -> None:
        """Announce what the ledger lacks, and notice when a question is due."""
        if self._question_ms is None:
            self._question_ms = now_ms + self._quiet_ms
            self._backfill.restore(self._open_before, self._reason or GapReason.START, now_ms)
            for hole in list(self._known.missing(self._known.first, self._known.end)):
                self._open(hole, now_ms)
        if self._known and now_ms >= self._question_ms:
            self._is_question = True
        self._plan(now_ms)

    def wanted(self, now_ms: int) -> Request | None:
        """A page of what is missing, or of what may have come since the newest."""
        if self._backfill.is_asking or now_ms < self._backfill.pause.until_ms or not self._known:
            return None
        piece = self._backfill.piece(self._holes(), now_ms)
        if piece is not None:
            first, end = max(0, piece.first - 1), piece.end + 1
        elif self._is_question:
            first, end = self._known.end - 1, self._known.end + _AHEAD
        else:
            return None
        return self._venue.trades_request(self.feed.instrument, first, end)

    def sent(self, now_ms: int) -> None:
        """A page is on its way."""
        self._backfill.is_asking = True
        self._plan(now_ms)

    def answered(self, body: bytes, now_ms: int) -> None:
        """Publish what was missing; learn what the exchange lacks."""
        trades = [
            record
            for record in self._venue.read_answer(self.feed, body, now_ms)
            if type(record) is Trade and record.instrument == self.feed.instrument
        ]
        piece = self._backfill.ended()
        if piece is None:
            self._answered_question(trades, now_ms)
        else:
            if self._is_other_count(trades, piece.first - 1, piece.from_ms):
                self._restart(piece, now_ms)
                self._plan(now_ms)
                return
            shown = sorted(trade.sequence for trade in trades)
            emitted = self._fill([trade for trade in trades if piece.first <= trade.sequence < piece.end])
            self._backfill.answered(piece, shown, emitted > 0, now_ms)
        self._plan(now_ms)

    def failed(self, now_ms: int) -> None:
        """Ask again after a pause."""
        self._backfill.failed(now_ms)
        self._plan(now_ms)

    def leave(self, now_ms: int) -> None:
        """End the gaps that are open."""
        self._backfill.leave(self._holes(), now_ms)

    def delivers_on(self, socket: int) -> bool:
        """Whether a trade came by this socket."""
        return self._heard_from == socket

    def status(self) -> FeedStatus:
        """How the feed stands."""
        state = "waiting" if not self._known else "filling" if self._backfill.open_gaps else "live"
        newest_ms = self._known.newest_ms if self._known else None
        return FeedStatus(self.feed, state, self._backfill.open_gaps, newest_ms)

    def _take(self, trade: Trade, now_ms: int) -> None:
        known, sequence = self._known, trade.sequence
        if known and self._is_reset(trade):
            self._reset(trade, now_ms)
        elif known and (known.has(sequence) or sequence < known.first):
            self._outlet.counters["duplicates"] += 1
            return
        end, newest_ms = known.end, known.newest_ms
        is_first = not known
        known.add(sequence, sequence + 1, trade.timestamp_ms, trade.timestamp_ms)
        if not is_first and sequence > end:
            self._open(SequenceSpan(end, sequence, newest_ms, trade.timestamp_ms), now_ms)
        self._outlet.emit(trade)
        if sequence < end:
            self._backfill.settle(now_ms)
        else:
            self._recent.append(trade)

    def _open(self, hole: SequenceSpan, now_ms: int) -> None:
        for part in self._backfill.unannounced(hole):
            self._backfill.open(part, self._reason or GapReason.SEQUENCE_BROKEN, now_ms)
        if hole.end - hole.first > BACKFILL_MAX:
            self._backfill.confirm(hole._replace(end=hole.end - BACKFILL_MAX), GapReason.TOO_OLD, now_ms)

    def _is_reset(self, trade: Trade) -> bool:
        behind = self._known.end - trade.sequence
        if behind <= 0:
            return -behind > RESET_AHEAD
        is_new = behind > RESET_BELOW or trade.timestamp_ms > self._known.newest_ms + RESET_LATER_MS
        return is_new or self._is_used_again(trade, None)

    def _is_used_again(self, trade: Trade, time_ms: int | None) -> bool:
        """Whether the number of `trade` belonged to another one, of which nothing but its `time_ms` may be known."""
        for seen in self._recent:
            if seen.sequence == trade.sequence:
                return (seen.trade_id, seen.timestamp_ms) != (trade.trade_id, trade.timestamp_ms)
        return time_ms is not None and abs(trade.timestamp_ms - time_ms) > RESET_LATER_MS

    def _is_other_count(self, trades: Sequence[Trade], sequence: int, time_ms: int) -> bool:
        """Whether a trade that must be known, by number and time, is another one."""
        return any(trade.sequence == sequence and self._is_used_again(trade, time_ms) for trade in trades)

    def _reset(self, trade: Trade, now_ms: int) -> None:
        self._backfill.give_up_all(GapReason.RESET, now_ms)
        from_ms, end = self._known.newest_ms, self._known.end
        to = trade.sequence if trade.sequence > end else None
        self._outlet.counters["resets"] += 1
        self._outlet.gap(
            Gap(
                self.feed,
                GapState.CONFIRMED,
                GapReason.RESET,
                from_ms,
                trade.timestamp_ms,
                now_ms,
                None if to is None else end,
                to,
            )
        )
        self._known.clear()
        self._recent.clear()

    def _restart(self, piece: SequenceSpan, now_ms: int) -> None:
        """Below `piece` the exchange's numbers are of a count before this one: what is missing there is lost."""
        self._outlet.counters["resets"] += 1
        for hole in list(self._known.missing(self._known.first, piece.end)):
            self._backfill.confirm(hole, GapReason.RESET, now_ms)
        self._known.drop_below(piece.end)
        self._recent = deque((trade for trade in self._recent if trade.sequence >= piece.end), RECENT_MAX)

    def _fill(self, trades: Sequence[Trade]) -> int:
        emitted = 0
        for trade in trades:
            if self._known.has(trade.sequence):
                continue
            self._known.add(trade.sequence, trade.sequence + 1, trade.timestamp_ms, trade.timestamp_ms)
            self._outlet.emit(trade)
            emitted += 1
        return emitted

    def _answered_question(self, trades: Sequence[Trade], now_ms: int) -> None:
        self._is_question = False
        self._backfill.pause.succeeded()
        self._question_ms = now_ms + self._quiet_ms
        end = self._known.end
        if self._is_other_count(trades, end - 1, self._known.newest_ms):
            newest = max(trades, key=lambda trade: trade.sequence)
            self._reset(newest, now_ms)
            self._take(newest, now_ms)
            self._outlet.resubscribes.append((self.feed, 0))
            return
        newer = [trade for trade in trades if end <= trade.sequence <= end + RESET_AHEAD]
        if not any(trade.timestamp_ms <= now_ms - IN_FLIGHT_MS for trade in newer):
            self._quiet_ms = min(2 * self._quiet_ms, QUIET_MAX_MS)
            return
        self._outlet.resubscribes.append((self.feed, 0))
        self._reason = self._reason or GapReason.SILENT
        self._take(max(newer, key=lambda trade: trade.sequence), now_ms)
        self._fill(newer)
        self._backfill.settle(now_ms)

    def _heard(self, now_ms: int) -> None:
        self._quiet_ms = QUIET_MS
        self._question_ms = now_ms + QUIET_MS
        self._is_question = False
        self._reason = None

    def _holes(self) -> list[SequenceSpan]:
        return list(self._known.missing(self._known.first, self._known.end)) if self._known.holes else []

    def _plan(self, now_ms: int) -> None:
        if self._backfill.is_asking:
            self.due_ms = NEVER_MS
            return
        question_ms = NEVER_MS if self._question_ms is None else self._question_ms
        if self._is_question:
            question_ms = max(now_ms, self._backfill.pause.until_ms)
        elif not self._known:
            question_ms = NEVER_MS
        self.due_ms = min(question_ms, self._backfill.due_ms(self._holes(), NEVER_MS))
