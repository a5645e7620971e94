"""The commands that run until they are stopped: serve, collect, sandbox."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.commands.output import fail
from app.commands.which_node import SANDBOX_PORT, settings_in_force

if TYPE_CHECKING:
    from app.settings import Settings

SANDBOX_SYMBOLS_MAX: Final = 10_000  # ten times as many as the exchange has


def serve(
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None,
) -> None:
    """Start the node."""
    overrides: dict[str, object] = {
        name: value for name, value in {"host": host, "port": port}.items() if value is not None
    }
    serve_with(settings_in_force(overrides), reloads=True)


def collect(
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None,
) -> None:
    """Collect what EXCHANGES and COLLECT_… name onto NATS, in a process of its own; no node is needed."""
    given = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    collect_with(given)


def sandbox(
    port: Annotated[int, typer.Option(help="REST, archive and sockets.", min=0, max=65_535)] = SANDBOX_PORT,
    seed: Annotated[int, typer.Option(help="Which market.")] = 1,
    symbols: Annotated[int, typer.Option(help="How many USDT perpetuals.", min=1, max=SANDBOX_SYMBOLS_MAX)] = 50,
    weight_limit: Annotated[int, typer.Option(help="REST weight a minute.", min=1, max=10**9)] = 2400,
    rate: Annotated[
        float | None, typer.Option(help="Trades a second of each instrument of OKX and Deribit.", min=0.1, max=100_000)
    ] = None,
) -> None:
    """Run a seeded Binance, OKX and Deribit on loopback: REST, sockets, faults through POST /sandbox/faults."""
    from infra.sandbox.server import run

    run(port, seed, symbols, weight_limit, rate)


def serve_with(settings: "Settings", *, reloads: bool = False) -> None:
    """Run a node until a signal ends it; SIGHUP does not if it `reloads`. End with status 2 if it cannot start."""
    from app import server
    from app.node.cannot_start import CannotStart
    from app.node.stores import set_up_libraries

    set_up_libraries()
    try:
        server.run(settings, reloads=reloads)
    except CannotStart as error:
        fail(str(error))


def collect_with(overrides: Mapping[str, object]) -> None:
    """Run a collector until a signal ends it; `overrides` win over environment and .env."""
    from app import collect
    from app.node.cannot_start import CannotStart
    from app.settings import load

    try:
        collect.run(settings_in_force(overrides), partial(load, overrides))
    except CannotStart as error:
        fail(str(error))
