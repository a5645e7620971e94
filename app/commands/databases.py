"""The commands that rewrite a database: unseal, migrate-store."""

from typing import Annotated

import typer

from app.commands.options import AsJson, Demo
from app.commands.output import console, fail, print_json
from app.commands.which_node import settings_of


def unseal(*, demo: Demo = False, json: AsJson = False) -> None:
    """Turn sealed blocks back into plain rows: for SQL on the whole history. The node must not run.

    Set SEAL_AFTER_DAYS=0 first, or the next start seals them again. Rows take three times the disk space of blocks.
    """
    import asyncio

    from app import operate, operate_unseal

    settings = settings_of(is_demo=demo)
    try:
        rows, damaged = asyncio.run(operate_unseal.unseal(settings, console(stderr=json)))
    except KeyboardInterrupt:
        console(stderr=True).print("stopped; what was unsealed stays, the same command goes on from here")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        fail(str(error))
    if json:
        print_json({"rows": rows, "damaged_blocks": damaged})
        return
    console().print(f"{rows:,} rows are plain rows again")
    if damaged:
        console().print(f"{damaged:,} damaged blocks were deleted: the node fetches their rows again when it runs")


def migrate_store(
    source: Annotated[str, typer.Argument(help="DB_URL of the database that is read.")],
    target: Annotated[str, typer.Argument(help="DB_URL of the database that is written; it must be empty.")],
    *,
    timescale: Annotated[bool, typer.Option("--timescale", help="Make TARGET as TIMESCALE=true does.")] = False,
    json: AsJson = False,
) -> None:
    """Move everything to another kind of store (SQLite, Postgres) and compare both. No node may run on either.

    Nothing is deleted. Stopped in the middle, the same command goes on from there.
    """
    import asyncio

    from app import operate, operate_migrate
    from app.setting_values import database_url

    urls = []
    for name, url in (("SOURCE", source), ("TARGET", target)):
        try:
            urls.append(database_url(url))
        except ValueError as error:
            fail(f"{name} must be as a DB_URL is: {error}")
    try:
        moved = asyncio.run(operate_migrate.migrate(urls[0], urls[1], console(stderr=json), timescale=timescale))
    except KeyboardInterrupt:
        console(stderr=True).print("stopped; what was moved stays, the same command goes on from here")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        fail(str(error))
    if json:
        print_json(moved._asdict())
        return
    console().print(f"{moved.rows:,} rows of all tables, {moved.blocks:,} of them blocks, are the same in both:")
    console().print(f"SHA-256 {moved.sha256}")
    console().print("set DB_URL to the new database, and start the node")
