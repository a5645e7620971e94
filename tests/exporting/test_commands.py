"""The commands export and check-export, from the options to what they say."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from app.domain.interval import M1
from app.exporting.manifest import NAME
from app.operate import OperateError, Target
from app.operate_check_export import check_export
from app.operate_export import LOCK_FOLDER, export, holes_of, summary, wish_of
from app.ports.export import Format
from app.settings import load
from infra.process.folder_lock import FolderLock
from tests.exporting.held import HOURS, MINUTES, MISSING, SPAN, Held, rows_of


async def test_a_command_exports_beside_the_node_that_writes_and_proves_it(held: Held, tmp_path: Path) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    folder, out = tmp_path / "out", Console(file=io.StringIO())
    wish = wish_of(Target(("BTCUSDT",), (M1,), *SPAN), folder, "csv", "month", is_float=False)
    exported = await export(settings, wish, out)
    assert exported.rows == len(rows_of(MINUTES)) - 10
    said = "\n".join(holes_of(exported))
    assert "10 rows are missing" in said
    assert f"BTCUSDT 1m: 10 rows from {MISSING.start_ms} to {MISSING.end_ms}" in said
    assert f"{exported.rows:,} rows in 2 files" in summary(exported, folder)
    again = await export(settings, wish, out)
    assert (again.kept, again.rows) == (2, exported.rows)
    verdict = await check_export(folder, None, out)
    assert (verdict.files, verdict.rows, verdict.faults) == (2, exported.rows, [])


async def test_an_export_from_1970_on_begins_with_the_exchange_and_not_with_a_file_for_each_year(
    held: Held, tmp_path: Path
) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    wish = wish_of(Target(("BTCUSDT",), (M1,), 0, SPAN.end_ms), tmp_path / "out", "csv", "year", is_float=False)
    await export(settings, wish, Console(file=io.StringIO()))
    years = sorted(path.stem for path in (tmp_path / "out").rglob("*.csv"))
    assert years == [str(year) for year in range(2019, 2027)], "no listing says when it began"


async def test_what_the_database_does_not_know_is_refused(held: Held, tmp_path: Path) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    out = Console(file=io.StringIO())
    wish = wish_of(Target(("NOSUCH",), (M1,), *SPAN), tmp_path / "out", "csv", "year", is_float=False)
    with pytest.raises(OperateError, match="knows no NOSUCH"):
        await export(settings, wish, out)
    with pytest.raises(OperateError, match=r"has no manifest\.json"):
        await check_export(tmp_path, None, out)


async def test_a_folder_that_cannot_be_written_to_is_refused_with_what_to_do(held: Held, tmp_path: Path) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    out = Console(file=io.StringIO())
    (file := tmp_path / "file").touch()
    (taken := tmp_path / "taken").mkdir()
    lock = FolderLock(taken / LOCK_FOLDER)
    for folder, says in (
        (file, "is a file, or lies in one: name a folder"),
        (file / "below", "is a file, or lies in one: name a folder"),
        (Path("/proc/klinenode"), "cannot be made or written to: No such file or directory; name another folder"),
        (taken, "another export writes to .*taken: wait for it, or name another folder"),
    ):
        wish = wish_of(Target(("BTCUSDT",), (M1,), *SPAN), folder, "csv", "year", is_float=False)
        with pytest.raises(OperateError, match=says):
            await export(settings, wish, out)
    lock.release()
    with pytest.raises(OperateError, match=r"has no manifest\.json"):
        await check_export(file, None, out)


async def test_a_manifest_that_states_another_format_is_no_traceback(held: Held, tmp_path: Path) -> None:
    await held.export(tmp_path, held.files(Format.PARQUET, [HOURS]))
    manifest, whole = tmp_path / NAME, (tmp_path / NAME).read_text()
    for form in set(Format) - {Format.PARQUET}:
        manifest.write_text(whole.replace('"format": "parquet"', f'"format": "{form}"'))
        with pytest.raises(OperateError, match=f"is not a {form} file of ETHUSDT 1h"):
            await check_export(tmp_path, None, Console(file=io.StringIO()))
