"""A check of an export finds what was changed, in the files and against a node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.domain.span import Span
from app.exporting.check import Asked, Check
from app.ports.export import ExportError, Format
from infra.exporting.folder import Folder
from infra.exporting.formats import read_rows
from tests.exporting.held import ALL, HOURS, MINUTES, Held, manifest_in, rows_of


class Answering:
    """A node that has all rows of a database but the missing ones; `changed` is one of them with another digit."""

    def __init__(self, held: Held, changed: Any = None) -> None:
        self._held = held
        self._changed = changed

    async def rows(self, asked: Asked) -> Sequence[Any]:
        known = {row.open_ms for row in rows_of(asked.series)}
        found = await self._held.reader.read(asked.series, Span(asked.first_ms, asked.end_ms), asked.rows)
        assert all(row.open_ms in known for row in found.rows)
        return [
            self._changed if self._changed is not None and row.open_ms == self._changed.open_ms else row
            for row in found.rows
        ]


async def test_an_export_is_proven_by_itself_and_by_the_node(held: Held, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    await held.export(folder, held.files(Format.CSV))
    await held.export(folder, held.files(Format.SQLITE))
    check = Check(Folder(folder), folder, read_rows, Answering(held))
    verdict = await check.run(manifest_in(folder), lambda rows: None)
    assert verdict.faults == []
    assert verdict.rows == sum(entry.rows for entry in manifest_in(folder).files)
    sampled = Check(Folder(folder), folder, read_rows, Answering(held), 1)
    assert 0 < (await sampled.run(manifest_in(folder), lambda rows: None)).pages < verdict.pages


class FetchingNode:
    """A node that answers for every row of the exchange, because it fetches those that it lacks."""

    async def rows(self, asked: Asked) -> Sequence[Any]:
        return [row for row in rows_of(asked.series) if asked.first_ms <= row.open_ms < asked.end_ms][: asked.rows]


async def test_a_node_is_not_asked_for_what_was_missing_when_the_file_was_written(held: Held, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    await held.export(folder, held.files(Format.CSV, [MINUTES]))
    verdict = await Check(Folder(folder), folder, read_rows, FetchingNode()).run(manifest_in(folder), lambda rows: None)
    assert (verdict.faults, verdict.pages > 0) == ([], True)


async def test_a_digit_that_differs_from_the_node_is_named(held: Held, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    await held.export(folder, held.files(Format.CSV, [HOURS]))
    row = rows_of(HOURS)[5]
    check = Check(Folder(folder), folder, read_rows, Answering(held, row._replace(high="7.5")))
    verdict = await check.run(manifest_in(folder), lambda rows: None)
    assert verdict.found == 1
    assert f"high at {row.open_ms} is {row.high}, and the node says 7.5" in verdict.faults[0]


async def test_what_happened_to_a_file_is_found(held: Held, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    await held.export(folder, held.files(Format.CSV, [MINUTES, HOURS]))
    paths = [folder / entry.path for entry in manifest_in(folder).files]
    paths[0].write_bytes(paths[0].read_bytes().replace(b"1", b"2", 1))
    paths[1].unlink()
    verdict = await Check(Folder(folder), folder, read_rows).run(manifest_in(folder), lambda rows: None)
    assert [fault.rpartition("/")[2].split(" ", 1)[1] for fault in verdict.faults] == [
        "is not the file that was written: its size or SHA-256 differs",
        "is missing",
    ]


@pytest.mark.parametrize("path", ["../klinenode.db", "/etc/passwd", "a//b"])
async def test_a_manifest_cannot_name_files_outside_of_its_folder(held: Held, tmp_path: Path, path: str) -> None:
    folder = tmp_path / "out"
    [file] = held.files(Format.SQLITE, ALL)
    await held.export(folder, [file])
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(file.path, path))
    with pytest.raises(ExportError, match="outside of its folder"):
        manifest_in(folder)
