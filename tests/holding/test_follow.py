"""What a process that does not write keeps is what the one that does has committed, whatever it commits."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline, Precision
from app.domain.ledger import Source
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.encoded_rows import EncodedRows
from app.holding.follow import POLL_S, TRUST_MS, ChangeFollower
from app.holding.ledger_cache import LedgerCache
from app.holding.tail import Tail
from app.kinds.klines import KLINES
from app.kinds.metrics import METRICS
from app.ports.coordination import Changes
from app.ports.errors import StoreUnavailable
from app.ports.store import Relisting
from infra.sqlite import changes
from infra.sqlite.change_feed import SqliteChangeFeed
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.fakes import BTC, DAY0_MS, Rig, encoded, rig, running, truth, turn

FIVES = Series(KLINES, "BTCUSDT", INTERVALS["5m"])
START_MS = DAY0_MS
ROWS = 40


class Feed(SqliteChangeFeed):
    """The real feed, which can be away."""

    is_away = False
    refused = 0

    async def changes(self, after: int | None) -> Changes:
        if self.is_away:
            self.refused += 1
            raise StoreUnavailable("locked, says the test")
        return await super().changes(after)


class Reader(SqliteReader):
    """The real store, which lets a test do something after a read."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    async def read_spans(self, wanted: Mapping[Series, Span]) -> dict[Series, list[Kline]]:
        found = await super().read_spans(wanted)
        self.meanwhile()
        return found


class Other:
    """A process beside the writer of a rig."""

    def __init__(self, made: Rig, url: str) -> None:
        self.rig = made
        self.reader, self.feed = Reader(url), Feed(url)
        self.holdings, self.tail = LedgerCache(), Tail(50_000_000, lambda: self.follower.is_current())
        self.dropped: list[tuple[Series, Span]] = []
        self.loads = 0
        self.good_until: list[int] = []
        self.fault: Exception | None = None
        self.follower = ChangeFollower(made.clock, self.feed, self.reader, self.holdings, self.tail, self)

    def drop(self, series: Series, span: Span) -> None:
        self.dropped.append((series, span))

    def looked(self, until_ms: int) -> None:
        self.good_until.append(until_ms)

    def closed(self, end_ms: int) -> None:
        if self.fault is not None:
            raise self.fault

    async def reload(self) -> None:
        self.loads += 1
        self.tail.clear()
        self.holdings.load(await self.reader.ledgers(), await self.reader.anchors(), await self.reader.extra_wishes())

    async def seed(self, series: Series, rows: int) -> None:
        """What the query service does with the newest rows that it had to read."""
        version, grid = self.tail.version(series), series.interval.grid
        end_ms = self.holdings.ledger(series).end_ms
        span = Span(grid.shift(end_ms, -rows), end_ms)
        snapshot = await self.reader.read(series, span, rows)
        if len(snapshot.rows) == rows and snapshot.ledger.held.covers(span):
            self.tail.seed(series, grid, EncodedRows.of_body(encoded(series, snapshot.rows)), end_ms, version)

    async def check(self, series: Series) -> int:
        """The tail's rows are the store's; how many."""
        tail = self.tail.get(series)
        if tail is None or not tail.rows:
            return 0
        snapshot = await self.reader.read(series, Span(tail.start_ms, tail.end_ms), 100_000)
        assert list(tail.rows) == [tail.encode(row) for row in snapshot.rows]
        assert snapshot.ledger.held.covers(Span(tail.start_ms, tail.end_ms))
        return len(tail.rows)


@asynccontextmanager
async def beside(folder: Path) -> AsyncIterator[Other]:
    async with rig(folder) as made:
        other = Other(made, f"sqlite:///{folder}/klinenode.db")
        try:
            yield other
        finally:
            await other.reader.close()
            await other.feed.close()


