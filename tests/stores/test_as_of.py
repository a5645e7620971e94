"""What a store held at a past time: before a change the old, from its very moment on the new, whatever the kind."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.interval import HOUR_MS, MINUTE_MS
from app.domain.kind import Row
from app.domain.ledger import Entry, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.as_of import AsOfReader
from app.kinds.metrics import METRICS
from app.ports.errors import NotRecorded
from app.ports.store import EVERYTHING
from infra.stores import ledger_log
from tests.sqlite.material import BTC_1M, T0_MS, batch, everything, kline, minutes
from tests.stores.databases import DATABASES, Database
from tests.stores.test_listings import NEW, OLD, relisting
from tests.stores.test_metrics_rows import M5, row
from tests.stores.test_model import SERIES, Form, Model, _batch, a_batch
from tests.stores.test_sparse_rows import SERIES as FUNDINGS
from tests.stores.test_sparse_rows import funding

START_MS = 1_800_000_000_000
DAY_MS = 24 * HOUR_MS


class SetClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("the store does not wait")


class Sample(NamedTuple):
    """A series, and its row that opens at the n-th step of its grid, in two versions."""

    series: Series
    step_ms: int
    row: Callable[[int, int], Any]


OPEN_INTEREST = METRICS["openInterestHist"]
SAMPLES = {
    "klines": Sample(BTC_1M, MINUTE_MS, lambda at, mark: kline(T0_MS + at * MINUTE_MS, mark)),
    "metrics": Sample(
        Series(OPEN_INTEREST, "BTCUSDT", M5),
        M5.grid.step_ms,
        lambda at, mark: row(OPEN_INTEREST, T0_MS + at * M5.grid.step_ms, mark),
    ),
    "funding": Sample(FUNDINGS, HOUR_MS, lambda at, mark: funding(T0_MS + at * HOUR_MS + HOUR_MS, mark)),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
async def test_a_repaired_digit_a_restated_file_and_a_late_fill_are_seen_from_their_moment_on(
    sample: Sample, database: Database
) -> None:
    clock = SetClock()
    writer, reader = await database.writer(clock), await database.reader()
    series, step_ms, row_of = sample

    async def hold(source: Source, first: int, end: int, mark: int) -> None:
        rows = [row_of(at, mark) for at in range(first, end)]
        await writer.commit([Batch(series, source, Spans([(T0_MS + first * step_ms, T0_MS + end * step_ms)]), rows)])

    async def opens(at_ms: int) -> list[tuple[int, int]]:
        """By place: the version of each row at `at_ms`."""
        rows, ledger = await AsOfReader(reader, at_ms).read(series, Span(0, EVERYTHING.end_ms), 99)
        versions = {row_of(at, mark): (at, mark) for at in range(12) for mark in (0, 1)}
        found = [versions[each] for each in rows]
        assert [at for at, _ in found] == [
            at for at in range(12) if ledger.source_at(T0_MS + at * step_ms) not in (None, Source.ABSENT)
        ]
        return found

    changes = [(Source.ARCHIVE, 0, 4, 0), (Source.WS, 6, 9, 0), (Source.ARCHIVE, 0, 4, 1), (Source.REST, 7, 8, 1)]
    changes += [(Source.REST, 4, 6, 0), (Source.ARCHIVE, 9, 10, 1)]
    held: dict[int, int] = {}
    for number, (source, first, end, mark) in enumerate(changes):
        clock.ms = START_MS + number * 1_000
        await hold(source, first, end, mark)
    for number, (_, first, end, mark) in enumerate(changes):
        moment_ms = START_MS + number * 1_000
        if number:
            assert await opens(moment_ms - 1) == sorted(held.items())
        held |= dict.fromkeys(range(first, end), mark)
        assert await opens(moment_ms) == sorted(held.items())
    newest = await AsOfReader(reader, START_MS + 2_500).read(series, everything(), 3, newest=True)
    assert newest.rows == [row_of(at, 0) for at in (6, 7, 8)], "before the repair"
    with pytest.raises(NotRecorded, match=f"recorded from {START_MS} on"):
        await opens(START_MS - 1)
    await writer.close()
    await reader.close()


async def test_an_event_that_came_late_or_was_moved_is_where_it_was_then(database: Database) -> None:
    clock = SetClock()
    writer, reader = await database.writer(clock), await database.reader()
    span = Span(T0_MS, T0_MS + 10 * HOUR_MS)
    first, late = funding(T0_MS + 2 * HOUR_MS), funding(T0_MS + 5 * HOUR_MS)
    moved = late._replace(open_ms=late.open_ms + 7)
    states = [[first], [first, late], [first, moved]]
    for number, rows in enumerate(states):
        clock.ms = START_MS + number
        [committed] = await writer.commit([Batch(FUNDINGS, Source.REST, Spans([span]), rows)])
        assert committed.revised == (number == 2), "one that comes late replaces none"
    for number, rows in enumerate(states):
        assert (await AsOfReader(reader, START_MS + number).read(FUNDINGS, span, 9)).rows == rows
    assert await reader.revisions() == {FUNDINGS: 1}
    await writer.close()
    await reader.close()


async def test_ledgers_that_relisting_unlisting_and_damage_change_are_known_and_rows_of_another_coin_refused(
    database: Database,
) -> None:
    clock = SetClock()
    writer, reader = await database.writer(clock), await database.reader()
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: writer.commit([batch(BTC_1M, Source.REST, minutes((0, 20)))]),
        lambda: writer.relist(relisting(keeps_newer=True)),
        lambda: writer.unlist(NEW, T0_MS + 3 * MINUTE_MS),
    ]
    if type(database).__name__.startswith("Sealed"):
        block = Span(T0_MS + 8 * MINUTE_MS, T0_MS + 12 * MINUTE_MS)

        async def damage() -> None:
            database.damage(BTC_1M, block.start_ms, "flipped")
            await writer.give_up(BTC_1M, block)

        steps.insert(1, damage)
    states = []
    for number, step in enumerate(steps):
        clock.ms = START_MS + number
        await step()
        states.append({series: ledger.entries for series, ledger in (await reader.ledgers()).items()})
    for number, state in enumerate(states):
        past = AsOfReader(reader, START_MS + number)
        assert {series: ledger.entries for series, ledger in (await past.ledgers()).items()} == state
        assert (await AsOfReader(reader, START_MS + number).ledger(BTC_1M)).entries == state[BTC_1M]
    relisted_ms = START_MS + len(steps) - 2
    with pytest.raises(NotRecorded, match=f"another listing had the name {OLD.symbol}; since {relisted_ms}"):
        await AsOfReader(reader, START_MS).read(BTC_1M, everything(), 9)
    assert (await AsOfReader(reader, relisted_ms).read(BTC_1M, everything(), 1, newest=True)).rows
    await writer.close()
    await reader.close()


_State = dict[Series, tuple[Sequence[Row], tuple[Entry, ...]]]
Drawn = list[tuple[list[tuple[Series, Source, Spans, list[int], Form]], int]]
a_step = st.tuples(st.lists(a_batch, min_size=1, max_size=3), st.sampled_from((-5, 0, 1, 7, 1_000, DAY_MS)))
HISTORIES = {"sqlite": 8, "sealed": 6, "postgres": 4}


@pytest.mark.parametrize("name", HISTORIES)
def test_every_past_moment_equals_what_a_dictionary_remembers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_log, "CHANGES_BYTES_MIN", 0)  # whole entries in the middle of a day too
    monkeypatch.setattr(ledger_log, "CHANGES_TO_WHOLE", 2)

    @settings(max_examples=HISTORIES[name], derandomize=True, database=None)
    @given(history=st.lists(a_step, min_size=4, max_size=7))
    def equals(history: Drawn) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_play(history, DATABASES[name], Path(folder)))

    equals()


async def _play(history: Drawn, kind: type[Database], folder: Path) -> None:
    database, model, clock = await kind.made(folder), Model(), SetClock()
    writer = await database.writer(clock)
    reader = await database.reader()
    states: dict[int, _State] = {}
    state: _State = {}
    at_ms = 0
    for number, (drawn, moves_ms) in enumerate(history):
        clock.ms += moves_ms
        batches = [_batch(*each) for each in drawn]
        for each in batches:
            model.commit(each)
        await writer.commit(batches)
        before, state = state, {series: (model.rows(series), model.ledger(series)) for series in SERIES}
        if state != before:  # what changes nothing has no time
            at_ms = max(at_ms, clock.ms)  # a clock that was set back does not turn the order of commits round
            states[at_ms] = state
        if number == 1:
            await writer.close()
            writer = await database.writer(clock)
    moments = sorted(states)
    for moment_ms, next_ms in zip(moments, [*moments[1:], at_ms + 9], strict=True):
        for past_ms in sorted({moment_ms, next_ms - 1}):
            past = AsOfReader(reader, past_ms)
            ledgers = await past.ledgers()
            for series, (rows, entries) in states[moment_ms].items():
                found = await past.read(series, everything(), 99)
                assert (found.rows, found.ledger.entries) == (rows, entries)
                assert ledgers.get(series, found.ledger).entries == entries
                assert (await past.read(series, everything(), 3)).rows == rows[:3]
                assert (await past.read(series, everything(), 4, newest=True)).rows == rows[-4:]
    await writer.close()
    await reader.close()
