"""Which outbox a record goes through: one for each stream and policy, so that no fault of one holds up another."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from app.collecting.kept_outbox import Batching, Hooks, KeptOutbox, KeptStatus
from app.collecting.passing_outbox import PassingHooks, PassingOutbox, PassingStatus
from app.domain.instrument import Instrument
from app.domain.records import BookDelta, BookSnapshot, FundingRate, Gap, KlineRecord, Record, Trade
from app.ports.clock import Clock
from app.ports.publishing import Publisher
from app.ports.spilling import Spill

KEPT: Final = ("trades", "series")
"""The outboxes that keep every record; each has a spill of its own."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What outboxes are given. `hooks.stored` is called for all records, the other two for kept ones.

    `book_lost` is that of PassingHooks.
    """

    publisher: Publisher
    spills: Mapping[str, Spill]
    clock: Clock
    chance: Random
    hooks: Hooks
    book_lost: Callable[[Instrument], None]
    batching: Batching


class Outboxes:
    """All records in, messages out; `run` publishes them."""

    def __init__(self, given: Surroundings) -> None:
        """`given.spills` has one for each of KEPT."""
        kept = {
            name: KeptOutbox(
                given.publisher, given.spills[name], given.clock, given.chance, given.hooks, given.batching
            )
            for name in KEPT
        }
        passing_hooks = PassingHooks(given.hooks.stored, given.book_lost)
        passing = {
            name: PassingOutbox(given.publisher, given.clock, given.chance, passing_hooks)
            for name in ("books", "states", "forecasts")
        }
        self._kept, self._passing = kept, passing
        self._trades, self._series = kept["trades"], kept["series"]
        self._books, self._states, self._forecasts = passing["books"], passing["states"], passing["forecasts"]

    def put(self, record: Record) -> None:
        """Take a record to publish."""
        match record:
            case Trade():
                self._trades.put(record)
            case BookSnapshot() | BookDelta():
                self._books.put(record)
            case KlineRecord(is_final=True) | FundingRate(is_final=True):
                self._forecasts.forget(record)
                self._series.put(record)
            case Gap():
                self._series.put(record)
            case KlineRecord() | FundingRate():
                self._forecasts.put(record)
            case _:
                self._states.put(record)

    async def run(self) -> None:
        """Publish for ever."""
        async with asyncio.TaskGroup() as tasks:
            for kept in self._kept.values():
                tasks.create_task(kept.run())
            for passing in self._passing.values():
                tasks.create_task(passing.run())

    async def flush(self) -> None:
        """Return when no record that must be kept waits in memory."""
        for outbox in self._kept.values():
            await outbox.flush()

    def status(self) -> dict[str, KeptStatus | PassingStatus]:
        """The state of each outbox by its name."""
        kept = {name: outbox.status() for name, outbox in self._kept.items()}
        return {**kept, **{name: outbox.status() for name, outbox in self._passing.items()}}
