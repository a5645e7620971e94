"""The command line: which commands there are.

A command imports its modules when it runs: importing the whole node takes a second of processor time, which
`--version`, `--help` and `config` do not need (tests/project/test_imports.py).
"""

import gc
import sys
from typing import Annotated, Final

import typer

from app.commands.completion import completion
from app.commands.configuration import config, key_new
from app.commands.databases import migrate_store, unseal
from app.commands.demos import demo, demo_collector
from app.commands.diagnosis import doctor, status
from app.commands.files import check_export, export, replay
from app.commands.held_rows import backfill, gaps, verify
from app.commands.running import collect, sandbox, serve

COMMANDS: Final = (
    serve,
    demo,
    collect,
    demo_collector,
    sandbox,
    backfill,
    gaps,
    verify,
    unseal,
    migrate_store,
    export,
    check_export,
    replay,
    doctor,
    status,
    config,
    completion,
)

app = typer.Typer(no_args_is_help=True, add_completion=False)
keys = typer.Typer(no_args_is_help=True, help="API keys, for a node that others may ask (API_KEYS_FILE).")


def main() -> None:
    """Run the command line. A settings error prints all faults and ends it with status 2."""
    try:
        app()
    finally:
        gc.freeze()  # so that Python does not look for garbage in all of a node, 0.2 s, just before the process ends


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        sys.stdout.write(f"klinenode {version('klinenode')}\n")
        raise typer.Exit


@app.callback()
def klinenode(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A self-hosted, read-only market-data node."""


@keys.callback()
def key() -> None:
    """API keys, for a node that others may ask (API_KEYS_FILE)."""


for command in COMMANDS:
    app.command()(command)
app.add_typer(keys, name="key")
keys.command("new")(key_new)


if __name__ == "__main__":
    main()
