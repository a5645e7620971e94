"""The collector's ledger: which sequences of each feed are stored or confirmed absent."""

from typing import Final, TypeAlias

import msgspec

from app.collecting.kline_sequence import grid_of, sequence_of
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
_Key: TypeAlias = tuple[str, str, str, str, str]


class LedgerUnreadable(ValueError):
    """The text is no ledger of this version; the message says what to do."""


class _Line(msgspec.Struct):
    key: _Key
    newest_ms: int
    spans: list[SequenceSpan]


class _File(msgspec.Struct):
    version: int
    feeds: list[_Line]


class SequenceLedger:
    """What is stored of each feed. A feed is known by its names, so that a changed instrument changes nothing.

    Written only after storing: it never promises too much. Sequences are the exchange's own for trades, the number on
    the interval's grid for klines and the time paid for funding rates; feeds without sequences have a newest time only.
    """

    def __init__(self) -> None:
        self._spans: dict[_Key, SequenceSpans] = {}
        self._newest_ms: dict[_Key, int] = {}
        self._reset_ms: dict[_Key, int] = {}
        """From when on a feed counts anew; until something of the new count is stored, the old one stays."""
        self._told: set[tuple[_Key, int]] = set()

    def store(self, feed: Feed, first: int, end: int, time_ms: int, from_ms: int | None = None) -> list[Gap]:
        """Note that [`first`, `end`), whose last happened at `time_ms`, is stored or confirmed absent.

        Returns the gap to publish when there are more holes than are kept: the oldest is given up once it is stored.
        """
        key = _key(feed)
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
                self._spans[_key(feed)].join_below(self._spans[_key(feed)].end - FUNDING_POINTS_MS)
                return gaps
            return []
        self._note(_key(feed_of(record)), record.timestamp_ms)
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
        else:
            return False
        if _key(feed) in self._spans or sequence < 1:
            return False
        self.store(feed, sequence - 1, sequence, time_ms)
        return True

    def known(self, feed: Feed) -> SequenceSpans:
        """A copy of the sequences that are stored or confirmed absent."""
        spans = self._spans.get(_key(feed))
        return spans.copy() if spans is not None else SequenceSpans()

    def newest_ms(self, feed: Feed) -> int | None:
        """The exchange's time of the newest that is stored; None: nothing is."""
        return self._newest_ms.get(_key(feed))

    def missing(self, feed: Feed, end: int) -> list[SequenceSpan]:
        """What lies between the first sequence and `end` and is neither stored nor absent; nothing before a first."""
        spans = self._spans.get(_key(feed))
        return list(spans.missing(spans.first, end)) if spans else []

    def to_text(self) -> str:
        """The ledger as JSON, for `from_text`."""
        keys = sorted({*self._spans, *self._newest_ms})
        lines = [_Line(key, self._newest_ms.get(key, 0), list(self._spans.get(key, ()))) for key in keys]
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
            made._newest_ms[line.key] = line.newest_ms
        return made

    def _record_gap(self, gap: Gap) -> list[Gap]:
        if gap.state is not GapState.CONFIRMED:
            self._begin_before(gap)
            return []
        if gap.reason is GapReason.RESET:
            key = _key(gap.feed)
            self._reset_ms[key] = max(gap.to_ms, self._reset_ms.get(key, 0))
        elif gap.feed.data_type is DataType.ORDERBOOK or gap.from_sequence is None or gap.to_sequence is None:
            self._note(_key(gap.feed), gap.to_ms)
        elif gap.from_sequence < gap.to_sequence:
            return self.store(gap.feed, gap.from_sequence, gap.to_sequence, gap.to_ms, gap.from_ms)
        return []

    def _begin_before(self, gap: Gap) -> None:
        """A gap that opens a feed of which nothing is stored yet begins it: it would stay open after a restart."""
        if gap.from_sequence is None or gap.feed.data_type is DataType.ORDERBOOK:
            self._note(_key(gap.feed), gap.from_ms)
            return
        if _key(gap.feed) in self._spans:
            return
        self.store(gap.feed, gap.from_sequence - 1, gap.from_sequence, gap.from_ms)

    def _note(self, key: _Key, time_ms: int) -> None:
        if time_ms > self._newest_ms.get(key, -1):
            self._newest_ms[key] = time_ms

    def _give_up(self, feed: Feed, key: _Key, spans: SequenceSpans, now_ms: int) -> list[Gap]:
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


def _key(feed: Feed) -> _Key:
    instrument = feed.instrument
    return (instrument.exchange, instrument.market.value, instrument.native, feed.data_type.value, feed.interval)


def _advice(what: str) -> str:
    return f"the text {what}; move the file away to begin at the first records seen, or restore a copy of it"
