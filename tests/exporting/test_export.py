"""Exported files hold exactly the rows that the store holds, survive a kill, and hide no hole."""

import asyncio
import hashlib
import resource
import signal
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.domain.interval import INTERVALS, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.exporting.plan import Split, check_format
from app.exporting.shapes import shape_of
from app.ports.export import ExportError, FileKind, Format, Lines, RowsFile
from infra.exporting.formats import open_rows, read_rows
from tests.exporting.held import ALL, FUNDINGS, HOURS, MINUTES, MISSING, RATIOS, SPAN, Held, manifest_in, rows_of
from tests.sqlite.material import kline
from tests.system.processes import ROOT


def same(value: Any, text: Any) -> bool:
    """Whether a value that was read from a file is the one of the row, to the digit."""
    if isinstance(value, float):
        return value == float(text)
    if isinstance(value, Decimal):
        return value == Decimal(text)
    return bool(value == (text or None if isinstance(text, str) else text))


def read_back(folder: Path, form: Format, series: Series, *, is_float: bool = False) -> list[dict[str, Any]]:
    """The rows of a series in all files of an export."""
    kind = FileKind(form, shape_of(series.kind), is_float)
    paths = [entry.path for entry in manifest_in(folder).files if any(p.symbol == series.name for p in entry.pieces)]
    return [
        dict(zip(batch.names, row, strict=True))
        for path in sorted(paths)
        for batch in read_rows(folder / path, kind, series, SPAN)
        for row in batch.rows
    ]


@pytest.mark.parametrize("form", Format)
async def test_every_kind_of_row_is_read_back_to_the_digit(held: Held, tmp_path: Path, form: Format) -> None:
    wanted = [MINUTES, HOURS] if form is Format.MARKETSTORE else ALL
    folder = tmp_path / "out"
    exported = await held.export(folder, held.files(form, wanted))
    assert exported.missing == 10, "the minutes that nobody fetched"
    for series in wanted:
        names = [name for name, _ in series.kind.columns]
        expected = [row for row in rows_of(series) if series != MINUTES or row.open_ms not in range(*MISSING)]
        found = read_back(folder, form, series)
        assert len(found) == len(expected), series
        for got, row in zip(found, expected, strict=True):
            texts = dict(zip(names, row, strict=True))
            assert all(same(got[name], texts[name]) for name in names if name in got), (got, row)
    entries = manifest_in(folder).files
    assert sum(entry.rows for entry in entries) == exported.rows
    for entry in entries:
        assert hashlib.sha256((folder / entry.path).read_bytes()).hexdigest() == entry.sha256
    [hole] = [span for entry in entries for piece in entry.pieces for span in piece.known.missing]
    assert hole.span() == MISSING, "the manifest names the hole"
    again = await held.export(folder, held.files(form, wanted))
    assert (again.kept, again.rows) == (exported.files, exported.rows)


async def test_a_repaired_row_replaces_its_file_and_no_other(held: Held, tmp_path: Path) -> None:
    files = held.files(Format.CSV, [MINUTES])
    await held.export(tmp_path / "out", files)
    at_ms = SPAN.start_ms + 7 * MINUTE_MS
    late = Spans([MISSING])
    await held.writer.commit([Batch(MINUTES, Source.REST, late, [kline(each) for each in range(*MISSING, MINUTE_MS)])])
    exported = await held.export(tmp_path / "out", files)
    assert (exported.kept, exported.missing) == (1, 0), "the other year stays"
    await held.writer.commit([Batch(MINUTES, Source.REST, Spans([Span(at_ms, at_ms + MINUTE_MS)]), [kline(at_ms, 3)])])
    exported = await held.export(tmp_path / "out", files)
    assert exported.kept == 0, "nobody knows in which year the row was replaced"
    [row] = [each for each in read_back(tmp_path / "out", Format.CSV, MINUTES) if each["open_time"] == at_ms]
    assert row["close"] == kline(at_ms, 3).close


