"""The collector's ledger: which sequences of each feed are stored or confirmed absent."""

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from app.collecting.kline_sequence import grid_of, sequence_of
from app.collecting.open_gaps import FeedKey, OpenGaps, is_counted, key_of
from app.collecting.sequence_spans import SequenceSpan, SequenceSpans
from app.domain.gap_reason import GapReason
from app.domain.interval import DAY_MS
from app.domain.records import (
    DataType,
    Feed,
    FundingRate,
    Gap,
    GapState,
    KlineRecord,
    Record,
    Trade,
    feed_of,
)

HOLES_MAX: Final = 2_000
"""Holes of a feed that the ledger keeps: publishes under way (500) may leave one each, and the file stays small."""
FUNDING_POINTS_MS: Final = 2 * DAY_MS
"""Paid rates have no grid: they are kept one by one for so long, far longer than publishing lags; older are joined."""

_VERSION: Final = 1


class LedgerUnreadable(ValueError):
    """The text is no ledger of this version; the message says what to do."""


class Origin(NamedTuple):
    """What the ledger holds of a feed that begins: stored sequences, gaps that were announced, the newest time."""

    known: SequenceSpans
    open: tuple[SequenceSpan, ...] = ()
    newest_ms: int | None = None
    reason: GapReason = GapReason.START
    """Why what is missing since then is."""


class _Line(msgspec.Struct, omit_defaults=True):
    key: FeedKey
    newest_ms: int
    spans: list[SequenceSpan]
    open: OpenGaps = msgspec.field(default_factory=OpenGaps)


class _File(msgspec.Struct):
    version: int
    feeds: list[_Line]