def rows_of(series: Series, first: int, rows: int, mark: int | None = None) -> list[Kline]:
    step_ms = series.interval.grid.step_ms
    klines = [truth(series.symbol, series.interval, START_MS + at * step_ms) for at in range(first, first + rows)]
    return klines if mark is None else [kline._replace(trades=kline.trades + mark + 1) for kline in klines]


def batch_of(series: Series, klines: Sequence[Kline], source: Source = Source.REST) -> Batch:
    grid = series.interval.grid
    return Batch(series, source, Spans(Span(each.open_ms, grid.shift(each.open_ms, 1)) for each in klines), klines)


async def commit(other: Other, series: Series, first: int, rows: int, source: Source, mark: int | None = None) -> None:
    await other.rig.committer.commit([batch_of(series, rows_of(series, first, rows, mark), source)])


async def test_what_is_loaded_again_is_covered_by_no_change_number_before_the_next_look(tmp_path: Path) -> None:
    """A replica that has replayed the number of the look may lack what was committed until the load (DB_READ_URL)."""
    async with beside(tmp_path) as other:
        await commit(other, FIVES, 0, 3, Source.REST)
        seen = []
        for _ in range(3):
            await other.follower.look()
            seen.append(other.follower.change_seen)
            await commit(other, FIVES, 3 + len(seen), 1, Source.REST)
        assert seen[0] is None
        assert seen[1] == (await other.feed.changes(None)).last - 2
        assert seen[2] == (await other.feed.changes(None)).last - 1
        other.feed.is_away = True
        await other.follower.try_to_look()
        assert other.follower.change_seen is None


async def test_a_closed_kline_comes_to_the_tail_the_ledger_and_the_pages(tmp_path: Path) -> None:
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, ROWS, Source.REST)
        await other.follower.look()
        await other.seed(BTC, ROWS)
        reads = other.rig.store.reads
        await commit(other, BTC, ROWS, 1, Source.WS)
        await other.follower.look()
        assert await other.check(BTC) == ROWS + 1
        assert other.holdings.ledger(BTC).entries == other.rig.holdings.ledger(BTC).entries
        end_ms = START_MS + (ROWS + 1) * MINUTE_MS
        assert other.dropped == [(BTC, Span(end_ms - MINUTE_MS, end_ms))]
        assert (other.loads, other.rig.store.reads) == (1, reads), "nothing is read twice"
        body = encoded(BTC, rows_of(BTC, 0, ROWS + 1))
        tail = other.tail.get(BTC)
        assert tail is not None
        assert b"[" + b",".join(tail.rows) + b"]" == body


