"""The commands that give away what is held: export, check-export, replay."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.commands.options import AsJson, Demo, End, Intervals, Start, Symbols, ms_of, target_of
from app.commands.output import console, fail, print_json, remark
from app.commands.which_node import settings_of

if TYPE_CHECKING:
    from app.exporting.check import Verdict


def export(
    folder: Annotated[Path, typer.Argument(help="Where the files are written; the same command goes on there.")],
    symbol: Symbols = None,
    interval: Intervals = None,
    start: Start = None,
    end: End = None,
    format_: Annotated[
        Literal["parquet", "arrow", "csv", "sqlite", "marketstore"], typer.Option("--format", help="Of the files.")
    ] = "parquet",
    split: Annotated[Literal["year", "month"], typer.Option(help="What one file has of a series.")] = "year",
    as_of: Annotated[str | None, typer.Option(help="As held at a past time: ISO 8601 or ms; default: now.")] = None,
    *,
    float64: Annotated[bool, typer.Option("--float64", help="Round decimals to float64.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when rows are missing.")] = False,
    demo: Demo = False,
    json: AsJson = False,
) -> None:
    """Write held rows to files, beside a running node; stopped in the middle, the same command goes on from there.

    Exit status 1 with --strict when rows are missing that the exchange may have; they are listed in any case.
    """
    import asyncio

    from app import operate, operate_export

    settings = settings_of(is_demo=demo, needs_node=False)
    target, as_of_ms = target_of(settings, symbol, interval, start, end), ms_of(as_of, "--as-of")
    wish = operate_export.wish_of(target, folder, format_, split, is_float=float64, as_of_ms=as_of_ms)
    try:
        exported = asyncio.run(operate_export.export(settings, wish, console(stderr=True)))
    except KeyboardInterrupt:
        console(stderr=True).print("stopped; files that are whole stay, the same command goes on from here")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        fail(str(error))
    for line in operate_export.holes_of(exported):
        remark(line)
    if json:
        counts = {name: getattr(exported, name) for name in ("rows", "files", "kept", "bytes", "missing")}
        print_json({**counts, "manifest": str(folder / "manifest.json")})
    else:
        console().print(operate_export.summary(exported, folder), markup=False, highlight=False, soft_wrap=True)
    if exported.missing and strict:
        raise typer.Exit(1)


def check_export(
    folder: Annotated[Path, typer.Argument(help="Where `klinenode export` wrote its files.")],
    node: Annotated[str | None, typer.Option(help="URL of a node whose answers the rows are compared with.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="Compare so many pages of each file instead of all.", min=1, max=1_000_000)
    ] = None,
    seed: Annotated[int, typer.Option(help="Which pages.")] = 1,
    *,
    json: AsJson = False,
) -> None:
    """Prove a folder of exported files: SHA-256, rows and spans; with --node also every digit.

    Exit status 1 when something differs, 2 when the check could not be made.
    """
    import asyncio

    from app import operate, operate_check_export

    comparison = None if node is None else operate_check_export.Comparison(node, sample, seed)
    try:
        verdict = asyncio.run(operate_check_export.check_export(folder, comparison, console(stderr=True)))
    except operate.OperateError as error:
        fail(str(error))
    if json:
        print_json({name: getattr(verdict, name) for name in ("files", "rows", "pages", "found", "faults")})
    else:
        _print_verdict(verdict, node)
    if verdict.found:
        raise typer.Exit(1)


def _print_verdict(verdict: "Verdict", node: str | None) -> None:
    for fault in verdict.faults:
        console().print(f"  {fault}", markup=False, highlight=False, soft_wrap=True)
    compared = "" if node is None else f", {verdict.pages:,} pages compared with {node}"
    console().print(f"{verdict.files:,} files, {verdict.rows:,} rows{compared}: {verdict.found:,} faults")


def replay(
    start: Annotated[str, typer.Option(help="First minute: ISO 8601 (UTC unless it says otherwise) or ms.")],
    end: Annotated[str | None, typer.Option(help="End of the last minute: ISO 8601 or ms; default: now.")] = None,
    speed: Annotated[int, typer.Option(help="How many times as fast as the clock.", min=1, max=1_000)] = 1,
    port: Annotated[int, typer.Option(help="Where the replay answers.", min=1, max=65_535)] = 8010,
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    *,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    demo: Demo = False,
) -> None:
    """Serve a past time of the database at a chosen speed: REST and sockets, read-only, beside a node or alone."""
    from app import operate, operate_replay
    from app.node.cannot_start import CannotStart

    given: dict[str, object] = {"port": port} if host is None else {"port": port, "host": host}
    settings = settings_of(is_demo=demo, needs_node=False).model_copy(update=given)
    plan = operate_replay.Plan(ms_of(start, "--start") or 0, ms_of(end, "--end"), speed, loop)
    try:
        operate_replay.run(settings, plan)
    except (operate.OperateError, CannotStart) as error:
        fail(str(error))
