"""An export of Postgres is, to the byte, the one of a file with the same history: now and as of a past time."""

from pathlib import Path

import pytest

from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.exporting.manifest import FileEntry
from app.exporting.plan import Split, planned
from app.ports.export import Format
from tests.exporting.held import export_of, manifest_in, sources_of
from tests.sqlite.material import BTC_1M, T0_MS, batch, minutes
from tests.stores.databases import DATABASES, Database
from tests.stores.test_as_of import SAMPLES, START_MS, SetClock

ROWS = 9


async def _files(database: Database, folder: Path) -> list[FileEntry]:
    """What the manifests say of exports of all samples in three formats: now, and before the repair."""
    clock = SetClock()
    writer, reader = await database.writer(clock), await database.reader()
    for series, step_ms, row_of in SAMPLES.values():
        span = Span(T0_MS, T0_MS + ROWS * step_ms)
        rows = [row_of(at, 0) for at in range(ROWS)]
        await writer.commit([Batch(series, Source.REST, Spans([span]), rows)])
    clock.ms = START_MS + 1_000
    await writer.commit([batch(BTC_1M, Source.REST, minutes((2, 4)), mark=1)])
    await writer.save_verified(BTC_1M, minutes((0, 5)), START_MS + 2_000)
    every = [sample.series for sample in SAMPLES.values()]
    asked = {each: (each.interval.grid, Span(T0_MS, T0_MS + ROWS * step_of(each))) for each in every}
    for as_of_ms in (None, START_MS):
        for form in (Format.CSV, Format.PARQUET):
            files = planned(asked, form, Split.YEAR, is_float=False)
            moved = [each._replace(path=f"{as_of_ms}/{each.path}") for each in files]
            await export_of(sources_of(reader, as_of_ms), folder, moved)
    await writer.close()
    await reader.close()
    return list(manifest_in(folder).files)


def step_of(series: Series) -> int:
    return next(sample.step_ms for sample in SAMPLES.values() if sample.series == series)


@pytest.mark.parametrize(("one", "other"), [("sqlite", "postgres"), ("sealed", "postgres-sealed")])
async def test_an_export_does_not_depend_on_the_store(one: str, other: str, tmp_path: Path) -> None:
    found = [await _files(await DATABASES[each].made(tmp_path), tmp_path / each) for each in (one, other)]
    assert found[0] == found[1]
    digests = {entry.path: entry.sha256 for entry in found[0]}
    assert len(digests) == 2 * 2 * len(SAMPLES)
    pairs = [(path, f"{START_MS}/{path[5:]}") for path in digests if path.startswith("None/")]
    changed = {now.split("/")[1] for now, then in pairs if digests[now] != digests[then]}
    assert changed == {"klines"}, "the repair is in the export of now alone"
