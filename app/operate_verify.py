"""The command `klinenode verify`: compare a span with the exchange, alone or through the running node."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.operate import (
    OperateError,
    Report,
    Target,
    ask_writer,
    listed_symbols,
    node_client,
    node_or_holder,
    wish_of,
    wished_symbols,
)
from app.ports.clock import Clock
from app.settings import Settings

POLL_S: Final = 0.5


async def verify(settings: Settings, target: Target, out: Console, *, by_rows: bool = False) -> Report:
    """Compare the target's klines with the exchange and show the progress; return the report of the ended audit.

    With `by_rows` every row is compared, not the sums of whole days. The audit runs in the node that holds the
    writer's lease, if there is one, else in this process. Raises OperateError.
    """
    async with node_or_holder(settings, out, makes_database=False) as (parts, holder):
        span = target.span(settings, parts.clock.now_ms())
        if holder is None:
            symbols = await listed_symbols(parts, target)
            series = target.series(symbols)
            number = parts.verifier.request(series, span, by_rows=by_rows)

            async def own() -> Report:
                return parts.verifier.report()

            return await _watch(own, number, parts.clock, out)
        async with node_client(holder, parts) as client:
            symbols = target.symbols or await wished_symbols(client)
            body = wish_of(symbols, target.intervals, span) | ({"rows": True} if by_rows else {})
            answer = await ask_writer(client, "POST", "/v1/admin/verify", parts.clock, body)

            async def theirs() -> Report:
                return await ask_writer(client, "GET", "/v1/verification", parts.clock)

            return await _watch(theirs, answer["audit"], parts.clock, out)


def left_out(audit: Report) -> list[str]:
    """One line for each part of the span that the audit did not compare, with the reason."""
    lines = [
        f"not compared: {each['symbol']} {each['interval']} from {_iso(each['start'])} to {_iso(each['end'])}: "
        f"{each['why']}"
        for each in audit["uncompared"]
    ]
    if more := audit["uncompared_total"] - len(lines):
        lines.append(f"not compared: {more} more")
    if audit["until"] < audit["end"]:
        lines.append(f"not compared: what opened after {_iso(audit['until'])}; it is too young")
    return lines


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


async def _watch(report: Callable[[], Awaitable[Report]], number: int, clock: Clock, out: Console) -> Report:
    """Show the progress of audit `number` until it ends; return its report. Raises OperateError if the node lost it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out) as progress:
        task = progress.add_task("verify", total=None)
        while True:
            found = [audit for audit in (await report())["audits"] if audit["audit"] == number]
            if not found:
                raise OperateError("the node was restarted or has forgotten the audit; ask again")
            audit: Report = found[0]
            total = audit["total"] or None
            progress.update(task, total=total, completed=min(audit["compared"], total or 0))
            if audit["state"] in ("done", "failed"):
                return audit
            await clock.sleep(POLL_S)
