"""Metrics from the sandbox's archive: what is kept, what loses, what is absent, and when files are read."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from app.binance.metrics_csv import MetricsDay
from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.kind import Kind
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import NOTHING, Batch
from app.events import ArchiveRejected, MetricsFilesRead
from app.filling.archived_metrics import AWAY_S, WAIT_MS, WORKERS, ArchivedMetrics
from app.filling.joining import JoinCheck, Joining
from app.filling.metrics_keeping import SOON_MS
from app.filling.room import Room
from app.holding.coverage import Coverage
from app.holding.inventory import Inventory
from app.holding.metrics_looks import AGAIN_MS, CONFIRM_MS, RETRY_MS, looks_of
from app.holding.rest_forms import RestForms
from app.holding.wish import REACH_MARGIN_MS, Wish
from app.kinds.metrics import METRICS, REACH_MS
from app.ports.errors import UpstreamUnavailable
from app.ports.exchange import FileMetrics
from infra.binance.archive import BinanceArchive
from infra.sandbox.faults import Fault
from infra.sandbox.grid import utc_ms
from infra.sandbox.options import Options
from infra.sandbox.server import SandboxServer
from infra.sandbox.statistics import PERIOD_MS
from infra.sqlite.library import sqlite3
from tests.fakes import Rig, listing, rig, turn
from tests.net.loopback import to
from tests.sandbox.files import day_text, metrics_file

SYMBOL = "BTCUSDT"
NOW_MS = utc_ms(2026, 11, 21) + 12 * HOUR_MS
DAYS = 34
TODAY_MS = utc_ms(2026, 11, 21)
AWAY_MS = int(AWAY_S * 1_000)
OLD_MS = TODAY_MS - 32 * DAY_MS
"""A day that REST no longer has."""
EXPIRED_DAYS = DAYS - 29
EXPIRED = Span(TODAY_MS - DAYS * DAY_MS, TODAY_MS - 29 * DAY_MS)
"""The wished days that have begun to pass out of REST's reach."""
INTEREST = METRICS["openInterestHist"]
M5 = INTERVALS["5m"]


class Compared(Joining):
    """Compares rows, and remembers which were handed to it."""

    def __init__(self, rig: Rig, forms: RestForms) -> None:
        super().__init__(rig.runtime, rig.store, forms)
        self.calls: list[tuple[str, Mapping[Kind, Sequence[Any]], Mapping[Kind, Sequence[Any]]]] = []

    async def check(
        self, symbol: str, archived: Mapping[Kind, Sequence[Any]], rest: Mapping[Kind, Sequence[Any]]
    ) -> JoinCheck:
        self.calls.append((symbol, archived, rest))
        return await super().check(symbol, archived, rest)


@dataclass
class Away:
    """An archive that does not answer."""

    asked: list[Sequence[MetricsDay]] = field(default_factory=list)

    async def metrics(self, files: Sequence[MetricsDay]) -> FileMetrics:
        self.asked.append(files)
        return FileMetrics({}, {}, {}, dict.fromkeys(files, UpstreamUnavailable("HTTP 503")))