async def test_a_repaired_row_and_a_rollup_let_go_of_reach_it(tmp_path: Path) -> None:
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, ROWS, Source.WS)
        await commit(other, FIVES, 0, ROWS // 5, Source.ROLLUP)
        await other.follower.look()
        await other.seed(BTC, ROWS)
        await other.seed(FIVES, ROWS // 5)
        assert (await other.check(BTC), await other.check(FIVES)) == (ROWS, ROWS // 5)
        await commit(other, BTC, 7, 1, Source.REST, mark=1)
        await other.follower.look()
        assert await other.check(BTC) == ROWS
        assert await other.check(FIVES) == 0, "a tail with a hole is left to the store"
        assert {series for series, _ in other.dropped} == {BTC, FIVES}
        assert other.holdings.ledger(FIVES).entries == other.rig.holdings.ledger(FIVES).entries


async def test_rows_that_came_to_the_tail_while_the_changes_were_read_are_not_taken_for_new_ones(
    tmp_path: Path,
) -> None:
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, ROWS, Source.WS)
        await other.follower.look()
        await other.seed(BTC, 5)
        version, old = other.tail.version(BTC), EncodedRows.of_body(encoded(BTC, rows_of(BTC, 0, ROWS)))
        await commit(other, BTC, 0, ROWS, Source.REST, mark=1)
        other.reader.meanwhile = lambda: other.tail.seed(BTC, M1.grid, old, START_MS + ROWS * MINUTE_MS, version)
        await other.follower.look()
        await other.check(BTC)


async def test_who_fell_behind_the_journal_reads_everything_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CHANGES_KEPT", 3)
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, ROWS, Source.WS)
        await other.follower.look()
        await other.seed(BTC, ROWS)
        for at in range(3):
            await commit(other, BTC, at, 1, Source.REST, mark=1)
        await other.follower.look()
        assert (other.loads, await other.check(BTC)) == (1, ROWS)
        for at in range(4):
            await commit(other, BTC, at, 1, Source.REST, mark=2)
        await other.follower.look()
        assert (other.loads, other.tail.rows) == (2, 0)
        assert other.holdings.ledger(BTC).entries == other.rig.holdings.ledger(BTC).entries


async def test_another_database_in_the_place_of_the_one_it_followed_is_read_anew(tmp_path: Path) -> None:
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, ROWS, Source.WS)
        await other.follower.look()
        await other.seed(BTC, ROWS)
        other.rig.clock.ms += 1_000  # nobody makes a second database in the same moment
        folder = tmp_path / "new"
        folder.mkdir()
        new = await SqliteWriter.open(f"sqlite:///{folder}/klinenode.db", other.rig.clock)
        await new.commit([batch_of(BTC, rows_of(BTC, 0, 1, mark=3))])
        await new.close()
        for name in ("klinenode.db-wal", "klinenode.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        (folder / "klinenode.db").rename(tmp_path / "klinenode.db")
        await other.follower.look()
        assert (other.loads, other.tail.rows) == (2, 0)
        assert other.holdings.ledger(BTC).held == Spans([Span(START_MS, START_MS + MINUTE_MS)])


async def test_what_was_taken_over_in_part_only_is_read_anew(tmp_path: Path) -> None:
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, ROWS, Source.WS)
        await other.follower.try_to_look()
        await commit(other, BTC, ROWS, 1, Source.WS)
        other.fault = RuntimeError("a mistake in this program")
        with pytest.raises(RuntimeError):
            await other.follower.try_to_look()
        assert not other.follower.is_current(), "nobody knows what was taken over"
        other.fault = None
        await other.follower.try_to_look()
        assert other.loads == 2
        assert other.holdings.ledger(BTC).entries == other.rig.holdings.ledger(BTC).entries


