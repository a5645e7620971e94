"""The commands demo and demo-collector: everything on loopback."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from app.commands.output import fail, iso, program
from app.commands.running import SANDBOX_SYMBOLS_MAX, collect_with, serve_with
from app.commands.sandbox_process import sandbox_process
from app.commands.which_node import DEMO_DB_URL, DEMO_SERVER, SANDBOX_PORT, demo_settings


def demo(
    port: Annotated[int, typer.Option(help="Where the node answers.", min=1, max=65_535)] = 8000,
    sandbox_port: Annotated[int, typer.Option(help="Where the sandbox answers.", min=1, max=65_535)] = SANDBOX_PORT,
    symbols: Annotated[
        int, typer.Option(help="How many symbols the sandbox lists.", min=1, max=SANDBOX_SYMBOLS_MAX)
    ] = 50,
    store: Annotated[
        Literal["sqlite", "postgres"], typer.Option(help="Where klines are kept; postgres: a server that ends with it.")
    ] = "sqlite",
) -> None:
    """Start a sandbox exchange and a node that follows it; both on loopback, no network needed."""
    with _demo_database(store) as db_url, sandbox_process(sandbox_port, symbols):
        settings = demo_settings(port, sandbox_port, db_url)
        sys.stdout.write(_demo_greeting(f"http://127.0.0.1:{port}", settings.binance_rest_url))
        sys.stdout.flush()
        serve_with(settings)


def demo_collector(
    port: Annotated[int, typer.Option(help="Where the collector answers.", min=1, max=65_535)] = 8001,
    sandbox_port: Annotated[int, typer.Option(help="Where the sandbox answers.", min=1, max=65_535)] = SANDBOX_PORT,
    nats_port: Annotated[int, typer.Option(help="Where NATS answers.", min=1, max=65_535)] = 4222,
) -> None:
    """Start a sandbox of three exchanges, NATS, the collector and a subscriber that prints; all on loopback."""
    from infra.process.demo_nats import NoNats, demo_nats

    try:
        with demo_nats(nats_port) as nats_url, sandbox_process(sandbox_port, 5), _listener_process(nats_url):
            sys.stdout.write(_collector_greeting(f"http://127.0.0.1:{port}", nats_url))
            sys.stdout.flush()
            collect_with(_demo_collector_settings(port, sandbox_port, nats_url))
    except NoNats as error:
        fail(str(error))


@contextmanager
def _demo_database(store: str) -> Iterator[str]:
    """The DB_URL of a demo; while it runs on Postgres, DEMO_SERVER contains it."""
    if store == "sqlite":
        DEMO_SERVER.unlink(missing_ok=True)  # left behind by a demo that was killed
        yield DEMO_DB_URL
        return
    from app import listening
    from infra.process.demo_server import NoServer, demo_server

    signal.signal(signal.SIGTERM, listening.leave)  # so that `finally` ends the database's server, even while it starts
    try:
        with demo_server() as db_url:
            DEMO_SERVER.parent.mkdir(parents=True, exist_ok=True)
            DEMO_SERVER.write_text(db_url)
            try:
                yield db_url
            finally:
                DEMO_SERVER.unlink(missing_ok=True)
    except NoServer as error:
        fail(str(error))


def _demo_greeting(node: str, exchange: str) -> str:
    name = program()
    return (
        f"sandbox exchange on {exchange}, node on {node}; try, from another terminal:\n"
        f"  curl '{node}/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=500'\n"
        f"  {name} gaps --demo\n"
        f"  {name} verify --demo --symbol BTCUSDT\n"
        f"  {name} backfill --demo --symbol BTCUSDT --start {_days_ago(5)} --end {_days_ago(3)}\n"
    )


def _days_ago(days: int) -> str:
    from app.domain.interval import DAY_MS
    from infra.process.clock import SystemClock

    return iso(SystemClock().now_ms() - days * DAY_MS).partition(" ")[0]


def _demo_collector_settings(port: int, sandbox_port: int, nats_url: str) -> dict[str, object]:
    http, ws = f"http://127.0.0.1:{sandbox_port}", f"ws://127.0.0.1:{sandbox_port}"
    return {
        "binance_rest_url": http,
        "binance_ws_url": ws,
        "okx_rest_url": http,
        "okx_ws_url": ws,
        "deribit_rest_url": http,
        "deribit_ws_url": ws,
        "nats_url": nats_url,
        "exchanges": ("binance", "okx", "deribit"),
        "collect_symbols": ("BTC-USDT", "ETH-USDT", "deribit:BTC-USD", "deribit:ETH-USD"),
        "collect_types": ("trade", "orderbook", "kline.1m", "ticker", "funding_rate", "open_interest"),
        "collect_dir": "data/demo/collect",
        "runtime_dir": "data/demo",
        "host": "127.0.0.1",
        "port": port,
    }


def _collector_greeting(collector: str, nats_url: str) -> str:
    follow = '{"action":"subscribe","symbols":["SOL-USDT"],"data_types":["trade"]}'
    return (
        f"sandbox of three exchanges, NATS on {nats_url}, collector on {collector}; try, from another terminal:\n"
        f"  curl {collector}/api/v1/status\n"
        f"  curl -H \"Authorization: Bearer $(cat data/demo/collect/collector.token)\" -d '{follow}' "
        f"{collector}/api/v1/exchanges/okx/subscribe\n"
    )


@contextmanager
def _listener_process(nats_url: str) -> Iterator[None]:
    command = [sys.executable, "-P", "-m", "infra.nats.listener", nats_url]
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603  our own module; Ctrl-C is for us
    try:
        yield
    finally:
        process.terminate()
        process.wait()