@dataclass
class Case:
    """The loop on a rig, beside a sandbox whose clock is the rig's."""

    rig: Rig
    sandbox: SandboxServer
    archive: BinanceArchive
    kinds: Collection[Kind]
    days: int
    free_bytes: int = 1 << 40
    told: int = 0
    symbols: tuple[str, ...] = (SYMBOL,)
    listed_ms: int = 0

    def __post_init__(self) -> None:
        self.forms = RestForms(self.rig.clock, self.rig.store, self.rig.observe, lambda symbol: None)
        self.compared = Compared(self.rig, self.forms)
        self.inventory = Inventory(self.rig.holdings, self.wish)
        self.started()

    def started(self) -> None:
        """Start anew, as after a restart of the process."""
        room = Room(lambda: self.free_bytes, 1, 100)
        self.loop = ArchivedMetrics(
            self.rig.runtime,
            self.archive,
            self.rig.store,
            self.rig.committer,
            self.inventory,
            self.compared,
            room,
        )

    def wish(self) -> Wish:
        listings = {symbol: listing(symbol, self.listed_ms) for symbol in self.symbols}
        return Wish(frozenset(), (), self.days, listings, {}, dict.fromkeys(self.kinds, self.symbols))

    def series(self, kind: Kind = INTEREST) -> Series:
        return Series(kind, SYMBOL, M5)

    async def hold(self, span: Span, absent: Spans = NOTHING) -> None:
        """Hold rows by REST in `span`, and record `absent` times of it."""
        held = Spans([span]) - absent
        rows = [INTEREST.row(open_ms, "1", "2", "3") for each in held for open_ms in M5.grid.opens(*each)]
        batches = [Batch(self.series(), Source.REST, held, rows), Batch(self.series(), Source.ABSENT, absent, [])]
        await self.rig.committer.commit([batch for batch in batches if batch.spans])

    def sources(self, span: Span, kind: Kind = INTEREST) -> dict[Source, Spans]:
        found: dict[Source, Spans] = {}
        for entry in self.rig.holdings.ledger(self.series(kind)).entries:
            if part := Spans([entry.span]).clip(span):
                found[entry.source] = found.get(entry.source, Spans()) | part
        return found

    async def rows(self, span: Span, kind: Kind = INTEREST) -> list[Any]:
        return (await self.rig.store.read(self.series(kind), span, 100_000)).rows

    def expired_ms(self) -> int:
        """The open time before which REST has no rows any more."""
        return M5.grid.ceil(self.rig.clock.now_ms() - REACH_MS + REACH_MARGIN_MS)

    def paths(self) -> list[str]:
        """What was asked of the archive since the last call."""
        journal = self.sandbox.journal
        found = [entry.path for entry in journal.since(self.told) if entry.kind == "archive"]
        self.told = journal.written
        return found

    def true_interest(self, open_ms: int) -> str:
        exchange = self.sandbox.exchange
        item = exchange.universe.find_ever(SYMBOL, open_ms, open_ms + PERIOD_MS)
        assert item is not None
        coins = exchange.statistics.interest(item, open_ms + PERIOD_MS).coins
        return f"{coins // 10**16}.{coins % 10**16:016}"


@asynccontextmanager
async def archived(
    folder: Path,
    kinds: Collection[Kind] = tuple(METRICS.values()),
    *,
    days: int = DAYS,
    now_ms: int = NOW_MS,
    symbols: int = 3,
    options: Options | None = None,
) -> AsyncIterator[Case]:
    async with (
        rig(folder, now_ms=now_ms) as made,
        SandboxServer(made.clock, seed=1, symbols=symbols, options=options or Options()) as sandbox,
    ):
        archive = BinanceArchive(to(sandbox.base_url), made.runtime, folder=folder)
        try:
            yield Case(made, sandbox, archive, kinds, days)
        finally:
            await archive.aclose()


def day_file(day: str) -> str:
    return metrics_file(SYMBOL, day)


def wished(case: Case) -> Span:
    return Span(TODAY_MS - case.days * DAY_MS, TODAY_MS)