class SequenceLedger:
    """What is stored of each feed. A feed is known by its names, so that a changed instrument changes nothing.

    Written only after storing: it never promises too much. Sequences are the exchange's own for trades, the number on
    the interval's grid for klines and the time paid for funding rates; feeds without sequences have a newest time only.
    """

    def __init__(self) -> None:
        self._spans: dict[FeedKey, SequenceSpans] = {}
        self._newest_ms: dict[FeedKey, int] = {}
        self._reset_ms: dict[FeedKey, int] = {}
        """From when on a feed counts anew; until something of the new count is stored, the old one stays."""
        self._open: dict[FeedKey, OpenGaps] = {}
        self._told: set[tuple[FeedKey, int]] = set()

    def store(self, feed: Feed, first: int, end: int, time_ms: int, from_ms: int | None = None) -> list[Gap]:
        """Note that [`first`, `end`), whose last happened at `time_ms`, is stored or confirmed absent.

        Returns the gap to publish when there are more holes than are kept: the oldest is given up once it is stored.
        """
        key = key_of(feed)
        spans = self._spans.get(key)
        if key in self._reset_ms and time_ms >= self._reset_ms[key]:
            del self._reset_ms[key]
            spans = None
        if spans is None:
            spans = self._spans[key] = SequenceSpans()
        spans.add(first, end, time_ms if from_ms is None else from_ms, time_ms)
        self._note(key, time_ms)
        if spans.holes > HOLES_MAX:
            return self._give_up(feed, key, spans, time_ms)
        return []

    def record(self, record: Record) -> list[Gap]:
        """Note that `record` is stored; returns gaps to publish, as `store` does."""
        if isinstance(record, Trade):
            feed = Feed(record.instrument, DataType.TRADE)
            return self.store(feed, record.sequence, record.sequence + 1, record.timestamp_ms)
        if isinstance(record, Gap):
            return self._record_gap(record)
        if isinstance(record, KlineRecord):
            feed = Feed(record.instrument, DataType.KLINE, record.interval)
            if record.is_final:
                sequence = sequence_of(grid_of(record.interval), record.open_ms)
                return self.store(feed, sequence, sequence + 1, record.open_ms)
            return []
        if isinstance(record, FundingRate):
            feed = Feed(record.instrument, DataType.FUNDING_RATE)
            if record.is_final:
                gaps = self.store(feed, record.funding_ms, record.funding_ms + 1, record.funding_ms)
                self._spans[key_of(feed)].join_below(self._spans[key_of(feed)].end - FUNDING_POINTS_MS)
                return gaps
            return []
        self._note(key_of(feed_of(record)), record.timestamp_ms)
        return []

    def begins(self, record: Record) -> bool:
        """Whether `record` is the first of its feed; if so, the feed begins before it, and is in the ledger now.

        Write the ledger before the record is published: if it is lost then, the next start sees that it is missing.
        """
        if isinstance(record, Trade):
            feed, sequence, time_ms = Feed(record.instrument, DataType.TRADE), record.sequence, record.timestamp_ms
        elif isinstance(record, KlineRecord) and record.is_final:
            feed = Feed(record.instrument, DataType.KLINE, record.interval)
            sequence, time_ms = sequence_of(grid_of(record.interval), record.open_ms), record.open_ms
        elif isinstance(record, Gap) and record.from_sequence is not None and is_counted(record):
            feed, sequence, time_ms = record.feed, record.from_sequence, record.from_ms
        else:
            return False
        if key_of(feed) in self._spans or sequence < 1:
            return False
        self.store(feed, sequence - 1, sequence, time_ms)
        return True

    def announce(self, gap: Gap) -> None:
        """Note that `gap` is about to be published: unless it is an end, it is open until its end is stored."""
        if gap.state in (GapState.OPEN, GapState.ABANDONED):
            self._open.setdefault(key_of(gap.feed), OpenGaps()).announced(gap)
        if gap.state is GapState.OPEN:
            self._begin_before(gap)

    def refuse(self, record: Record) -> None:
        """Note that `record` will not be stored: it is missing."""
        if isinstance(record, Trade):
            sequence, time_ms = record.sequence, record.timestamp_ms
        elif isinstance(record, KlineRecord) and record.is_final:
            sequence, time_ms = sequence_of(grid_of(record.interval), record.open_ms), record.open_ms
        else:
            return
        feed = feed_of(record)
        found = self._open.setdefault(key_of(feed), OpenGaps())
        found.symbol = feed.instrument.symbol
        found.missing(SequenceSpan(sequence, sequence + 1, time_ms, time_ms))

    def ends(self, exchange: str, followed: Collection[Feed], now_ms: int) -> list[Gap]:
        """The records that end the open gaps of an exchange's feeds that are not among those followed."""
        keys = {key_of(feed) for feed in followed}
        found = {key: gaps for key, gaps in self._open.items() if gaps and key[0] == exchange and key not in keys}
        nothing = SequenceSpans()
        return [gap for key, gaps in found.items() for gap in gaps.ends(key, self._spans.get(key, nothing), now_ms)]

    def exchanges(self) -> set[str]:
        """The exchanges of which gaps are open."""
        return {key[0] for key, gaps in self._open.items() if gaps}

    def origin(self, feed: Feed, reason: GapReason = GapReason.START) -> Origin:
        """What a feed begins with: of one without a sequence, the time from which it is not proven."""
        gaps = self._open.get(key_of(feed), OpenGaps())
        newest_ms = min(gaps.since_ms) if gaps.since_ms else self.newest_ms(feed)
        return Origin(self.known(feed), tuple(gaps.spans), newest_ms, reason)

    def known(self, feed: Feed) -> SequenceSpans:
        """A copy of the sequences that are stored or confirmed absent."""
        spans = self._spans.get(key_of(feed))
        return spans.copy() if spans is not None else SequenceSpans()

    def newest_ms(self, feed: Feed) -> int | None:
        """The exchange's time of the newest that is stored; None: nothing is."""
        return self._newest_ms.get(key_of(feed))

    def missing(self, feed: Feed, end: int) -> list[SequenceSpan]:
        """What lies between the first sequence and `end` and is neither stored nor absent; nothing before a first."""
        spans = self._spans.get(key_of(feed))
        return list(spans.missing(spans.first, end)) if spans else []

    def to_text(self) -> str:
        """The ledger as JSON, for `from_text`."""
        none, opened = OpenGaps(), {key: gaps for key, gaps in self._open.items() if gaps}
        lines = [
            _Line(key, self._newest_ms.get(key, 0), list(self._spans.get(key, ())), opened.get(key, none))
            for key in sorted({*self._spans, *self._newest_ms, *opened})
        ]
        return msgspec.json.encode(_File(_VERSION, lines)).decode()

    @classmethod
    def from_text(cls, text: str | bytes) -> "SequenceLedger":
        """The ledger that `to_text` wrote. LedgerUnreadable: it is none."""
        try:
            file = msgspec.json.decode(text, type=_File)
        except msgspec.DecodeError as error:
            raise LedgerUnreadable(_advice(f"is not a ledger ({error})")) from None
        if file.version != _VERSION:
            raise LedgerUnreadable(_advice(f"has version {file.version}, this program writes {_VERSION}"))
        made = cls()
        for line in file.feeds:
            if any(first >= end for first, end, _, _ in line.spans):
                raise LedgerUnreadable(_advice(f"holds an empty span of {'/'.join(line.key)}"))
            if line.spans:
                made._spans[line.key] = SequenceSpans(line.spans)
            if line.newest_ms:
                made._newest_ms[line.key] = line.newest_ms
            if line.open:
                made._open[line.key] = line.open
        return made

    def _record_gap(self, gap: Gap) -> list[Gap]:
        if gap.state is GapState.OPEN:
            self._begin_before(gap)
            return []
        if (gaps := self._open.get(key_of(gap.feed))) is not None:
            gaps.ended(gap)
        if gap.state is not GapState.CONFIRMED:
            return []
        key = key_of(gap.feed)
        if gap.reason is GapReason.RESET and self._is_past(key, gap):
            return []
        if gap.reason is GapReason.RESET:
            self._reset_ms[key] = max(gap.to_ms, self._reset_ms.get(key, 0))
        elif gap.feed.data_type is DataType.ORDERBOOK or gap.from_sequence is None or gap.to_sequence is None:
            self._note(key_of(gap.feed), gap.to_ms)
        elif gap.from_sequence < gap.to_sequence:
            return self.store(gap.feed, gap.from_sequence, gap.to_sequence, gap.to_ms, gap.from_ms)
        return []

    def _is_past(self, key: FeedKey, gap: Gap) -> bool:
        """Whether a gap lies below all that is known: it was told already that its count has ended."""
        spans = self._spans.get(key)
        return spans is not None and is_counted(gap) and gap.to_sequence is not None and gap.to_sequence <= spans.first

    def _begin_before(self, gap: Gap) -> None:
        """A gap that opens a feed of which nothing is stored yet begins it: it would stay open after a restart."""
        if gap.from_sequence is None or gap.feed.data_type is DataType.ORDERBOOK:
            self._note(key_of(gap.feed), gap.from_ms)
            return
        if key_of(gap.feed) in self._spans:
            return
        self.store(gap.feed, gap.from_sequence - 1, gap.from_sequence, gap.from_ms)

    def _note(self, key: FeedKey, time_ms: int) -> None:
        if time_ms > self._newest_ms.get(key, -1):
            self._newest_ms[key] = time_ms

    def _give_up(self, feed: Feed, key: FeedKey, spans: SequenceSpans, now_ms: int) -> list[Gap]:
        hole = spans.oldest_hole()
        if hole is None or (key, hole.first) in self._told:
            return []
        self._told = {told for told in self._told if told[0] != key} | {(key, hole.first)}
        return [
            Gap(
                feed,
                GapState.CONFIRMED,
                GapReason.TOO_MANY_HOLES,
                hole.from_ms,
                hole.to_ms,
                now_ms,
                hole.first,
                hole.end,
            )
        ]


def _advice(what: str) -> str:
    return f"the text {what}; move the file away to begin at the first records seen, or restore a copy of it"
