"""The command doctor: what keeps a node from working, by name, and what to do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.commands.options import AsJson
from app.commands.output import console, print_json

if TYPE_CHECKING:
    from app.doctor.finding import Finding

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None, *, json: AsJson = False) -> None:
    """Check exchange, proxy, certificates, clock, disk, database, permissions, port and settings; change nothing.

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


def _print(findings: "Sequence[Finding]") -> None:
    """A line for each finding, and below it what to do."""
    from rich.text import Text

    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        line = Text.assemble((f"{finding.state:<5}", _STYLES[finding.state]), f"{finding.check:<{width}}  ")
        console().print(line.append(finding.sentence), soft_wrap=True)
        if finding.advice:
            console().print(Text(f"     {'':<{width}}  do: {finding.advice}"), soft_wrap=True)