async def test_copies_are_good_for_a_second_after_the_last_look(tmp_path: Path) -> None:
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, 2, Source.WS)
        assert not other.follower.is_current()
        async with running(other.follower.run):
            while not other.good_until:
                await turn()
            assert other.follower.is_current()
            assert other.good_until == [other.rig.clock.ms + TRUST_MS]
            other.feed.is_away = True
            while not other.feed.refused:
                await other.rig.advance(POLL_S)
            assert not other.follower.is_current(), "what cannot be looked into is not vouched for"
            other.feed.is_away = False
            while len(other.good_until) < 2:
                await other.rig.advance(POLL_S)
            assert other.loads == 2, "what was committed meanwhile is not known: everything is read anew"
        await other.follower.look()
        assert other.follower.is_current()
        other.rig.clock.ms += TRUST_MS + 1
        assert not other.follower.is_current()
        assert other.tail.get(BTC) is None


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_committed_and_asked_the_tails_are_the_stores(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, ROWS, Source.WS)
        await commit(other, FIVES, 0, ROWS // 5, Source.ROLLUP)
        await other.follower.look()
        checked, ends = 0, {BTC: ROWS, FIVES: ROWS // 5}
        for mark in range(60):
            for _ in range(rng.randrange(3)):
                series = rng.choice([BTC, FIVES])
                is_new = rng.random() < 0.5
                first = ends[series] + rng.choice([0, 0, 0, 1]) if is_new else rng.randrange(ends[series])
                rows = min(rng.choice([1, 1, 1, 6]), ROWS) if is_new else min(rng.choice([1, 4]), ends[series] - first)
                ends[series] = max(ends[series], first + rows)
                source = rng.choice([Source.WS, Source.REST, Source.ROLLUP if series == FIVES else Source.ARCHIVE])
                await commit(other, series, first, rows, source, rng.choice([None, mark]))
            if rng.random() < 0.5:
                series = rng.choice([BTC, FIVES])
                await other.seed(series, rng.randrange(1, 12))
            if rng.random() < 0.7:
                await other.follower.look()
                checked += await other.check(BTC) + await other.check(FIVES)
                for series in (BTC, FIVES):
                    assert other.holdings.ledger(series).entries == other.rig.holdings.ledger(series).entries
        assert checked > 100, "tails were there to be looked at"


async def test_the_clock_of_a_follower_may_stand_behind(tmp_path: Path) -> None:
    async with beside(tmp_path) as other:
        await other.follower.look()
        assert other.follower.is_current()
        other.rig.clock.ms -= 5
        assert not other.follower.is_current(), "a look that is yet to come vouches for nothing"


async def test_a_name_that_changes_hands_is_doubted_and_cut_off_here_too(tmp_path: Path) -> None:
    """The other process learns of both by the journal, for every series of the name, whatever is held of it."""
    async with beside(tmp_path) as other:
        await other.rig.committer.commit([batch_of(BTC, rows_of(BTC, 0, ROWS))])
        await other.follower.look()
        await other.seed(BTC, ROWS)
        assert await other.check(BTC) == ROWS
        threes = Series(KLINES, "BTCUSDT", INTERVALS["3d"])
        await other.rig.committer.save_anchor("BTCUSDT", START_MS)
        listed = Listing("BTCUSDT", 0, 1 << 42, Precision(2, 3))
        await other.rig.store.save_listings([listed.doubted()])
        await other.follower.look()
        assert other.holdings.is_anchored(threes)
        assert other.holdings.doubted == {"BTCUSDT"}
        assert {series for series, _ in other.dropped} >= {BTC, FIVES, Series(KLINES, "BTCUSDT", INTERVALS["1M"])}
        first_ms = START_MS + 10 * MINUTE_MS
        new = Listing("BTCUSDT", first_ms, 1 << 42, Precision(2, 3), first_ms)
        await other.rig.committer.relist(Relisting(listed, new, {KLINES: first_ms}, keeps_newer=True))
        other.dropped.clear()
        await other.follower.look()
        assert (other.holdings.doubted, other.holdings.since_ms) == (frozenset(), {"BTCUSDT": first_ms})
        assert not other.holdings.is_anchored(threes), "the new coin's 3d klines may open on other days"
        assert other.holdings.ledger(BTC).held == Spans([Span(first_ms, START_MS + ROWS * MINUTE_MS)])
        assert await other.check(BTC) == 0
        assert {series for series, _ in other.dropped} >= {BTC, FIVES, Series(KLINES, "BTCUSDT", INTERVALS["1M"])}
        assert set(other.holdings.all()) == {BTC}, "series of which nothing is known do not appear"


async def test_rows_of_gathered_kinds_are_followed_by_their_ledgers_alone(tmp_path: Path) -> None:
    """Nobody reads a tail of theirs, and 3,000 tails would take the room of those that are read."""
    async with beside(tmp_path) as other:
        await commit(other, BTC, 0, 2, Source.WS)
        await other.follower.look()
        kind = next(iter(METRICS.values()))
        series = Series(kind, "BTCUSDT", kind.intervals[0])
        step_ms = series.interval.grid.step_ms
        span = Span(START_MS, START_MS + 3 * step_ms)
        rows = [kind.row(open_ms, "1", "2", None) for open_ms in series.interval.grid.opens(*span)]
        await other.rig.committer.commit([Batch(series, Source.REST, Spans([span]), rows)])
        await other.follower.look()
        assert other.holdings.ledger(series).held == Spans([span])
        assert (series, span) in other.dropped
        assert other.tail.kept(series) is None
        await commit(other, BTC, 2, 1, Source.WS)
        await other.follower.look()
        assert other.tail.kept(BTC) is not None
