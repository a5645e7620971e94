"""Random sequences of commits leave the same as a dictionary by minute."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.columns import Columns
from app.domain.interval import M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Entry, Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from tests.sqlite.material import T0_MS, FixedClock, everything, kline, minutes, sealed_of
from tests.stores.databases import DATABASES, Database

WIDTH = 16  # minutes
SERIES = (Series(KLINES, "BTCUSDT", M1), Series(KLINES, "ETHUSDT", M1))
RANK = {Source.ABSENT: 0, Source.ROLLUP: 1, Source.WS: 2, Source.ARCHIVE: 3, Source.REST: 4}

Form = Callable[[Sequence[Kline]], Sequence[Kline]]
"""How a batch holds its klines: as a list, in columns, or as an image."""

a_span = st.tuples(st.integers(0, WIDTH - 1), st.integers(1, 7)).map(lambda pair: (pair[0], min(WIDTH, sum(pair))))
a_batch = st.builds(
    lambda series, source, spans, marks, form: (series, source, minutes(*spans), marks, form),
    st.sampled_from(SERIES),
    st.sampled_from(list(Source)),
    st.lists(a_span, min_size=1, max_size=3),
    st.lists(st.integers(0, 1), min_size=WIDTH, max_size=WIDTH),
    st.sampled_from((list, Columns.of, sealed_of)),
)
a_history = st.lists(st.tuples(st.lists(a_batch, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=6)


class Model:
    """By minute: the source that committed last, and its row (None if absent)."""

    def __init__(self) -> None:
        self.said: dict[Series, dict[int, tuple[Source, Kline | None]]] = {series: {} for series in SERIES}
        self.revisions: list[tuple[str, Kline, str, str]] = []

    def commit(self, batch: Batch) -> tuple[Spans, int]:
        said = self.said[batch.series]
        rows: dict[int, Kline] = {row.open_ms: row for row in Columns.of(batch.rows)}
        granted, revised = [], 0
        for span in batch.spans:
            for open_ms in M1.grid.opens(*span):
                old = said.get(open_ms)
                if old and RANK[old[0]] > RANK[batch.source]:
                    continue
                granted.append((open_ms, open_ms + MINUTE_MS))
                if old and old[1] is not None and old[1] != rows.get(open_ms):
                    revised += 1
                    self.revisions.append((batch.series.symbol, old[1], old[0].value, batch.source.value))
                said[open_ms] = (batch.source, rows.get(open_ms))
        return Spans(granted), revised

    def rows(self, series: Series) -> list[Kline]:
        return [row for _, (_, row) in sorted(self.said[series].items()) if row is not None]

    def ledger(self, series: Series) -> tuple[Entry, ...]:
        times = sorted((open_ms, source) for open_ms, (source, _) in self.said[series].items())
        runs = groupby(enumerate(times), key=lambda item: (item[1][0] - item[0] * MINUTE_MS, item[1][1]))
        entries = []
        for (_, source), members in runs:
            opens_ms = [open_ms for _, (open_ms, _) in members]
            entries.append(Entry(Span(opens_ms[0], opens_ms[-1] + MINUTE_MS), source))
        return tuple(entries)


@pytest.mark.parametrize("kind", DATABASES.values(), ids=DATABASES)
def test_the_store_agrees_with_the_model(kind: type[Database]) -> None:
    @settings(max_examples=kind.histories, derandomize=True, database=None)
    @given(history=a_history)
    def agrees(history: list[tuple[list[tuple[Series, Source, Spans, list[int], Form]], bool]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_play(history, kind, Path(folder)))

    agrees()


async def _play(
    history: list[tuple[list[tuple[Series, Source, Spans, list[int], Form]], bool]], kind: type[Database], folder: Path
) -> None:
    database, model = await kind.made(folder), Model()
    writer = await database.writer(FixedClock())
    reader = await database.reader()
    try:
        for drawn, restart in history:
            batches = [_batch(*each) for each in drawn]
            expected = [model.commit(batch) for batch in batches]
            committed = await writer.commit(batches)
            assert [(each.granted, each.revised) for each in committed] == expected
            assert committed[-1].ledger.entries == model.ledger(batches[-1].series)
            for series in SERIES:
                snapshot = await reader.read(series, everything(), 99)
                assert snapshot.rows == model.rows(series)
                assert snapshot.ledger.entries == model.ledger(series)
                assert [row.open_ms for row in snapshot.rows] == _grid(snapshot.ledger)
            if restart:
                await writer.close()
                writer = await database.writer(FixedClock())
    finally:
        await writer.close()
        await reader.close()
    kept = [(each.symbol, each.row, each.old_source, each.new_source) for each in database.revisions()]
    assert sorted(kept) == sorted(model.revisions)


def _batch(series: Series, source: Source, spans: Spans, marks: list[int], form: Form) -> Batch:
    rows = [kline(open_ms, marks[(open_ms - T0_MS) // MINUTE_MS]) for span in spans for open_ms in M1.grid.opens(*span)]
    return Batch(series, source, spans, [] if source is Source.ABSENT else form(rows))


def _grid(ledger: Ledger) -> list[int]:
    return [open_ms for span in ledger.held for open_ms in M1.grid.opens(*span)]