async def test_a_row_that_changes_while_its_file_is_written_is_written_again(held: Held, tmp_path: Path) -> None:
    at_ms = SPAN.start_ms
    repair = Batch(MINUTES, Source.REST, Spans([Span(at_ms, at_ms + MINUTE_MS)]), [kline(at_ms, 5)])
    tasks: list[asyncio.Task[Any]] = []
    async with asyncio.TaskGroup() as group:

        def advance(rows: int) -> None:
            if not tasks:
                tasks.append(group.create_task(held.writer.commit([repair])))

        class Waiting:
            """A file whose end waits for the repair."""

            def __init__(self, path: Path, kind: FileKind) -> None:
                self._file: RowsFile = open_rows(path, kind)

            def write(self, series: Series, lines: Lines) -> None:
                self._file.write(series, lines)

            def close(self) -> None:
                asyncio.run_coroutine_threadsafe(committed(), loop).result()
                self._file.close()

        async def committed() -> None:
            await asyncio.wait(tasks)

        loop = asyncio.get_running_loop()
        exported = await held.export(tmp_path / "out", held.files(Format.CSV, [MINUTES]), advance, Waiting)
    assert exported.rows == len(rows_of(MINUTES)) - 10
    assert read_back(tmp_path / "out", Format.CSV, MINUTES)[0]["close"] == kline(at_ms, 5).close


async def test_a_value_that_does_not_fit_is_an_error_that_names_it(held: Held, tmp_path: Path) -> None:
    at_ms = SPAN.start_ms + 3_600_000
    wide = kline(at_ms)._replace(volume="1.00000000000000001")
    await held.writer.commit([Batch(HOURS, Source.REST, Spans([Span(at_ms, at_ms + 3_600_000)]), [wide])])
    with pytest.raises(ExportError, match=f"volume of ETHUSDT 1h at {at_ms} is 1.00000000000000001"):
        await held.export(tmp_path / "out", held.files(Format.PARQUET, [HOURS]))
    exported = await held.export(tmp_path / "out", held.files(Format.CSV, [HOURS]))
    assert exported.rows == 48, "text keeps every digit"


@pytest.mark.parametrize("form", Format)
async def test_a_full_disk_is_an_error_of_the_disk_whatever_the_format(
    held: Held, tmp_path: Path, form: Format
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"too large|full|I/O"):
            await held.export(tmp_path, held.files(form, [MINUTES]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_float64_is_the_nearest_float_and_only_on_request(held: Held, tmp_path: Path) -> None:
    await held.export(tmp_path / "out", held.files(Format.PARQUET, [HOURS], is_float=True))
    found = read_back(tmp_path / "out", Format.PARQUET, HOURS, is_float=True)
    assert [each["quote_volume"] for each in found] == [float(row.quote_volume) for row in rows_of(HOURS)]


@pytest.mark.parametrize("series", [FUNDINGS, RATIOS, HOURS.of(INTERVALS["1M"]), HOURS.of(INTERVALS["3d"])])
def test_marketstore_refuses_what_its_layout_cannot_hold(series: Series) -> None:
    with pytest.raises(ExportError, match="leave it out"):
        check_format(Format.MARKETSTORE, [series])


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from app.ports.export import Format
from app.exporting.plan import Split
from infra.sqlite.sqlite_store import SqliteReader
from tests.exporting.held import ALL, Held

url, folder, after = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
held = Held(url, None, SqliteReader(url))
total = 0

def advance(rows):
    global total
    total += rows
    if total > after:
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(held.export(folder, held.files(Format.CSV, split=Split.MONTH), advance))
"""


async def test_a_kill_in_the_middle_leaves_no_half_file_and_the_next_run_goes_on(held: Held, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, held.url, str(folder), "3300", cwd=ROOT
    )
    assert await program.wait() == -signal.SIGKILL
    whole = {path: path.read_bytes() for path in folder.rglob("*.csv")}
    assert whole, "some files were whole before the kill"
    assert list(folder.rglob(".*.part")), "one was not"
    exported = await held.export(folder, held.files(Format.CSV, split=Split.MONTH))
    assert not list(folder.rglob(".*.part"))
    assert 0 < exported.kept < exported.files
    assert all(path.read_bytes() == content for path, content in whole.items())
    assert len(read_back(folder, Format.CSV, MINUTES)) == len(rows_of(MINUTES)) - 10
