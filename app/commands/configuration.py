"""The commands about settings and keys: config, key new."""

import sys
from typing import Annotated

import typer

from app.commands.options import AsJson
from app.commands.output import console, fail, print_json
from app.commands.which_node import settings_in_force


def config(
    *,
    sample_file: Annotated[bool, typer.Option("--sample", help="Print .env.sample instead.")] = False,
    json: AsJson = False,
) -> None:
    """Print the settings in force, secrets masked."""
    if sample_file:
        from app.settings import sample

        sys.stdout.write(sample())
        return
    settings = settings_in_force(asks_exchange=False)  # unchecked: it shows what may be wrong
    if json:
        print_json(settings.effective())
        return
    for name, value in settings.effective().items():
        sys.stdout.write(f"{name}={value}\n")


def key_new(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, dots, dashes and underscores.")],
    per_minute: Annotated[int, typer.Option("--per-minute", help="Requests that the key has in each minute.")] = 1200,
    *,
    json: AsJson = False,
) -> None:
    """Make an API key: the key itself, which is shown this once, and the line for API_KEYS_FILE."""
    from app.access.api_keys import line_of, new_key

    secret = new_key()
    try:
        line = line_of(name, secret, per_minute)
    except ValueError as error:
        fail(str(error))
    if json:
        print_json({"key": secret, "line": line})
        return
    console(stderr=True).print("The key, for its user; it is stored nowhere:", highlight=False)
    sys.stdout.write(f"{secret}\n")
    sys.stdout.flush()
    console(stderr=True).print("The line for API_KEYS_FILE, which running nodes read within seconds:", highlight=False)
    sys.stdout.write(f"{line}\n")