async def test_what_rest_no_longer_has_is_read_once_and_is_what_the_exchange_knew(tmp_path: Path) -> None:
    async with archived(tmp_path) as case:
        await case.loop.read_all()
        expired = Span(EXPIRED.start_ms, case.expired_ms() + SOON_MS)
        for kind in METRICS.values():
            assert case.sources(wished(case), kind) == {Source.ARCHIVE: Spans([expired])}, (
                "the rest is for REST to fill, of the day that has begun to expire too"
            )
        rows = await case.rows(expired)
        assert [row.sum_open_interest for row in rows] == [case.true_interest(row.open_ms) for row in rows]
        assert {row.cmc_circulating_supply for row in rows} == {None}, "the archive has none"
        assert len(case.paths()) == 2 * EXPIRED_DAYS, "each file and its checksum"
        await case.loop.read_all()
        assert case.paths() == []
        case.started()
        await case.loop.read_all()
        assert case.paths() == [], "what was seen survives a restart"
        case.rig.clock.ms += DAY_MS
        await case.loop.read_all()
        assert sorted(case.paths()) == sorted(
            f"{day_file(day)}{part}" for day in ("2026-10-22", "2026-10-23") for part in ("", ".CHECKSUM")
        ), "one has expired, another has begun to"
        assert len(await case.rows(Span(EXPIRED.end_ms - DAY_MS, EXPIRED.end_ms))) == 288


async def test_a_month_that_has_only_begun_is_looked_at_again(tmp_path: Path) -> None:
    begin_ms = utc_ms(2026, 12, 1)
    async with archived(tmp_path, [INTEREST], now_ms=begin_ms + 2 * MINUTE_MS) as case:
        case.listed_ms = begin_ms - DAY_MS  # so that few files are wished
        await case.loop.read_all()
        case.paths()
        case.rig.clock.ms = begin_ms + DAY_MS + 12 * HOUR_MS
        await case.hold(Span(begin_ms, begin_ms + DAY_MS))
        await case.loop.read_all()
        assert day_file("2026-12-01") in case.paths(), "no row of it was due when the month was looked at"


