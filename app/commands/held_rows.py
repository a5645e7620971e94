"""The commands about what is held: backfill, gaps, verify."""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.commands.options import AsJson, Demo, End, Intervals, Start, Symbols, target_of
from app.commands.output import console, fail, iso, print_json, program
from app.commands.which_node import settings_of

if TYPE_CHECKING:
    from app.holding.gaps import SeriesGap

BIG_KLINES: Final = 5_000_000  # half a gigabyte of disk, ten years of minutes: a larger backfill needs a confirmation


def backfill(
    symbol: Symbols = None,
    interval: Intervals = None,
    start: Start = None,
    end: End = None,
    *,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Withdraw such wishes instead; by default all of them, for any time.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Begin a big backfill without a question.")] = False,
    demo: Demo = False,
    json: AsJson = False,
) -> None:
    """Fill a span, beside a running node or by itself; Ctrl-C is safe, the next call goes on where this one stopped."""
    import asyncio

    from app import operate
    from app.domain.interval import INTERVALS
    from infra.process.clock import SystemClock

    settings = settings_of(is_demo=demo)
    target = target_of(settings, symbol, interval or (list(INTERVALS) if cancel else None), start, end)
    try:
        if cancel:
            report = asyncio.run(operate.cancel(settings, target, console(stderr=json)))
            print_json(report) if json else _print_withdrawal(report)
            return
        if not yes:
            klines = asyncio.run(operate.missing_klines(settings, target, SystemClock().now_ms()))
            _approve(klines, settings.seal_after_days)
        asyncio.run(operate.backfill(settings, target, console(stderr=json), _cancel_command()))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        fail(str(error))
    if json:
        print_json({"complete": True})


def gaps(
    symbol: Symbols = None,
    interval: Intervals = None,
    start: Start = None,
    end: End = None,
    *,
    demo: Demo = False,
    json: AsJson = False,
) -> None:
    """List the spans that are wished and not held, straight from the database."""
    import asyncio

    from app import operate

    settings = settings_of(is_demo=demo, needs_node=False)
    target = target_of(settings, symbol, interval, start, end)
    try:
        found = asyncio.run(operate.gaps(settings, target))
    except operate.OperateError as error:
        fail(str(error))
    print_json({"gaps": _gap_lines(found)}) if json else _print_gaps(found)
    if found:
        raise typer.Exit(1)


def verify(
    symbol: Symbols = None,
    interval: Intervals = None,
    start: Start = None,
    end: End = None,
    *,
    rows: Annotated[
        bool, typer.Option("--rows", help="Compare every row instead of the sums of whole days; takes longer.")
    ] = False,
    demo: Demo = False,
    json: AsJson = False,
) -> None:
    """Compare what is held with the exchange's own klines and repair what differs.

    Exit status 1 when something differed, 2 when nothing was compared or the comparison failed on the way. Spans that
    are not held are listed and change no status.
    """
    import asyncio

    from app import operate, operate_verify

    settings = settings_of(is_demo=demo)
    target = target_of(settings, symbol, interval, start, end)
    try:
        audit = asyncio.run(operate_verify.verify(settings, target, console(stderr=json), by_rows=rows))
    except KeyboardInterrupt:
        console(stderr=True).print("stopped; a running node goes on by itself, otherwise run the same command again")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        fail(str(error))
    if json:
        print_json(audit)
    else:
        _print_audit(audit, operate_verify.left_out(audit))
    if audit["state"] == "failed":
        fail(f"not everything could be compared: {audit['error']}")
    if audit["mismatched"]:
        raise typer.Exit(1)


def _gap_lines(found: "Sequence[SeriesGap]") -> list[dict[str, object]]:
    """A line for each missing span; times in ms, the end exclusive."""
    return [
        {
            "symbol": gap.series.name,
            "interval": gap.series.interval.code,
            "start": span.start_ms,
            "end": span.end_ms,
            "klines": gap.grid.count(*span),
        }
        for gap in found
        for span in gap.missing
    ]


def _print_gaps(found: "Sequence[SeriesGap]") -> None:
    from rich.table import Table

    if not found:
        console().print("no gaps: everything that is wished is held or proven absent")
        return
    table = Table("symbol", "interval", "missing from", "to (exclusive)", "klines", title="gaps")
    for gap in found:
        for span in gap.missing:
            count = str(gap.grid.count(*span))
            table.add_row(gap.series.name, gap.series.interval.code, iso(span.start_ms), iso(span.end_ms), count)
    console().print(table)


def _print_audit(audit: Mapping[str, Any], left_out: Iterable[str]) -> None:
    from rich.table import Table

    table = Table("compared", "differed", "rows replaced", "exchange contradicts itself", title="verification")
    table.add_row(*(str(audit[name]) for name in ("compared", "mismatched", "rows_replaced", "disagreements")))
    console().print(table)
    for finding in audit["findings"]:
        console().print(f"  {finding}", markup=False, highlight=False)
    for line in left_out:
        console().print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _approve(klines: int, seal_after_days: float) -> None:
    """Ask for confirmation of a backfill of more than BIG_KLINES; without a terminal, fail. Raises typer.Exit."""
    from app.filling.amounts import of_bytes
    from app.filling.room import row_disk_bytes

    if klines <= BIG_KLINES:
        return
    what = f"this fetches about {klines:,} klines, {of_bytes(klines * row_disk_bytes(seal_after_days))} of disk"
    if not sys.stdin.isatty():
        fail(f"{what}; so much is asked about first, and nobody is here to answer: add --yes, or name fewer --symbol")
    if not typer.confirm(f"{what}; begin?", err=True):
        raise typer.Exit(1)


def _print_withdrawal(report: Mapping[str, int]) -> None:
    withdrawn, remaining = report["withdrawn"], report["remaining"]
    if withdrawn:
        console().print(f"withdrawn: the wishes of {withdrawn} series; what is held stays")
    elif not remaining:
        console().print("nothing to withdraw: no backfill of these series and times was asked for, or it was withdrawn")
    if remaining:
        console().print(f"{remaining} series are wished before and after the span: withdraw more of them")


def _cancel_command() -> str:
    return shlex.join([program(), *(word for word in sys.argv[1:] if word != "--yes"), "--cancel"])
