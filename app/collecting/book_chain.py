"""One chain of frames of a book, by one socket: from a snapshot on, each frame proven to follow the one before."""

from enum import Enum
from typing import Final, NamedTuple

from app.collecting.book import Book, UnknownDelete
from app.domain.gap_reason import GapReason
from app.domain.market_events import BookUpdate

BUFFER_MAX: Final = 5_000
"""Frames kept while a snapshot is on its way: eight minutes at ten a second."""


class BookRule(NamedTuple):
    """What is special about an exchange's books.

    `snapshot_levels`: a snapshot with so many levels on a side ends there, and no frame tells what stands beyond; None:
    the exchange's frames keep the whole depth. `is_delete_known`: a delete names a level that exists. `compare_ms`: so
    often a held book is compared with a fresh snapshot; None: never.
    """

    snapshot_levels: int | None = None
    is_delete_known: bool = False
    compare_ms: int | None = None


class Changes(NamedTuple):
    """What a frame really changed."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class Broken(Enum):
    """Why a chain ended, as a gap says it."""

    SEQUENCE = GapReason.SEQUENCE_BROKEN
    RESET = GapReason.RESET
    CROSSED = GapReason.CROSSED
    UNKNOWN_DELETE = GapReason.UNKNOWN_DELETE
    UNREADABLE_PRICE = GapReason.UNREADABLE_PRICE
    LEFT_WINDOW = GapReason.LEFT_WINDOW
    """Levels stand beyond what is known, and none inside: an empty side would be wrong."""


class BookChain:
    """Frames of one socket. It has no book until a snapshot came that the frames after it join."""

    def __init__(self, socket: int, rule: BookRule, *, is_streamed: bool) -> None:
        self.socket: Final = socket
        self.book = Book()
        self.is_valid = False
        self.start = 0
        self.last = 0
        self.begun_ms = 0
        self.timestamp_ms = 0
        self.sent_ms = 0
        self.received_ms = 0
        self.price = ""
        """One of the newest prices, as the exchange printed it: the book has them without zeros at the end."""
        self._rule = rule
        self._is_streamed = is_streamed
        self._buffer: list[BookUpdate] = []

    def take(self, update: BookUpdate) -> Changes | Broken | None:
        """Take a frame; None: nothing changed that a reader could see, or there is no book yet."""
        if update.is_snapshot:
            return self.begin(update)
        if not self.is_valid:
            if self._is_streamed:
                return None
            if len(self._buffer) >= BUFFER_MAX:
                self._buffer.clear()
            self._buffer.append(update)
            return None
        return self._follow(update)

    def begin(self, snapshot: BookUpdate) -> Broken | None:
        """Hold a snapshot, with the frames that came since; SEQUENCE: it is older than the first of them joins."""
        rule = self._rule
        try:
            self.book.bids.replace(snapshot.bids, rule.snapshot_levels)
            self.book.asks.replace(snapshot.asks, rule.snapshot_levels)
        except ValueError:
            return Broken.UNREADABLE_PRICE
        if self.book.is_crossed():
            return Broken.CROSSED
        self.is_valid = True
        self.start = self.last = snapshot.last
        self.begun_ms = snapshot.timestamp_ms
        self._note(snapshot)
        buffer, self._buffer = self._buffer, []
        for update in buffer:
            result = self._follow(update)
            if isinstance(result, Broken):
                self.is_valid = False
                self._buffer = [later for later in buffer if later.last > update.last or later is update]
                return result
        return None

    def covers(self, other: "BookChain") -> bool:
        """Whether this chain has a book and lost nothing of what happened since the newest frame of `other`."""
        return self.is_valid and self.start <= other.last <= self.last

    def _follow(self, update: BookUpdate) -> Changes | Broken | None:
        previous = update.first - 1 if update.previous is None else update.previous
        if self.last != previous and not self._is_joint(update, previous):
            if self.last == self.start and update.last <= self.start and not self._is_streamed:
                return None  # the REST snapshot already contains it
            if previous <= update.last <= self.last and update.timestamp_ms <= self.timestamp_ms:
                return None  # a repeated frame; after a lost reset the numbers are low, but the times are newer
            return Broken.RESET if update.last < previous else Broken.SEQUENCE
        if update.last < previous:
            return Broken.RESET
        self._note(update)
        if update.last == previous:
            return None
        self.last = update.last
        is_known = self._rule.is_delete_known
        try:
            changes = Changes(self.book.bids.apply(update.bids, is_known), self.book.asks.apply(update.asks, is_known))
        except UnknownDelete:
            return Broken.UNKNOWN_DELETE
        except ValueError:
            return Broken.UNREADABLE_PRICE
        if self.book.is_crossed():
            return Broken.CROSSED
        if self._rule.snapshot_levels is not None and not self.book.levels_min():
            return Broken.LEFT_WINDOW
        return changes if changes.bids or changes.asks else None

    def _note(self, update: BookUpdate) -> None:
        self.timestamp_ms, self.sent_ms, self.received_ms = update.timestamp_ms, update.sent_ms, update.received_ms
        if levels := update.bids or update.asks:
            self.price = levels[0][0]

    def _is_joint(self, update: BookUpdate, previous: int) -> bool:
        """Whether this is the first frame after a REST snapshot, and contains everything since it."""
        return not self._is_streamed and self.last == self.start and previous <= self.last < update.last
