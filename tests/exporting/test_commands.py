"""The commands export and check-export, from the options to what they say."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.series import Series
from app.domain.span import Span
from app.exporting.manifest import NAME
from app.exporting.plan import why_nothing
from app.node.exporting import LAUNCH_MS
from app.operate import OperateError, Target
from app.operate_check_export import check_export
from app.operate_export import LOCK_FOLDER, export, holes_of, summary, wish_of
from app.ports.export import Format
from app.settings import load
from infra.process.folder_lock import FolderLock
from tests.exporting.held import FUNDINGS, HOURS, MINUTES, MISSING, RATIOS, SPAN, Held, manifest_in, rows_of


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


def stamps_in(folder: Path) -> list[int]:
    """The times that the exchange states, of all rows of the CSV files in a folder."""
    lines = [line.split(",") for path in sorted(folder.rglob("*.csv")) for line in path.read_text().splitlines()[1:]]
    place = next(folder.rglob("*.csv")).read_text().partition("\n")[0].split(",").index("stamp_time")
    return [int(line[place]) for line in lines]


@pytest.mark.parametrize("series", [FUNDINGS, RATIOS])
async def test_a_span_bounds_the_times_that_the_exchange_states(held: Held, tmp_path: Path, series: Series) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    stamps = [row.open_ms + series.kind.rest.stamp_ms for row in rows_of(series)]
    folder, out = tmp_path / "out", Console(file=io.StringIO())
    for first, end in ((stamps[1], stamps[-1]), (stamps[1] + 1, stamps[-1] + 1)):
        wish = wish_of(Target((series.name,), (series.interval,), first, end), folder, "csv", "year", is_float=False)
        exported = await export(settings, wish, out)
        due = [at for at in stamps if first <= at < end]
        assert (exported.missing, stamps_in(folder)) == (0, due)
        assert (await check_export(folder, None, out)).faults == []
    new_year_ms = SPAN.start_ms + DAY_MS
    [of_2026] = folder.rglob("2026.csv")
    of_2026.rename(tmp_path / of_2026.name)
    assert stamps_in(tmp_path / "out") == [at for at in due if at < new_year_ms], "a file has the stamps of its year"


async def test_an_event_that_may_be_stamped_with_the_first_time_asked_for_is_missing_until_it_is_known(
    held: Held, tmp_path: Path
) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    target = Target((FUNDINGS.name,), (FUNDINGS.interval,), SPAN.start_ms, SPAN.start_ms + 120_000)
    wish = wish_of(target, tmp_path / "out", "csv", "year", is_float=False)
    exported = await export(settings, wish, Console(file=io.StringIO()))
    assert (exported.rows, exported.missing) == (0, 1), "its hour ends with that time, and is not held"


async def test_without_a_start_no_row_is_asked_for_that_opened_before_the_wish(held: Held, tmp_path: Path) -> None:
    settings = load({"db_url": held.url, "backfill_days": 1}, asks_exchange=False)
    wish = wish_of(Target((RATIOS.name,), (RATIOS.interval,), None, None), tmp_path, "csv", "year", is_float=False)
    await export(settings, wish, Console(file=io.StringIO()))
    starts_ms = [entry.pieces[0].window.start for entry in manifest_in(tmp_path).files]
    assert min(starts_ms) % DAY_MS == 0


async def test_an_export_from_1970_on_begins_with_the_exchange_and_not_with_a_file_for_each_year(
    held: Held, tmp_path: Path
) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    wish = wish_of(Target(("BTCUSDT",), (M1,), 0, SPAN.end_ms), tmp_path / "out", "csv", "year", is_float=False)
    await export(settings, wish, Console(file=io.StringIO()))
    years = sorted(path.stem for path in (tmp_path / "out").rglob("*.csv"))
    assert years == [str(year) for year in range(2019, 2027)], "no listing says when it began"


async def test_a_span_without_a_row_is_refused_with_the_end_that_is_wrong(held: Held, tmp_path: Path) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    for start_ms, end_ms, says in (
        (0, 10, f"the next one can be that of {LAUNCH_MS} at the earliest: ask for a later --end"),
        (SPAN.start_ms + 1, SPAN.start_ms + 2, f"that of {SPAN.start_ms + MINUTE_MS} .* later --end"),
    ):
        target = Target(("BTCUSDT",), (M1,), start_ms, end_ms)
        wish = wish_of(target, tmp_path / "out", "csv", "year", is_float=False)
        with pytest.raises(OperateError, match=says):
            await export(settings, wish, Console(file=io.StringIO()))


def test_a_span_whose_rows_are_not_due_yet_is_refused_with_the_start() -> None:
    asked = {FUNDINGS: (FUNDINGS.interval.grid, Span(SPAN.start_ms, SPAN.start_ms))}
    first_ms = SPAN.start_ms + FUNDINGS.kind.rest.stamp_ms
    assert "earlier --start" in why_nothing(asked, Span(0, first_ms), first_ms, ("--start", "--end"))
    assert f"that of {first_ms}" in why_nothing(asked, Span(0, first_ms), first_ms + 1, ("--start", "--end"))


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
