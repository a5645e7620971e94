"""Rows shared by nodes are never older than what the node that serves them has seen, whatever happens between."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.domain.interval import M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.follow import POLL_S
from app.holding.seen_changes import OWN_MS, OwnJournal, SeenChanges
from app.kinds.klines import KLINES
from app.querying import shared_rows
from app.querying.shared_rows import SharedRows
from infra.sqlite.change_feed import SqliteChangeFeed
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.fakes import ManualClock, encoded
from tests.sqlite.material import BTC_1M, T0_MS, batch, klines

SERIES = (BTC_1M, Series(KLINES, "ETHUSDT", M1))
WIDTH = 12  # minutes of each series
STEPS = 200
Meanwhile = Callable[[], Awaitable[None]]


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of two rows are shared, so that a test's few rows form some."""
    monkeypatch.setattr(shared_rows, "ROWS_MIN", 2)


async def nothing() -> None:
    """Nothing happens meanwhile."""


class Cache:
    """A SharedCache of all processes, in which something may happen while one waits."""

    errors = 0

    def __init__(self) -> None:
        self.is_usable = True
        self.values: dict[bytes, bytes] = {}
        self.meanwhile: Meanwhile = nothing

    async def get(self, key: bytes) -> bytes | None:
        value = self.values.get(key)
        await self.meanwhile()
        return value

    def put(self, key: bytes, value: bytes, ttl_ms: int) -> None:
        assert ttl_ms > 0
        self.values[key] = value

    async def run(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Reader(SqliteReader):
    """The real store, where something may happen before and after a read."""

    meanwhile: Meanwhile = staticmethod(nothing)
    reads = 0

    async def read_encoded(
        self, series: Series, window: Span, limit: int, *, newest: bool = False
    ) -> tuple[int, bytes]:
        self.reads += 1
        await self.meanwhile()
        found = await super().read_encoded(series, window, limit, newest=newest)
        await self.meanwhile()
        return found


class Process:
    """One process: what it has seen of the journal, and the rows that it reads."""

    def __init__(self, url: str, clock: ManualClock, cache: Cache) -> None:
        self.clock = clock
        self.reader, self.feed = Reader(url), SqliteChangeFeed(url)
        self.seen = SeenChanges(clock)
        self.journal = OwnJournal(clock, self.feed, self.seen, lambda: True)
        self.generation: str | None = "a"
        self.rows = SharedRows(self.reader, cache, self.seen, lambda: self.generation)
        self.known = 0
        """The number of commits that this process knows of."""

    async def close(self) -> None:
        await self.reader.close()
        await self.feed.close()


class World:
    """A writer that changes rows, and processes that read them; the first of them is the writer itself."""

    def __init__(self, url: str, writer: SqliteWriter, clock: ManualClock) -> None:
        self.clock, self.cache, self._writer = clock, Cache(), writer
        self.processes = [Process(url, clock, self.cache) for _ in range(3)]
        self.marks: list[dict[tuple[Series, int], int]] = [{}]
        """After each commit: the version of each row."""
        self.hits = 0

    async def commit(self, series: Series, start: int, end: int) -> None:
        number = len(self.marks)
        span = Span(T0_MS + start * MINUTE_MS, T0_MS + end * MINUTE_MS)
        await self._writer.commit([batch(series, Source.REST, Spans([span]), number)])
        self.marks.append(self.marks[-1] | {(series, open_ms): number for open_ms in M1.grid.opens(*span)})
        self.processes[0].seen.changed(series, span)  # as Parts.drop does after each commit
        self.processes[0].known = number

    async def look(self, process: Process) -> None:
        number = len(self.marks) - 1
        await process.journal.look()
        process.known = max(process.known, number)

    def restart(self, number: int) -> None:
        """Let a process forget what it has seen: it begins with its next look."""
        process = self.processes[number]
        process.seen = SeenChanges(self.clock)
        process.journal = OwnJournal(self.clock, process.feed, process.seen, lambda: True)
        process.rows = SharedRows(process.reader, self.cache, process.seen, lambda: process.generation)
        process.known = len(SERIES)

    async def read(self, process: Process, series: Series, start: int, end: int) -> None:
        """Read a run, and check that each row is of what the process knew then, or later."""
        span, known = Span(T0_MS + start * MINUTE_MS, T0_MS + end * MINUTE_MS), process.known
        hits = process.rows.hits
        found, body = await process.rows.read(series, span, end - start)
        assert found == end - start
        opens = list(M1.grid.opens(*span))
        self.hits += process.rows.hits - hits
        allowed = [
            {encoded(series, klines([Span(each, each + MINUTE_MS)], M1.grid, mark))[1:-1] for mark in marks}
            for each in opens
            if (marks := {version[series, each] for version in self.marks[known:]})
        ]
        at = 1
        for versions in allowed:
            version = next((one for one in versions if body.startswith(one, at)), None)
            assert version is not None, f"a row of {series} is older than commit {known}"
            at += len(version) + 1
        assert at == len(body)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    url, clock = f"sqlite:///{folder}/klinenode.db", ManualClock()
    writer = await SqliteWriter.open(url, clock)
    made = World(url, writer, clock)
    for series in SERIES:
        await made.commit(series, 0, WIDTH)
    for process in made.processes:
        await made.look(process)
    try:
        yield made
    finally:
        for process in made.processes:
            await process.close()
        await writer.close()


@pytest.mark.parametrize("seed", range(4))
async def test_no_row_is_older_than_what_the_process_has_seen(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with world(tmp_path) as made:

        def run() -> tuple[Series, int, int]:
            start = chance.choice((0, 0, 4, 8))
            return chance.choice(SERIES), start, start + chance.choice((2, 4))

        async def something() -> None:
            for _ in range(chance.randrange(3)):
                what = chance.random()
                if what < 0.4:
                    await made.commit(*run())
                elif what < 0.9:
                    await made.look(chance.choice(made.processes))
                else:
                    made.clock.ms += chance.choice((10, 100, 500, 1_500))

        made.cache.meanwhile = something
        for process in made.processes:
            process.reader.meanwhile = something
        for _ in range(STEPS):
            if chance.random() < 0.05:
                made.restart(chance.choice((1, 2)))
            if chance.random() < 0.1:  # a quiet time, after which the writer's own changes are in the journal
                made.clock.ms += OWN_MS + 1
            if chance.random() < 0.5:
                for process in made.processes:
                    await made.look(process)
            await made.read(chance.choice(made.processes), *run())
        assert made.hits > STEPS // 20, "the rows were hardly ever shared"


async def test_a_second_process_needs_no_store_until_a_row_changes(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        _, one, other = made.processes
        await made.read(one, BTC_1M, 0, 4)
        await made.read(other, BTC_1M, 0, 4)
        assert (one.reader.reads, other.reader.reads, other.rows.hits) == (1, 0, 1)
        await made.commit(BTC_1M, 8, 12)  # elsewhere in the series
        await made.look(other)
        await made.read(other, BTC_1M, 0, 4)
        assert (other.reader.reads, other.rows.hits) == (0, 2)
        await made.commit(BTC_1M, 3, 5)
        await made.look(other)
        await made.read(other, BTC_1M, 0, 4)
        assert (other.reader.reads, other.rows.hits) == (1, 2)


async def test_the_writer_uses_no_rows_that_it_has_just_changed_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        writer, other, _ = made.processes
        made.clock.ms += OWN_MS + 1
        for process in made.processes:
            await made.look(process)
        await made.read(other, BTC_1M, 0, 4)
        await made.commit(BTC_1M, 0, 2)
        await made.read(writer, BTC_1M, 0, 4)
        assert (writer.reader.reads, writer.rows.hits) == (1, 0)


async def test_the_writer_uses_them_again_once_its_changes_are_in_the_journal(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        writer, other, _ = made.processes
        await made.commit(BTC_1M, 0, 2)
        made.clock.ms += OWN_MS + 1
        for process in made.processes:
            await made.look(process)
        await made.read(other, BTC_1M, 0, 4)
        await made.read(writer, BTC_1M, 0, 4)
        assert (writer.reader.reads, writer.rows.hits) == (0, 1)


async def test_who_cannot_look_uses_and_shares_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        _, one, other = made.processes
        await made.read(one, BTC_1M, 0, 4)
        made.clock.ms += 5_000
        kept = dict(made.cache.values)
        await made.read(other, BTC_1M, 0, 4)
        await made.read(other, BTC_1M, 4, 8)
        assert other.reader.reads == 2
        assert made.cache.values == kept


@pytest.mark.parametrize("found", [b"", b"another program's", b"x" * 40])
async def test_values_that_are_not_ours_are_none(tmp_path: Path, found: bytes) -> None:
    async with world(tmp_path) as made:
        _, one, other = made.processes
        await made.read(one, BTC_1M, 0, 4)
        [(key, value)] = made.cache.values.items()
        made.cache.values[key] = found
        await made.read(other, BTC_1M, 0, 4)
        made.cache.values[key] = value[:-1] + bytes([value[-1] ^ 1])
        await made.read(other, BTC_1M, 0, 4)
        await made.read(one, BTC_1M, 4, 8)
        [of_others] = [each for name, each in made.cache.values.items() if name != key]
        made.cache.values[key] = of_others  # right, but of other rows
        await made.read(other, BTC_1M, 0, 4)
        assert (other.reader.reads, other.rows.hits) == (3, 0)


async def test_databases_share_nothing_and_nothing_is_shared_without_a_name(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        _, one, other = made.processes
        await made.read(one, BTC_1M, 0, 4)
        other.generation = "b"
        await made.read(other, BTC_1M, 0, 4)
        other.generation = None
        await made.read(other, BTC_1M, 0, 4)
        made.cache.is_usable = False
        other.generation = "a"
        await made.read(other, BTC_1M, 0, 4)
        assert (other.reader.reads, other.rows.hits) == (3, 0)


async def test_a_follower_of_its_own_journal_looks_again_and_again(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        process, clock = made.processes[0], made.clock
        before = process.seen.last
        await made.commit(BTC_1M, 0, 4)
        await process.journal.look()
        assert process.seen.last != before
        clock.ms += int(POLL_S * 1_000)
        await process.journal.look()
        assert process.seen.stamp() == process.seen.last
