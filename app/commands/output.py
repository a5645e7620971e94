"""What every command says alike: to people, about faults, and of times."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> "Console":
    """Where people read: stdout, or stderr beside output that programs read."""
    from rich.console import Console

    return Console(stderr=stderr)


def print_json(document: object) -> None:
    """Print the one document of a command with --json: stdout has nothing else then."""
    import json

    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


def fail(message: str) -> NoReturn:
    """Say what is wrong and what to do, and end the command with status 2."""
    console(stderr=True).print(message, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(2)


def remark(text: str) -> None:
    """Say something that does not end the command."""
    console(stderr=True).print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def iso(time_ms: int) -> str:
    """A time as people read it, UTC to the minute."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def program() -> str:
    """The path by which this program was called, relative to the current folder if possible."""
    path = Path(sys.argv[0])
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