async def test_files_that_are_never_answered_do_not_keep_others_from_being_read(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        refused = ["2026-10-19", "2026-10-22"]
        for day in refused:
            case.sandbox.faults.add(Fault("archive_5xx", path=f"*{day}*", status=403), case.rig.clock.now_ms())
        for _ in range(2):
            await case.loop.read_all()
            case.rig.clock.ms += AWAY_MS
        asked = case.paths()
        days = map(day_text, range(*EXPIRED, DAY_MS))
        assert [day for day in days if day_file(day) not in asked] == refused, "the checksum is asked for first"
        await case.loop.read_all()
        assert len(case.paths()) <= len(refused)


async def test_rows_by_rest_have_the_last_word_and_are_compared(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        day = Span(TODAY_MS - 3 * DAY_MS, TODAY_MS - 2 * DAY_MS)
        hole = Spans([Span(day.start_ms + HOUR_MS, day.start_ms + 2 * HOUR_MS)])
        await case.hold(Span(day.start_ms, day.end_ms - HOUR_MS), absent=hole)
        await case.loop.read_all()
        case.paths()
        assert Source.ARCHIVE not in case.sources(day), "REST may have the last hour"
        await case.hold(Span(day.end_ms - HOUR_MS, day.end_ms))
        case.rig.clock.ms += 11 * MINUTE_MS
        await case.loop.read_all()
        assert sum("2026-11-18" in path for path in case.paths()) == 2
        held = Spans([day]) - hole
        assert case.sources(day) == {Source.REST: held, Source.ARCHIVE: hole}, "what REST lacks, the archive has"
        assert {row.sum_open_interest for span in held for row in await case.rows(span)} == {"1"}
        [(symbol, theirs, ours)] = [call for call in case.compared.calls if call[1]]
        assert symbol == SYMBOL
        assert {row.sum_open_interest for row in ours[INTEREST]} == {"1"}
        opens_ms = [open_ms for span in held for open_ms in M5.grid.opens(*span)]
        assert [row.open_ms for row in ours[INTEREST]] == [row.open_ms for row in theirs[INTEREST]] == opens_ms
        true = [case.true_interest(open_ms) for open_ms in opens_ms]
        assert [row.sum_open_interest for row in theirs[INTEREST]] == true


async def test_an_endpoint_that_refuses_for_ever_does_not_keep_the_others_from_being_compared(tmp_path: Path) -> None:
    refused = METRICS["topLongShortAccountRatio"]
    async with archived(tmp_path, [INTEREST, refused]) as case:
        case.listed_ms = TODAY_MS - DAY_MS
        await case.hold(Span(TODAY_MS - 2 * DAY_MS, TODAY_MS))
        await case.loop.read_all()
        assert case.paths() == [], "REST may have the others"
        case.rig.clock.ms += WAIT_MS
        await case.loop.read_all()
        assert {call[0] for call in case.compared.calls if INTEREST in call[1]} == {SYMBOL}
        assert case.sources(wished(case), refused) == {}, "REST may have them all the same"
        case.rig.clock.ms = TODAY_MS + 31 * DAY_MS
        await case.loop.read_all()
        last = Span(TODAY_MS - DAY_MS, TODAY_MS)
        assert case.sources(last, refused) == {Source.ARCHIVE: Spans([last])}


async def test_what_neither_has_is_absent_until_the_archive_has_it(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        young_ms = TODAY_MS - 5 * DAY_MS
        old, young = Span(OLD_MS, OLD_MS + DAY_MS), Span(young_ms, young_ms + DAY_MS)
        await case.hold(young, absent=Spans([young]))
        for day in ("2026-10-20", "2026-11-16"):
            case.sandbox.faults.add(Fault("archive_404", path=f"*{day}*"), case.rig.clock.now_ms())
        assert (utc_ms(2026, 10, 20), utc_ms(2026, 11, 16)) == (OLD_MS, young_ms)
        await case.loop.read_all()
        assert case.sources(old) == {Source.ABSENT: Spans([old])}
        told = {event.name for event in case.rig.seen(ArchiveRejected)}
        assert told == {f"{SYMBOL}-metrics-2026-11-16", f"{SYMBOL}-metrics-2026-10-20"}
        coverage = Coverage(case.rig.clock, case.inventory, case.forms.of, partial(looks_of, case.rig.store))
        report: Any = await coverage.full_report(None, None, 0, 1)
        days = report["series"][0]["absent_days"]
        assert [(why["day"], why["looked"]) for why in days] == [(young_ms, NOW_MS), (OLD_MS, NOW_MS)]
        assert days[1]["reason"] == f"the archive has no {metrics_file(SYMBOL, '2026-10-20')}.CHECKSUM (404)"
        case.sandbox.faults.clear()
        case.paths()
        case.rig.clock.ms += RETRY_MS
        await case.loop.read_all()
        assert case.sources(young) == {Source.ARCHIVE: Spans([young])}
        paths = case.paths()
        assert sum("2026-11-16" in path for path in paths) == 2
        assert not any("2026-10-20" in path for path in paths), "the old one is tried again later"
        case.rig.clock.ms += AGAIN_MS
        await case.loop.read_all()
        assert case.sources(old) == {Source.ARCHIVE: Spans([old])}


async def test_an_archive_without_any_file_proves_nothing_before_it_is_looked_at_twice(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        case.sandbox.faults.add(Fault("archive_404", path="*"), case.rig.clock.now_ms())
        await case.loop.read_all()
        assert case.sources(wished(case)) == {}, "it may be the wrong host"
        case.paths()
        case.rig.clock.ms += CONFIRM_MS - 1
        await case.loop.read_all()
        assert case.paths() == []
        case.started()
        await case.loop.read_all()
        assert len(case.paths()) == EXPIRED_DAYS, "a new process looks at once"
        assert case.sources(wished(case)) == {}
        case.rig.clock.ms += 1
        await case.loop.read_all()
        expired = Span(wished(case).start_ms, case.expired_ms())
        assert case.sources(wished(case)) == {Source.ABSENT: Spans([expired])}


async def test_a_file_that_is_garbage_once_is_read_as_soon_as_it_is_right(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        old, garbage = Span(OLD_MS, OLD_MS + DAY_MS), Fault("wrong_checksum", path="*2026-10-20*")
        case.sandbox.faults.add(garbage, case.rig.clock.now_ms())
        await case.loop.read_all()
        assert case.sources(old) == {}
        case.sandbox.faults.clear()
        case.rig.clock.ms += CONFIRM_MS
        await case.loop.read_all()
        assert case.sources(old) == {Source.ARCHIVE: Spans([old])}


async def test_rows_that_lack_in_a_file_are_absent_when_rest_has_lost_them(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        begun = Span(EXPIRED.end_ms - DAY_MS, EXPIRED.end_ms)
        for day in ("2026-10-20", day_text(begun.start_ms)):
            case.sandbox.faults.add(Fault("metrics_short_day", path=f"*{day}*", rows=125), case.rig.clock.now_ms())
        await case.loop.read_all()
        cut = 163 * PERIOD_MS
        assert case.sources(Span(OLD_MS, OLD_MS + DAY_MS)) == {
            Source.ARCHIVE: Spans([Span(OLD_MS, OLD_MS + cut)]),
            Source.ABSENT: Spans([Span(OLD_MS + cut, OLD_MS + DAY_MS)]),
        }
        left = Span(begun.start_ms + cut, begun.end_ms)
        assert case.sources(begun) == {Source.ARCHIVE: Spans([Span(begun.start_ms, case.expired_ms() + SOON_MS)])}
        assert case.expired_ms() < left.start_ms, "REST may have them"
        case.rig.clock.ms = left.end_ms + REACH_MS
        await case.loop.read_all()
        assert case.sources(left) == {Source.ABSENT: Spans([left])}, "expired"


async def test_rows_that_rest_loses_one_by_one_are_sought_in_their_file_a_few_times(
    tmp_path: Path,
) -> None:
    young_ms = TODAY_MS - 5 * DAY_MS
    async with archived(tmp_path, [INTEREST]) as case:
        case.sandbox.faults.add(Fault("metrics_short_day", path="*2026-11-16*", rows=250), case.rig.clock.now_ms())
        await case.loop.read_all()
        case.rig.clock.ms = young_ms + 6 * HOUR_MS + REACH_MS - REACH_MARGIN_MS
        await case.loop.read_all()
        case.paths()
        for _ in range(37):
            case.rig.clock.ms += 10 * MINUTE_MS
            await case.loop.read_all()
        assert sum("2026-11-16" in path for path in case.paths()) == 4, "twice, each time with its checksum"
        absent = case.sources(Span(young_ms, young_ms + DAY_MS))[Source.ABSENT]
        assert absent == Spans([Span(young_ms + 38 * PERIOD_MS, case.expired_ms())])


async def test_a_republished_file_replaces_its_rows_and_leaves_revisions(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        day = Span(OLD_MS, OLD_MS + DAY_MS)
        case.sandbox.faults.add(Fault("metrics_republished", path="*2026-10-20*", rows=3), case.rig.clock.now_ms())
        await case.loop.read_all()
        before = await case.rows(day)
        case.sandbox.faults.clear()
        case.paths()
        case.rig.clock.ms += AGAIN_MS
        await case.loop.read_all()
        paths = case.paths()
        assert sum("2026-10-20" in path for path in paths) == 3, "the checksum, and then file and checksum"
        assert sum("2026-10-19" in path for path in paths) == 1, "the checksum alone"
        after = await case.rows(day)
        assert sum(one != two for one, two in zip(before, after, strict=True)) == 3
        assert [row.sum_open_interest for row in after] == [case.true_interest(row.open_ms) for row in after]
        assert (await case.rig.store.revisions())[case.series()] == 3


async def test_of_a_row_in_two_files_the_later_days_counts_and_the_other_is_kept(tmp_path: Path) -> None:
    now_ms = utc_ms(2026, 12, 2) + 12 * HOUR_MS
    async with archived(tmp_path, [INTEREST], now_ms=now_ms) as case:
        for day in ("2026-10-29", "2026-10-31"):  # in one block with its neighbour; in the month before it, read later
            case.sandbox.faults.add(Fault("metrics_midnight", path=f"*{day}*"), now_ms)
        await case.loop.read_all()
        for midnight_ms in (utc_ms(2026, 10, 30), utc_ms(2026, 11, 1)):
            [row] = await case.rows(Span(midnight_ms, midnight_ms + PERIOD_MS))
            assert row.sum_open_interest == case.true_interest(midnight_ms)
        with closing(sqlite3.connect(tmp_path / "klinenode.db")) as connection:
            kept = connection.execute("SELECT open_time, sum_open_interest FROM open_interest_revision").fetchall()
        others = {open_ms for open_ms, text in kept if text != case.true_interest(open_ms)}
        assert others == {utc_ms(2026, 10, 30), utc_ms(2026, 11, 1)}


async def test_conflicting_lines_leave_a_revision_each_however_often_the_file_is_read(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        case.sandbox.faults.add(Fault("metrics_conflicts", path="*2026-10-20*", rows=4), case.rig.clock.now_ms())
        await case.loop.read_all()
        assert (await case.rig.store.revisions())[case.series()] == 4
        [told] = [event for event in case.rig.seen(MetricsFilesRead) if event.conflicts]
        assert told.conflicts == 4
        case.started()
        await case.rig.store.save_document("metrics-files/BTCUSDT/2026-10", b"{}", case.rig.clock.now_ms())
        case.paths()
        await case.loop.read_all()
        assert len(case.paths()) == 2 * EXPIRED_DAYS, "read again, as after a crash before it was noted"
        assert (await case.rig.store.revisions())[case.series()] == 4


async def test_rows_that_were_lost_are_read_again(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        await case.loop.read_all()
        span = Span(OLD_MS + HOUR_MS, OLD_MS + 2 * HOUR_MS)
        lost = case.rig.holdings.ledger(case.series()).without(Spans([span]))
        case.rig.holdings.set_ledger(case.series(), lost)
        with closing(sqlite3.connect(tmp_path / "klinenode.db", isolation_level=None)) as connection:
            name = case.series().name
            connection.execute("DELETE FROM ledger WHERE symbol = ?", (name,))
            for (start_ms, end_ms), source in lost.entries:
                connection.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", (name, "5m", start_ms, end_ms, source))
        case.paths()
        case.rig.clock.ms += RETRY_MS
        await case.loop.read_all()
        assert case.sources(span) == {Source.ARCHIVE: Spans([span])}
        assert sum("2026-10-20" in path for path in case.paths()) == 2


async def test_nothing_is_read_while_the_disk_is_full(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        case.free_bytes = 0
        await case.loop.read_all()
        assert case.paths() == []
        case.free_bytes = 1 << 40
        await case.loop.read_all()
        assert len(case.paths()) == 2 * EXPIRED_DAYS


async def test_files_are_downloaded_seldom_while_nothing_can_be_kept(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        clock, is_over = case.rig.clock, asyncio.Event()
        end_ms = clock.ms + HOUR_MS

        async def skip(delay_s: float) -> None:
            clock.ms += int(delay_s * 1_000)
            if clock.ms >= end_ms:
                is_over.set()
            await turn()

        clock.sleep = skip  # type: ignore[method-assign]
        case.rig.store.failing = True
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(case.loop.run())
            await is_over.wait()
            loop.cancel()
        assert 0 < len(case.paths()) <= 10 * 2 * EXPIRED_DAYS
        assert case.loop.last_error == "locked, says the test"


async def test_an_archive_that_does_not_answer_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async with archived(tmp_path, [INTEREST]) as case:
        case.archive = Away()  # type: ignore[assignment]
        case.started()
        await case.loop.read_all()
        assert 1 <= len(case.archive.asked) <= WORKERS  # type: ignore[attr-defined]
        assert case.sources(wished(case)) == {}, "it proves nothing"
        assert case.loop.last_error is not None
