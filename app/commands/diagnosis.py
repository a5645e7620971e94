"""The commands that look at a node and change nothing: doctor, status."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.commands.options import AsJson
from app.commands.output import console, fail, print_json
from app.commands.which_node import settings_in_force

if TYPE_CHECKING:
    from app.doctor.finding import Finding

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None, *, json: AsJson = False) -> None:
    """Check exchange, proxy, clock, disk, database, NATS, Redis, permissions, port and settings; change nothing.

    Safe beside a running node: it takes no lease, and costs a REST weight of 1. Exit status 1 when a check fails.
    """
    import asyncio

    from app.doctor.finding import has_failed
    from app.operate_doctor import examine

    findings = asyncio.run(examine(None if port is None else {"port": port}))
    is_failed = has_failed(findings)
    if json:
        print_json({"ok": not is_failed, "checks": [finding._asdict() for finding in findings]})
    else:
        _print(findings)
    if is_failed:
        raise typer.Exit(1)


def status(
    url: Annotated[
        str | None, typer.Option(help="Of the node; default: the one of the settings, by HOST and PORT.")
    ] = None,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print the state once instead of a live view.")] = False,
    json: AsJson = False,
) -> None:
    """Show how a running node is, live: state, weight, frames, lag, what is missing, jobs, clients, slow requests.

    Without a terminal that can be redrawn, or with --json, it is printed once. Exit status 2 when no node answers then.
    """
    import asyncio

    from app import operate_status
    from infra.process.clock import SystemClock

    where, clock, out = (url or _local_url()).rstrip("/"), SystemClock(), console()
    try:
        if json:
            print_json(asyncio.run(operate_status.once(where, clock)))
        elif once or not out.is_terminal or out.is_dumb_terminal:
            asyncio.run(operate_status.show_once(where, out, clock))
        else:
            asyncio.run(operate_status.watch(where, out, clock))
    except operate_status.NoNode as error:
        fail(str(error))
    except KeyboardInterrupt:
        return


def _local_url() -> str:
    """Where the node of the settings answers on this machine."""
    from app.setting_values import local_url

    settings = settings_in_force(asks_exchange=False)
    return local_url(settings.host, settings.port)


def _print(findings: "Sequence[Finding]") -> None:
    """A line for each finding, and below it what to do."""
    from rich.text import Text

    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        line = Text.assemble((f"{finding.state:<5}", _STYLES[finding.state]), f"{finding.check:<{width}}  ")
        console().print(line.append(finding.sentence), soft_wrap=True)
        if finding.advice:
            console().print(Text(f"     {'':<{width}}  do: {finding.advice}"), soft_wrap=True)
