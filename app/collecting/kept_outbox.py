"""The outbox of what must not be lost: each feed's order is kept, and what the stream does not confirm is on disk.

While the stream confirms, messages go from memory to it. At the first failure, or when too much waits, all records go
to the spill first and from there to the stream, until the spill is empty again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Final, NamedTuple

from app.collecting.lane import Lane, LaneState, Made
from app.collecting.replay import Replay
from app.domain.records import Record, Trade, feed_of
from app.ports.clock import Clock
from app.ports.publishing import Publisher, PublishError, TooLarge
from app.ports.spilling import Spill, SpillRefused

BATCH_MAX: Final = 200
"""Trades in a message (measured in docs/collector.md)."""
LINGER_S: Final = 0.01
"""How long the first trade of a message waits for others: less than the network to an exchange takes."""
WINDOW: Final = 64
"""Messages under way at once, each of another feed; more gain nothing on one connection."""
RECORDS_MAX: Final = 50_000
"""Records that wait in memory (about 20 MB); more are refused, which happens when the disk fails as well."""
SPILL_AT: Final = 10_000
"""So many records in memory go to the spill: the stream is slower than the exchanges."""
GROUP_MESSAGES: Final = 2_000
"""Messages that are encoded, written and fsynced in one group: at most 30 ms of work before the disk's."""
RETRY_S: Final = 1.0
"""Between attempts to write to a spill that refuses."""


class Hooks(NamedTuple):
    """What an outbox calls. None of them may raise.

    `stored`: these records are in the stream, or fsynced in the spill. `refused`: these will never be, and why; they
    remain missing. `spilling`: why records go to the spill from now on; None: they no longer do.
    """

    stored: Callable[[Sequence[Record]], None]
    refused: Callable[[Sequence[Record], str], None]
    spilling: Callable[[str | None], None]


class Batching(NamedTuple):
    """How trades are joined to messages."""

    records_max: int = BATCH_MAX
    linger_s: float = LINGER_S


class KeptStatus(NamedTuple):
    """The state of a kept outbox. `oldest_ms`: when the oldest record in memory was received; None: none waits."""

    waiting: int
    oldest_ms: int | None
    published: int
    refused: int
    is_spilling: bool
    spilled_bytes: int
    fault: str | None
    last_refusal: str | None


