"""The gaps that were announced and have not ended, by feed: each must end, also when its feed is followed no longer."""

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from app.collecting.sequence_spans import SequenceSpan, SequenceSpans
from app.domain.gap_reason import GapReason
from app.domain.instrument import Instrument, Market
from app.domain.records import DataType, Feed, Gap, GapState

SPANS_MAX: Final = 1_000
"""Open spans of one feed: twice the holes that are under repair at once; of more, the two oldest become one."""

FeedKey: TypeAlias = tuple[str, str, str, str, str]
"""A feed by its names: exchange, market, native, type, interval. A changed instrument changes nothing."""


def key_of(feed: Feed) -> FeedKey:
    """The names of a feed."""
    instrument = feed.instrument
    return (instrument.exchange, instrument.market.value, instrument.native, feed.data_type.value, feed.interval)


def is_counted(gap: Gap) -> bool:
    """Whether the gap is one of the exchange's sequence; the numbers of a book are the collector's own."""
    return gap.from_sequence is not None and gap.feed.data_type is not DataType.ORDERBOOK


class OpenGaps(msgspec.Struct, omit_defaults=True):
    """The open gaps of one feed: spans of its sequence, or the times (ms) since when it has not been proven."""

    symbol: str = ""
    spans: list[SequenceSpan] = []
    since_ms: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.spans or self.since_ms)

    def announced(self, gap: Gap) -> None:
        """A gap is announced: it is open until its end is stored."""
        self.symbol = gap.feed.instrument.symbol
        if not is_counted(gap):
            self.since_ms = sorted({*self.since_ms, gap.from_ms})
        elif gap.from_sequence is not None and gap.to_sequence is not None and gap.from_sequence < gap.to_sequence:
            self.missing(SequenceSpan(gap.from_sequence, gap.to_sequence, gap.from_ms, gap.to_ms))

    def missing(self, span: SequenceSpan) -> None:
        """These sequences are missing."""
        spans = SequenceSpans(self.spans)
        spans.add(*span)
        self.spans = list(spans)
        if len(self.spans) > SPANS_MAX:
            first, second = self.spans[:2]
            self.spans[:2] = [SequenceSpan(first.first, second.end, first.from_ms, second.to_ms)]

    def ended(self, gap: Gap) -> None:
        """The end of a gap is stored: it was closed, confirmed or abandoned."""
        if not is_counted(gap):
            over = range(gap.from_ms, max(gap.to_ms, gap.from_ms + 1))
            self.since_ms = [since_ms for since_ms in self.since_ms if since_ms not in over]
        elif gap.from_sequence is not None and gap.to_sequence is not None and gap.from_sequence < gap.to_sequence:
            ended = SequenceSpans([(gap.from_sequence, gap.to_sequence, gap.from_ms, gap.to_ms)])
            self.spans = [
                part._replace(from_ms=span.from_ms, to_ms=span.to_ms)
                for span in self.spans
                for part in ended.missing(span.first, span.end)
            ]

    def ends(self, key: FeedKey, known: SequenceSpans, now_ms: int) -> Iterator[Gap]:
        """The records that end all of them for a feed that nobody follows: what `known` has closes them."""
        exchange, market, native, data_type, interval = key
        feed = Feed(Instrument(exchange, Market(market), self.symbol, native), DataType(data_type), interval)
        for since_ms in self.since_ms:
            yield abandoned(feed, since_ms, now_ms)
        for span in self.spans:
            lacking = SequenceSpans(known.missing(span.first, span.end))
            for state, parts in (
                (GapState.ABANDONED, list(lacking)),
                (GapState.CLOSED, list(lacking.missing(span.first, span.end))),
            ):
                for first, end, _, _ in parts:
                    times = span.from_ms, span.to_ms, now_ms
                    yield Gap(feed, state, GapReason.UNSUBSCRIBED, *times, first, end)


def abandoned(feed: Feed, since_ms: int, now_ms: int, numbers: tuple[int | None, int | None] = (None, None)) -> Gap:
    """The end of the gap of a feed without a sequence that is followed no longer; `numbers`: those of a book."""
    return Gap(feed, GapState.ABANDONED, GapReason.UNSUBSCRIBED, since_ms, max(since_ms, now_ms), now_ms, *numbers)
