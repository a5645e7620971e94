"""The commands about what is held: backfill, gaps, verify."""

import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Final

import typer

from app.commands.options import Demo, End, Intervals, Start, Symbols, target_of
from app.commands.output import console, fail, iso, program
from app.commands.which_node import settings_of

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
            _print_withdrawal(asyncio.run(operate.cancel(settings, target, console())))
            return
        if not yes:
            klines = asyncio.run(operate.missing_klines(settings, target, SystemClock().now_ms()))
            _approve(klines, settings.seal_after_days)
        asyncio.run(operate.backfill(settings, target, console(), _cancel_command()))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        fail(str(error))


def gaps(
    symbol: Symbols = None, interval: Intervals = None, start: Start = None, end: End = None, *, demo: Demo = False
) -> None:
    """List the spans that are wished and not held, straight from the database."""
    import asyncio

    from rich.table import Table

    from app import operate

    settings = settings_of(is_demo=demo, needs_node=False)
    target = target_of(settings, symbol, interval, start, end)
    try:
        found = asyncio.run(operate.gaps(settings, target))
    except operate.OperateError as error:
        fail(str(error))
    table = Table("symbol", "interval", "missing from", "to (exclusive)", "klines", title="gaps")
    for gap in found:
        for span in gap.missing:
            table.add_row(
                gap.series.name,
                gap.series.interval.code,
                iso(span.start_ms),
                iso(span.end_ms),
                str(gap.grid.count(*span)),
            )
    if table.row_count:
        console().print(table)
        raise typer.Exit(1)
    console().print("no gaps: everything that is wished is held or proven absent")


def verify(
    symbol: Symbols = None, interval: Intervals = None, start: Start = None, end: End = None, *, demo: Demo = False
) -> None:
    """Compare what is held with the exchange's own klines and repair what differs.

    Exit status 1 when something differed, 2 when nothing was compared or the comparison failed on the way. Spans that
    are not held are listed and change no status.
    """
    import asyncio

    from rich.table import Table

    from app import operate, operate_verify

    settings = settings_of(is_demo=demo)
    target = target_of(settings, symbol, interval, start, end)
    try:
        audit = asyncio.run(operate_verify.verify(settings, target, console()))
    except KeyboardInterrupt:
        console(stderr=True).print("stopped; a running node goes on by itself, otherwise run the same command again")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        fail(str(error))
    table = Table("compared", "differed", "rows replaced", "exchange contradicts itself", title="verification")
    table.add_row(*(str(audit[name]) for name in ("compared", "mismatched", "rows_replaced", "disagreements")))
    console().print(table)
    for finding in audit["findings"]:
        console().print(f"  {finding}", markup=False, highlight=False)
    for line in operate_verify.left_out(audit):
        console().print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if audit["state"] == "failed":
        fail(f"not everything could be compared: {audit['error']}")
    if audit["mismatched"]:
        raise typer.Exit(1)


def _approve(klines: int, seal_after_days: float) -> None:
    """Ask for confirmation of a backfill of more than BIG_KLINES; without a terminal, fail. Raises typer.Exit."""
    from app.filling.amounts import of_bytes
    from app.filling.room import row_disk_bytes

    if klines <= BIG_KLINES:
        return
    what = f"this fetches about {klines:,} klines, {of_bytes(klines * row_disk_bytes(seal_after_days))} of disk"
    if not sys.stdin.isatty():
        fail(f"{what}; so much is asked about first, and nobody is here to answer: add --yes, or name fewer --symbol")
    if not typer.confirm(f"{what}; begin?"):
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
