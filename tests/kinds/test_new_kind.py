"""A kind that only this test defines works from the wish to the answer without a change elsewhere."""

import random
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from sqlalchemy import MetaData
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from app.domain.interval import INTERVALS, MINUTE_MS, Grid
from app.domain.kind import Bucket, Kind, RestPages
from app.domain.kline import BadKline
from app.domain.series import Series
from app.domain.span import Span
from app.holding.coverage import Coverage
from app.kinds.registry import KINDS
from app.ports.exchange import Priority
from app.querying.answer import KlineQuery
from infra.sqlite.library import sqlite3
from infra.sqlite.schema import tables_of
from infra.sqlite.sqlite_store import SqliteReader
from tests.binance.test_rest import case
from tests.fakes import NOW_MS, Exchange, running
from tests.filling.reconcile_bench import bench
from tests.net.loopback import Reply
from tests.querying.query_desk import Desk

M5: Final = INTERVALS["5m"]
FIRST_MS: Final = (NOW_MS // 86_400_000 - 3) * 86_400_000


class Interest(NamedTuple):
    """The number of open contracts at a time, and their value."""

    open_ms: int
    contracts: str
    value: str


class _Wire(msgspec.Struct):
    sumOpenInterest: str  # noqa: N815  as the exchange spells it
    sumOpenInterestValue: str  # noqa: N815
    timestamp: int


def decoded(body: bytes, grid: Grid, symbol: str) -> list[Interest]:
    """The rows in the body of an answer. Raises BadKline."""
    rows = [Interest(row.timestamp, row.sumOpenInterest, row.sumOpenInterestValue) for row in _wire.decode(body)]
    if any(grid.floor(row.open_ms) != row.open_ms for row in rows):
        raise BadKline("not on the grid")
    return rows


_wire: Final = msgspec.json.Decoder(list[_Wire])

INTEREST: Final = Kind(
    name="interest",
    suffix="openInterest",
    row=Interest,
    columns=(("open_time", int), ("contracts", str), ("value", str)),
    table="interest",
    printed='{"sumOpenInterest":"%(contracts)s","sumOpenInterestValue":"%(value)s","timestamp":%(open_time)d}',
    rest=RestPages(
        path="/futures/data/openInterestHist",
        symbol="symbol",
        interval="period",
        rows_max=500,
        rows_thrifty=500,
        weight=lambda _: 0,
        decode=decoded,
        bucket=Bucket.DATA,
    ),
    intervals=(M5,),
)
SERIES: Final = Series(INTEREST, "BTCUSDT", M5)


def interest(open_ms: int) -> Interest:
    chance = random.Random(open_ms)
    return Interest(open_ms, f"{chance.randrange(90_000, 99_000)}.{chance.randrange(1000):03}", f"{open_ms}.50000000")


def printed(rows: Sequence[Interest]) -> bytes:
    """The rows as the exchange prints them, encoded without the kind under test."""
    return msgspec.json.encode([_Wire(row.contracts, row.value, row.open_ms) for row in rows])


class Metering(Exchange):
    """An exchange that has the new kind too: it answers in bytes, which the kind decodes."""

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Any:
        found = await super().klines(series, grid, window, limit, priority, newest=newest)
        if series.kind is not INTEREST:
            return found
        assert limit <= INTEREST.rest.rows_max
        return series.kind.rest.decode(printed([interest(row.open_ms) for row in found]), grid, series.symbol)


def make_tables(folder: Path, kind: Kind) -> None:
    """Create the new kind's tables, as a migration would."""
    with closing(sqlite3.connect(folder / "klinenode.db")) as connection, connection:
        for table in tables_of(kind, MetaData()):
            connection.execute(str(CreateTable(table).compile(dialect=sqlite.dialect())))
            for index in table.indexes:
                connection.execute(str(CreateIndex(index).compile(dialect=sqlite.dialect())))


async def test_a_kind_of_its_own_is_wished_fetched_stored_answered_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, INTEREST.suffix, INTEREST)
    others = {INTEREST: ("BTCUSDT",)}
    made = bench(tmp_path, codes=("1m", "1h"), days=5, first_ms=FIRST_MS, exchange=Metering, others=others)
    async with made as on:
        make_tables(tmp_path, INTEREST)
        assert SERIES in on.wish().series()
        assert SERIES.of(INTERVALS["1h"]) not in on.wish().series(), "it exists of five minutes only"
        async with running(on.reconciler.run):
            await on.until_whole(900)
        asked = [each for each in on.rig.exchange.asked if each.series == SERIES]
        assert asked
        assert not [name for name in on.rig.vault.asked if "Interest" in name or "-5m-" in name], "the archive has none"

        ledger = on.rig.holdings.ledger(SERIES)
        end_ms = M5.grid.floor(NOW_MS - 3_000)
        assert ledger.held.covers(Span(FIRST_MS, end_ms))
        assert ledger.absent.span_at(0) == Span(0, FIRST_MS), "before its first row there is nothing"
        reader = SqliteReader(f"sqlite:///{tmp_path}/klinenode.db")
        snapshot = await reader.read(SERIES, Span(0, end_ms), 10_000)
        assert snapshot.rows == [interest(open_ms) for open_ms in M5.grid.opens(FIRST_MS, end_ms)]
        assert (await reader.ledgers())[SERIES].held == ledger.held

        await on.rig.symbols.refresh()
        query = Desk(on.rig).query
        expected = [interest(open_ms) for open_ms in M5.grid.opens(FIRST_MS, end_ms)]
        answer = await query.answer(KlineQuery(SERIES, None, None, 100, True))
        assert answer.body == printed(expected[-100:])
        at = expected[37]
        answer = await query.answer(KlineQuery(SERIES, at.open_ms, None, 5, True))
        assert answer.body == printed(expected[37:42])
        again = await query.answer(KlineQuery(SERIES, None, None, 100, True))
        assert again.body == printed(expected[-100:]), "from the tail"
        assert query.name("btcusdt@openInterest") == SERIES.name

        report: Any = Coverage(on.rig.clock, on.inventory).report(SERIES.name, None, 0, 10)
        (entry,) = report["series"]
        assert (entry["symbol"], entry["interval"], entry["missing"]) == ("BTCUSDT@openInterest", "5m", [])
        await reader.close()


async def test_rest_is_asked_as_the_kind_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, INTEREST.suffix, INTEREST)
    start_ms = FIRST_MS
    rows = [interest(start_ms + number * 5 * MINUTE_MS) for number in range(3)]
    async with case(lambda _: Reply(200, printed(rows))) as run:
        window = Span(start_ms, start_ms + 15 * MINUTE_MS)
        found = await run.rest.klines(SERIES, M5.grid, window, 3, Priority.TAIL)
        assert list(found) == rows
        [asked] = run.host.requests
        assert asked == (
            f"/futures/data/openInterestHist?symbol=BTCUSDT&period=5m&limit=3&startTime={start_ms}"
            f"&endTime={window.end_ms - 1}"
        )
