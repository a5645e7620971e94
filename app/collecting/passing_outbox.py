"""The outbox of what is replaced by its newest: states, klines in progress, forecasts, and books.

Of a state only the newest waits. The records of a book wait in order, up to a bound; when one had to be dropped, all
that follow are dropped too, and the next one that is sent is a whole book: no reader takes a hole for a book.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple

from app.collecting.encoding import message
from app.domain.backoff import spread_s
from app.domain.instrument import Instrument
from app.domain.records import BookDelta, BookSnapshot, Feed, Record, feed_of
from app.ports.clock import Clock
from app.ports.publishing import Publisher, PublishError, TooLarge

WINDOW: Final = 64
"""Messages under way at once, each of another feed."""
BOOK_RECORDS_MAX: Final = 100
"""Records of one book that wait: ten seconds of it. Then a whole book costs less than what was missed."""
PAUSE_S_FIRST: Final = 0.1
PAUSE_S_MAX: Final = 5.0
"""The longest pause between attempts: so much later at most does publishing go on when the stream is back."""


class PassingHooks(NamedTuple):
    """What an outbox calls. None of them may raise.

    `stored`: these records are in the stream. `book_lost` asks for a BookSnapshot of an instrument to be put, once the
    stream takes records again.
    """

    stored: Callable[[Sequence[Record]], None]
    book_lost: Callable[[Instrument], None]


class PassingStatus(NamedTuple):
    """The state of a passing outbox. `replaced` and `dropped` count records that were never sent."""

    waiting: int
    published: int
    replaced: int
    dropped: int
    books_lost: int
    fault: str | None
    last_refusal: str | None


class _Lane:
    __slots__ = ("instrument", "is_asking", "is_lost", "is_scheduled", "queue")

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.queue: deque[Record] = deque()
        self.is_scheduled = False  # in the queue of lanes, or with a message under way
        self.is_lost = False  # until a snapshot comes
        self.is_asking = False  # a snapshot is needed and was not asked for yet


class PassingOutbox:
    """Records in, messages out, the newest first of all; `run` publishes them."""

    def __init__(self, publisher: Publisher, clock: Clock, chance: Random, hooks: PassingHooks) -> None:
        self._publisher = publisher
        self._clock = clock
        self._chance = chance
        self._hooks = hooks
        self._lanes: dict[Feed, _Lane] = {}
        self._ready: asyncio.Queue[_Lane] = asyncio.Queue()  # bounded by the lanes, each of which is in it once
        self._published = self._replaced = self._dropped = self._books_lost = 0
        self._fault: str | None = None
        self._last_refusal: str | None = None

    def put(self, record: Record) -> None:
        """Take a record to publish, unless a newer one comes before its turn."""
        feed = feed_of(record)
        lane = self._lanes.get(feed)
        if lane is None:
            lane = self._lanes[feed] = _Lane(feed.instrument)
        if isinstance(record, BookSnapshot):
            if lane.is_lost or len(lane.queue) >= BOOK_RECORDS_MAX:
                self._dropped += len(lane.queue)
                lane.queue.clear()
                lane.is_lost = lane.is_asking = False
        elif isinstance(record, BookDelta):
            if not lane.is_lost and len(lane.queue) >= BOOK_RECORDS_MAX:
                self._lose(lane)
            if lane.is_lost:
                self._dropped += 1
                return
        else:
            self._replaced += len(lane.queue)
            lane.queue.clear()
        lane.queue.append(record)
        if not lane.is_scheduled:
            lane.is_scheduled = True
            self._ready.put_nowait(lane)

    def forget(self, record: Record) -> None:
        """Drop what waits of the feed of `record`, which says more (a final kline)."""
        if lane := self._lanes.get(feed_of(record)):
            self._replaced += len(lane.queue)
            lane.queue.clear()

    async def run(self) -> None:
        """Publish for ever."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WINDOW):
                tasks.create_task(self._work())

    def status(self) -> PassingStatus:
        """What waits and what is wrong."""
        return PassingStatus(
            sum(len(lane.queue) for lane in self._lanes.values()),
            self._published,
            self._replaced,
            self._dropped,
            self._books_lost,
            self._publisher.fault() or self._fault,
            self._last_refusal,
        )

    async def _work(self) -> None:
        while True:
            lane = await self._ready.get()
            if lane.queue:
                record = lane.queue.popleft()
                await self._publish(lane, record)
            if lane.is_asking:
                lane.is_asking = False
                self._hooks.book_lost(lane.instrument)
            if lane.queue:
                self._ready.put_nowait(lane)
            else:
                lane.is_scheduled = False

    async def _publish(self, lane: _Lane, record: Record) -> None:
        """Publish until it, or a newer state, is stored or refused."""
        sent, is_book = message(record), isinstance(record, BookSnapshot | BookDelta)
        failures = 0
        while True:
            try:
                await self._publisher.publish(sent)
            except TooLarge as error:
                self._last_refusal = str(error)
                self._dropped += 1
                if is_book:
                    self._lose(lane)
                    lane.is_asking = False  # it would be as large: wait for the next that comes by itself
                return
            except PublishError as error:
                self._fault = str(error)
                failures += 1
                await self._clock.sleep(spread_s(self._chance, failures, PAUSE_S_FIRST, PAUSE_S_MAX))
                if lane.queue and not is_book:
                    self._replaced += 1
                    record = lane.queue.popleft()
                    sent = message(record)
            else:
                self._fault = None
                self._published += 1
                self._hooks.stored((record,))
                return

    def _lose(self, lane: _Lane) -> None:
        self._dropped += len(lane.queue)
        lane.queue.clear()
        lane.is_lost = lane.is_asking = True
        self._books_lost += 1
