"""An export as of a past time has what was held then, and nothing that was repaired, restated or fetched since."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.domain.ledger import Source
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.exporting.check import Asked, Check
from app.exporting.export import Exported
from app.exporting.shapes import shape_of
from app.holding.as_of import AsOfReader
from app.holding.rest_forms import NOTHING, RestForms
from app.operate import OperateError, Target
from app.operate_export import export, holes_of, wish_of
from app.ports.export import FileKind, Format
from app.querying.archived_rows import ByOrigin
from app.settings import load
from infra.exporting.folder import Folder
from infra.exporting.formats import read_rows
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.exporting.held import manifest_in
from tests.sqlite.material import T0_MS, FixedClock
from tests.stores.test_as_of import SAMPLES, Sample, SetClock

BEGUN_MS = 1_750_000_000_000
"""When the first rows were committed; the command's own clock is later."""
PLACES = 9
CHANGES = (
    (Source.ARCHIVE, 0, 4, 0),
    (Source.WS, 6, 9, 0),
    (Source.ARCHIVE, 0, 4, 1),
    (Source.REST, 7, 8, 1),
    (Source.REST, 4, 6, 0),
)
"""Held from where, the first and the last place, and the version: two begin, a restated file, a repair, a late fill."""


class Node:
    """A node that answers as of a past time, and refuses what it did not know then."""

    def __init__(self, reader: SqliteReader) -> None:
        self._reader = reader

    async def rows(self, asked: Asked) -> Sequence[Any]:
        assert asked.as_of_ms is not None
        span = Span(asked.first_ms, asked.end_ms)
        then = AsOfReader(self._reader, asked.as_of_ms)
        assert (await then.ledger(asked.series)).known.covers(span)
        forms = RestForms(FixedClock(), self._reader, lambda event: None, lambda symbol: None)
        return await ByOrigin(then, forms).rows(asked.series, span, asked.rows)


def texts_of(sample: Sample, at: int, source: Source, mark: int) -> list[Any]:
    """What a file has of the row at a place: of one from the archive, what REST would print."""
    row, form = sample.row(at, mark), sample.series.kind.archived_form
    if source is Source.ARCHIVE and form is not None:
        [row] = form([row], NOTHING)
    return [None if value == "" else value for value in row]


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
async def test_a_repaired_digit_a_restated_file_and_a_late_fill_are_exported_from_their_moment_on(
    sample: Sample, tmp_path: Path
) -> None:
    series, step_ms, row_of = sample
    url, folder, clock = f"sqlite:///{tmp_path / 'held.db'}", tmp_path / "out", SetClock()
    writer, reader = await SqliteWriter.open(url, clock), SqliteReader(url)
    for number, (source, first, end, mark) in enumerate(CHANGES):
        clock.ms = BEGUN_MS + 1_000 * number
        rows = [row_of(at, mark) for at in range(first, end)]
        span = Span(T0_MS + first * step_ms, T0_MS + end * step_ms)
        await writer.commit([Batch(series, source, Spans([span]), rows)])
    whole = Span(T0_MS, T0_MS + PLACES * step_ms)
    target = Target((series.name,), (series.interval,), *(at_ms + series.kind.rest.stamp_ms for at_ms in whole))
    settings, out = load({"db_url": url}, asks_exchange=False), Console(file=io.StringIO())

    async def exported(at_ms: int | None) -> Exported:
        wish = wish_of(target, folder, "csv", "year", is_float=False, as_of_ms=at_ms)
        return await export(settings, wish, out)

    async def check(at_ms: int, held: dict[int, tuple[Source, int]]) -> None:
        """Export as of a time, and compare the file with the rows `held` then: by place, source and version."""
        found = await exported(at_ms)
        [entry] = manifest_in(folder).files
        assert (found.kept, entry.as_of) == (0, at_ms), "a file as of another time is replaced"
        assert any(f"by {at_ms}" in line for line in holes_of(found)) == (len(held) < PLACES)
        kind = FileKind(Format.CSV, shape_of(series.kind), is_float=False)
        [batch] = read_rows(folder / entry.path, kind, series, whole)
        places = [batch.names.index(name) for name, _ in series.kind.columns]
        assert [[row[at] for at in places] for row in batch.rows] == [
            texts_of(sample, at, *held[at]) for at in sorted(held)
        ]
        known = entry.pieces[0].known
        assert (known.verified, known.revisions) == (None, None), "of then nobody recorded them"
        verdict = await Check(Folder(folder), folder, read_rows, Node(reader)).run(manifest_in(folder), lambda _: None)
        assert (verdict.faults, verdict.pages) == ([], 1)

    held: dict[int, tuple[Source, int]] = {}
    for number, (source, first, end, mark) in enumerate(CHANGES):
        if number:
            await check(BEGUN_MS + 1_000 * number - 1, held)
        held |= dict.fromkeys(range(first, end), (source, mark))
    await check(clock.ms, held)
    assert (await exported(clock.ms)).kept == 1, "the same command goes on"
    assert (await exported(None)).kept == 0, "now is another time"
    assert manifest_in(folder).files[0].pieces[0].known.revisions == 5
    await writer.close()
    await reader.close()


async def test_a_time_of_which_nothing_is_recorded_is_refused(tmp_path: Path) -> None:
    series, url, clock = SAMPLES["klines"].series, f"sqlite:///{tmp_path / 'held.db'}", SetClock()
    clock.ms = BEGUN_MS
    writer = await SqliteWriter.open(url, clock)
    await writer.commit([Batch(series, Source.REST, Spans([(T0_MS, T0_MS + 60_000)]), [SAMPLES["klines"].row(0, 0)])])
    settings, out = load({"db_url": url}, asks_exchange=False), Console(file=io.StringIO())
    target = Target((series.name,), (series.interval,), T0_MS, T0_MS + 60_000)
    for at_ms, says in (
        (1, "recorded from"),
        (BEGUN_MS - 1, f"recorded from {BEGUN_MS} on"),
        (4_000_000_000_000, "is in the future"),
    ):
        wish = wish_of(target, tmp_path / "out", "csv", "year", is_float=False, as_of_ms=at_ms)
        with pytest.raises(OperateError, match=says):
            await export(settings, wish, out)
    await writer.close()
