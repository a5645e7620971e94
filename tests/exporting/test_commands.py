"""The commands export and check-export, from the options to what they say."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from app.domain.interval import M1
from app.operate import OperateError, Target
from app.operate_check_export import check_export
from app.operate_export import export, holes_of, summary, wish_of
from app.settings import load
from tests.exporting.held import MINUTES, MISSING, SPAN, Held, rows_of


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


async def test_what_the_database_does_not_know_is_refused(held: Held, tmp_path: Path) -> None:
    settings = load({"db_url": held.url}, asks_exchange=False)
    out = Console(file=io.StringIO())
    wish = wish_of(Target(("NOSUCH",), (M1,), *SPAN), tmp_path / "out", "csv", "year", is_float=False)
    with pytest.raises(OperateError, match="knows no NOSUCH"):
        await export(settings, wish, out)
    with pytest.raises(OperateError, match=r"has no manifest\.json"):
        await check_export(tmp_path, None, out)
