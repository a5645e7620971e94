"""Answers one klines query for many symbols, from held klines alone, and lets others pass between the symbols."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from app.binance.error_body import BinanceError, invalid_symbol
from app.domain import letters
from app.domain.interval import Interval
from app.domain.series import Series
from app.kinds.klines import KLINES
from app.ports.clock import Clock
from app.querying.answer import Answer, KlineQuery

READS_AT_ONCE: Final = 4  # symbols that are read from the store at once: half of the readers stay free for others


class Entry(NamedTuple):
    """What a batch has for one symbol: its answer, which is whole, or why there is none."""

    symbol: str
    found: Answer | BinanceError


class BatchQuery(NamedTuple):
    """Which closed klines of each of `symbols` are asked for; `end_ms` is inclusive."""

    symbols: Sequence[str]
    interval: Interval
    start_ms: int | None
    end_ms: int | None
    limit: int


class HeldQuery(Protocol):
    """Answers klines queries from held klines alone."""

    def at_once(self, query: KlineQuery, now_ms: int) -> Answer | None:
        """The whole answer if memory has it, else None; `now_ms` is the current time."""
        ...

    async def answer(self, query: KlineQuery) -> Answer:
        """The whole answer. Raises BinanceError."""
        ...

    def listed(self, text: str) -> str | None:
        """The listed name of a symbol as a client wrote it, or None. Raises BinanceError while no list is known."""
        ...


class BatchKlines:
    """Answers batches of klines queries."""

    def __init__(self, clock: Clock, held: HeldQuery, wished: Callable[[], Sequence[str]]) -> None:
        """`wished` returns the symbols of which klines are wished."""
        self._clock = clock
        self._held = held
        self._wished = wished

    def all_symbols(self) -> Sequence[str]:
        """The symbols of which klines are wished, in the order of the alphabet."""
        return sorted(self._wished())

    async def entries(self, query: BatchQuery) -> AsyncIterator[Entry]:
        """An entry for each symbol, in their order, a symbol that is named twice once.

        Other requests are answered between the symbols, so each entry is as of the moment when it is made.
        """
        names = list(dict.fromkeys(map(letters.upper, query.symbols)))
        for at in range(0, len(names), READS_AT_ONCE):
            group = names[at : at + READS_AT_ONCE]
            soon = {name: self._at_once(name, query) for name in group}
            lacking = {name: asked for name, asked in soon.items() if isinstance(asked, KlineQuery)}
            late = await self._read(lacking) if lacking else {}
            for name, found in soon.items():
                yield Entry(name, late[name] if isinstance(found, KlineQuery) else found)
                await self._clock.sleep(0)  # others pass: memory gives its answers without any wait

    def _at_once(self, name: str, query: BatchQuery) -> Answer | BinanceError | KlineQuery:
        """The answer if memory has it, or the error, or the query that has to be read from the store."""
        try:
            listed = self._held.listed(name)
        except BinanceError as error:
            return _explained(error, name, query.interval)
        if listed is None:
            return invalid_symbol()
        series = Series(KLINES, listed, query.interval)
        asked = KlineQuery(series, query.start_ms, query.end_ms, query.limit, only_final=True)
        answer = self._held.at_once(asked, self._clock.now_ms())
        return asked if answer is None else answer

    async def _read(self, lacking: Mapping[str, KlineQuery]) -> dict[str, Answer | BinanceError]:
        """What the store has, of all at once."""
        async with asyncio.TaskGroup() as tasks:
            made = {name: tasks.create_task(self._read_one(name, asked)) for name, asked in lacking.items()}
        return {name: task.result() for name, task in made.items()}

    async def _read_one(self, name: str, asked: KlineQuery) -> Answer | BinanceError:
        try:
            return await self._held.answer(asked)
        except BinanceError as error:
            return _explained(error, name, asked.interval)


def _explained(error: BinanceError, name: str, interval: Interval) -> BinanceError:
    """The error with a text that says why this symbol has no answer, where Binance's own says nothing."""
    if error.reason is not None:
        error.msg = f"{name} {interval} cannot be answered whole: {error.reason.meaning}."
    return error