class KeptOutbox:
    """Records in, messages out, in each feed's order; `run` publishes them."""

    def __init__(
        self, publisher: Publisher, spill: Spill, clock: Clock, chance: Random, hooks: Hooks, batching: Batching
    ) -> None:
        self._publisher = publisher
        self._spill = spill
        self._clock = clock
        self._hooks = hooks
        self._batching = batching
        self._replay = Replay(publisher, clock, chance, WINDOW)
        self._lanes: dict[Hashable, Lane] = {}  # one for each feed that was ever followed: exchanges list thousands
        self._ready: asyncio.Queue[Lane] = asyncio.Queue()  # bounded by the lanes, each of which is in it once
        self._lingering: deque[Lane] = deque()
        self._has_lingering = asyncio.Event()
        self._has_work = asyncio.Event()
        self._writer_looked = asyncio.Event()
        self._is_spilling = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_writing = False
        self._waiting = self._published = self._refused = 0
        self._last_refusal: str | None = None
        self._spill_fault: str | None = None
        if not spill.is_empty:
            self._begin_spilling("messages of the last run are in the spill")

    def put(self, record: Record) -> None:
        """Take a record to publish. It is refused (see Hooks) when RECORDS_MAX wait already."""
        if self._waiting >= RECORDS_MAX:
            self._refuse([record], self._spill_fault or f"{RECORDS_MAX} records wait for the disk: is it too slow?")
            return
        key: Hashable = record.instrument if isinstance(record, Trade) else (type(record), feed_of(record))
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(self._batching.records_max)
        lane.pending.append(record)
        self._waiting += 1
        self._is_idle.clear()
        if self._is_spilling.is_set():
            self._has_work.set()
        elif self._waiting >= SPILL_AT:
            self._begin_spilling(f"the stream is slower than the exchanges: {self._waiting} records wait")
        else:
            self._schedule(lane)

    async def run(self) -> None:
        """Publish for ever."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WINDOW):
                tasks.create_task(self._work())
            tasks.create_task(self._linger())
            tasks.create_task(self._write_spill())
            tasks.create_task(self._read_spill())

    async def flush(self) -> None:
        """Return when no record waits in memory: each is stored, or was refused."""
        await self._is_idle.wait()

    def status(self) -> KeptStatus:
        """What waits, where, and what is wrong."""
        firsts = (
            lane.made[0].records[0] if lane.made else lane.pending[0] for lane in self._lanes.values() if lane.has_any
        )
        return KeptStatus(
            self._waiting,
            min((each.received_ms for each in firsts), default=None),
            self._published + self._replay.published,
            self._refused + self._replay.too_large,
            self._is_spilling.is_set(),
            self._spill.bytes_held,
            self._publisher.fault() or self._spill_fault or self._replay.fault,
            self._replay.last_refusal or self._last_refusal,
        )

    # --- from memory to the stream --------------------------------------------------------------------------------

    def _schedule(self, lane: Lane) -> None:
        if lane.state in (LaneState.READY, LaneState.BUSY):
            return
        is_partial = not lane.made and isinstance(lane.pending[0], Trade) and len(lane.pending) < lane.batch_max
        if not is_partial or not self._batching.linger_s:
            lane.state = LaneState.READY
            self._ready.put_nowait(lane)
        elif lane.state is LaneState.IDLE:
            lane.state = LaneState.LINGERING
            self._lingering.append(lane)
            self._has_lingering.set()

    async def _linger(self) -> None:
        while True:
            await self._has_lingering.wait()
            self._has_lingering.clear()
            due = len(self._lingering)
            await self._clock.sleep(self._batching.linger_s)
            for _ in range(due):
                lane = self._lingering.popleft()
                if lane.state is LaneState.LINGERING:
                    lane.state = LaneState.READY
                    self._ready.put_nowait(lane)
            if self._lingering:
                self._has_lingering.set()

    async def _work(self) -> None:
        while True:
            lane = await self._ready.get()
            if self._is_spilling.is_set() or not lane.has_any:
                lane.state = LaneState.IDLE
                continue
            lane.state = LaneState.BUSY
            made = lane.first()
            try:
                await self._publisher.publish(made.message)
            except TooLarge as error:
                lane.taken()
                self._refuse(made.records, str(error))
                self._leave(made)
            except PublishError as error:
                self._begin_spilling(str(error))
            else:
                lane.taken()
                self._published += 1
                self._hooks.stored(made.records)
                self._leave(made)
            lane.state = LaneState.IDLE
            if self._is_spilling.is_set():
                self._has_work.set()
            elif lane.has_any:
                self._schedule(lane)

    def _leave(self, made: Made) -> None:
        self._waiting -= len(made.records)
        if not self._waiting:
            self._is_idle.set()

    def _refuse(self, records: Sequence[Record], reason: str) -> None:
        self._refused += len(records)
        self._last_refusal = reason
        self._hooks.refused(records, reason)

    # --- through the spill ----------------------------------------------------------------------------------------

    def _begin_spilling(self, reason: str) -> None:
        self._has_work.set()
        if not self._is_spilling.is_set():
            self._is_spilling.set()
            self._replay.failed(reason)
            self._hooks.spilling(reason)

    def _end_spilling(self) -> None:
        self._is_spilling.clear()
        self._hooks.spilling(None)
        for lane in self._lanes.values():
            if lane.has_any:
                self._schedule(lane)

    async def _write_spill(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            if not self._is_spilling.is_set() or self._is_nearly_through():
                continue
            if group := self._group():
                self._is_writing = True
                is_written = await self._append(group)
                self._is_writing = False
                self._has_work.set()
                self._writer_looked.set()
                if not is_written:
                    await self._clock.sleep(RETRY_S)
            else:
                self._writer_looked.set()

    def _is_nearly_through(self) -> bool:
        """Whether the last of the spill is being published; then new records wait, so that it can end."""
        return self._replay.is_healthy and self._spill.is_read

    def _group(self) -> list[tuple[Lane, Made]]:
        """The next messages of all lanes that have none under way."""
        group: list[tuple[Lane, Made]] = []
        for lane in self._lanes.values():
            while lane.state is not LaneState.BUSY and lane.has_any and len(group) < GROUP_MESSAGES:
                group.append((lane, lane.taken()))
        return group

    async def _append(self, group: list[tuple[Lane, Made]]) -> bool:
        try:
            await self._spill.append([made.message for _, made in group])
        except SpillRefused as error:
            self._spill_fault = str(error)
            for lane, made in reversed(group):
                lane.put_back(made)
            return False
        self._spill_fault = None
        for _, made in group:
            self._hooks.stored(made.records)
            self._leave(made)
        return True

    async def _read_spill(self) -> None:
        while True:
            await self._is_spilling.wait()
            if messages := await self._spill.read():
                await self._replay.publish(messages, self._has_work.set)
            await self._spill.release()
            if not self._spill.is_read:
                continue
            if self._is_writing or (self._waiting and not self._replay.is_healthy and not self._spill_fault):
                self._writer_looked.clear()
                await self._writer_looked.wait()
                continue
            if self._spill_fault:  # neither takes anything: let the stream show whether it does
                await self._replay.pause()
            if self._spill.is_empty and not self._is_writing:  # it may have recovered in the pause
                self._end_spilling()
