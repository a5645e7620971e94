"""The command line: its commands, their options, and what they print.

A command imports its modules when it runs: importing the whole node takes a second of processor time, which
`--version`, `--help` and `config` do not need (tests/project/test_imports.py).
"""

import gc
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NoReturn
from urllib.parse import parse_qsl, urlsplit

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from app.domain.interval import Interval
    from app.operate import Target
    from app.settings import Settings

SANDBOX_PORT: Final = 8900
SANDBOX_SYMBOLS_MAX: Final = 10_000  # ten times as many as the exchange has
TIME_MS_MAX: Final = 4_102_444_800_000  # 2100-01-01; a later time is a mistake, for example µs
SHOWN_MAX: Final = 64  # characters of a wrong time that the error repeats
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SANDBOX_START_S_MAX: Final = 20.0
SANDBOX_STOP_S_MAX: Final = 4.0
BIG_KLINES: Final = 5_000_000  # half a gigabyte of disk, ten years of minutes: a larger backfill needs a confirmation
DEMO_DB_URL: Final = "sqlite:///./data/demo/klinenode.db"
DEMO_SERVER: Final = Path("data/demo/postgres-url")
"""While a demo runs on Postgres: the URL of its database, for the commands with --demo."""

app = typer.Typer(no_args_is_help=True, add_completion=False)

Symbols = Annotated[
    list[str] | None, typer.Option("--symbol", help="Repeatable, also BTCUSDT@markPrice; default: every wished symbol.")
]
Intervals = Annotated[list[str] | None, typer.Option("--interval", help="Repeatable; default: every wished one.")]
Start = Annotated[str | None, typer.Option(help="ISO 8601 (UTC unless it says otherwise) or ms.")]
End = Annotated[str | None, typer.Option(help="ISO 8601 or ms; default: now.")]
Demo = Annotated[bool, typer.Option("--demo", help="For the node that `klinenode demo` runs in this folder.")]


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


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None,
) -> None:
    """Start the node."""
    overrides: dict[str, object] = {
        name: value for name, value in {"host": host, "port": port}.items() if value is not None
    }
    _serve(_settings(overrides))


@app.command()
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
    with _demo_database(store) as db_url, _sandbox_process(sandbox_port, symbols):
        settings = _demo_settings(port, sandbox_port, db_url)
        sys.stdout.write(_demo_greeting(f"http://127.0.0.1:{port}", settings.binance_rest_url))
        sys.stdout.flush()
        _serve(settings)


@app.command()
def collect(
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None,
) -> None:
    """Collect what EXCHANGES and COLLECT_… name onto NATS, in a process of its own; no node is needed."""
    given = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    _collect(given)


@app.command()
def demo_collector(
    port: Annotated[int, typer.Option(help="Where the collector answers.", min=1, max=65_535)] = 8001,
    sandbox_port: Annotated[int, typer.Option(help="Where the sandbox answers.", min=1, max=65_535)] = SANDBOX_PORT,
    nats_port: Annotated[int, typer.Option(help="Where NATS answers.", min=1, max=65_535)] = 4222,
) -> None:
    """Start a sandbox of three exchanges, NATS, the collector and a subscriber that prints; all on loopback."""
    from infra.process.demo_nats import NoNats, demo_nats

    try:
        with demo_nats(nats_port) as nats_url, _sandbox_process(sandbox_port, 5), _listener_process(nats_url):
            sys.stdout.write(_collector_greeting(f"http://127.0.0.1:{port}", nats_url))
            sys.stdout.flush()
            _collect(_demo_collector_settings(port, sandbox_port, nats_url))
    except NoNats as error:
        _fail(str(error))


@app.command()
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


@app.command()
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

    settings = _settings_of(is_demo=demo)
    target = _target(settings, symbol, interval or (list(INTERVALS) if cancel else None), start, end)
    try:
        if cancel:
            _print_withdrawal(asyncio.run(operate.cancel(settings, target, _console())))
            return
        if not yes:
            klines = asyncio.run(operate.missing_klines(settings, target, SystemClock().now_ms()))
            _approve(klines, settings.seal_after_days)
        asyncio.run(operate.backfill(settings, target, _console(), _cancel_command()))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        _fail(str(error))


@app.command()
def gaps(
    symbol: Symbols = None, interval: Intervals = None, start: Start = None, end: End = None, *, demo: Demo = False
) -> None:
    """List the spans that are wished and not held, straight from the database."""
    import asyncio

    from rich.table import Table

    from app import operate

    settings = _settings_of(is_demo=demo, needs_node=False)
    target = _target(settings, symbol, interval, start, end)
    try:
        found = asyncio.run(operate.gaps(settings, target))
    except operate.OperateError as error:
        _fail(str(error))
    table = Table("symbol", "interval", "missing from", "to (exclusive)", "klines", title="gaps")
    for gap in found:
        for span in gap.missing:
            table.add_row(
                gap.series.name,
                gap.series.interval.code,
                _iso(span.start_ms),
                _iso(span.end_ms),
                str(gap.grid.count(*span)),
            )
    if table.row_count:
        _console().print(table)
        raise typer.Exit(1)
    _console().print("no gaps: everything that is wished is held or proven absent")


@app.command()
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

    settings = _settings_of(is_demo=demo)
    target = _target(settings, symbol, interval, start, end)
    try:
        audit = asyncio.run(operate_verify.verify(settings, target, _console()))
    except KeyboardInterrupt:
        _console(stderr=True).print("stopped; a running node goes on by itself, otherwise run the same command again")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        _fail(str(error))
    table = Table("compared", "differed", "rows replaced", "exchange contradicts itself", title="verification")
    table.add_row(*(str(audit[name]) for name in ("compared", "mismatched", "rows_replaced", "disagreements")))
    _console().print(table)
    for finding in audit["findings"]:
        _console().print(f"  {finding}", markup=False, highlight=False)
    for line in operate_verify.left_out(audit):
        _console().print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if audit["state"] == "failed":
        _fail(f"not everything could be compared: {audit['error']}")
    if audit["mismatched"]:
        raise typer.Exit(1)


@app.command()
def unseal(*, demo: Demo = False) -> None:
    """Turn sealed blocks back into plain rows: for SQL on the whole history. The node must not run.

    Set SEAL_AFTER_DAYS=0 first, or the next start seals them again. Rows take three times the disk space of blocks.
    """
    import asyncio

    from app import operate, operate_unseal

    settings = _settings_of(is_demo=demo)
    try:
        rows, damaged = asyncio.run(operate_unseal.unseal(settings, _console()))
    except KeyboardInterrupt:
        _console(stderr=True).print("stopped; what was unsealed stays, the same command goes on from here")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        _fail(str(error))
    _console().print(f"{rows:,} rows are plain rows again")
    if damaged:
        _console().print(f"{damaged:,} damaged blocks were deleted: the node fetches their rows again when it runs")


@app.command()
def migrate_store(
    source: Annotated[str, typer.Argument(help="DB_URL of the database that is read.")],
    target: Annotated[str, typer.Argument(help="DB_URL of the database that is written; it must be empty.")],
    *,
    timescale: Annotated[bool, typer.Option("--timescale", help="Make TARGET as TIMESCALE=true does.")] = False,
) -> None:
    """Move everything to another kind of store (SQLite, Postgres) and compare both. No node may run on either.

    Nothing is deleted. Stopped in the middle, the same command goes on from there.
    """
    import asyncio

    from app import operate, operate_migrate
    from app.setting_values import database_url

    try:
        urls = [database_url(url) for url in (source, target)]
        moved = asyncio.run(operate_migrate.migrate(urls[0], urls[1], _console(), timescale=timescale))
    except KeyboardInterrupt:
        _console(stderr=True).print("stopped; what was moved stays, the same command goes on from here")
        raise typer.Exit(130) from None
    except (operate.OperateError, ValueError) as error:
        _fail(str(error))
    _console().print(f"{moved.rows:,} rows of all tables, {moved.blocks:,} of them blocks, are the same in both:")
    _console().print(f"SHA-256 {moved.sha256}")
    _console().print("set DB_URL to the new database, and start the node")


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where the files are written; the same command goes on there.")],
    symbol: Symbols = None,
    interval: Intervals = None,
    start: Start = None,
    end: End = None,
    format_: Annotated[
        Literal["parquet", "arrow", "csv", "sqlite", "marketstore"], typer.Option("--format", help="Of the files.")
    ] = "parquet",
    split: Annotated[Literal["year", "month"], typer.Option(help="What one file has of a series.")] = "year",
    as_of: Annotated[str | None, typer.Option(help="As held at a past time: ISO 8601 or ms; default: now.")] = None,
    *,
    float64: Annotated[bool, typer.Option("--float64", help="Round decimals to float64.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when rows are missing.")] = False,
    demo: Demo = False,
) -> None:
    """Write held rows to files, beside a running node; stopped in the middle, the same command goes on from there.

    Exit status 1 with --strict when rows are missing that the exchange may have; they are listed in any case.
    """
    import asyncio

    from app import operate, operate_export

    settings = _settings_of(is_demo=demo, needs_node=False)
    target, as_of_ms = _target(settings, symbol, interval, start, end), _ms(as_of, "--as-of")
    wish = operate_export.wish_of(target, folder, format_, split, is_float=float64, as_of_ms=as_of_ms)
    try:
        exported = asyncio.run(operate_export.export(settings, wish, _console(stderr=True)))
    except KeyboardInterrupt:
        _console(stderr=True).print("stopped; files that are whole stay, the same command goes on from here")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        _fail(str(error))
    for line in operate_export.holes_of(exported):
        _remark(line)
    _console().print(operate_export.summary(exported, folder), markup=False, highlight=False, soft_wrap=True)
    if exported.missing and strict:
        raise typer.Exit(1)


@app.command()
def check_export(
    folder: Annotated[Path, typer.Argument(help="Where `klinenode export` wrote its files.")],
    node: Annotated[str | None, typer.Option(help="URL of a node whose answers the rows are compared with.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="Compare so many pages of each file instead of all.", min=1, max=1_000_000)
    ] = None,
    seed: Annotated[int, typer.Option(help="Which pages.")] = 1,
) -> None:
    """Prove a folder of exported files: SHA-256, rows and spans; with --node also every digit.

    Exit status 1 when something differs, 2 when the check could not be made.
    """
    import asyncio

    from app import operate, operate_check_export

    comparison = None if node is None else operate_check_export.Comparison(node, sample, seed)
    try:
        verdict = asyncio.run(operate_check_export.check_export(folder, comparison, _console(stderr=True)))
    except operate.OperateError as error:
        _fail(str(error))
    for fault in verdict.faults:
        _console().print(f"  {fault}", markup=False, highlight=False, soft_wrap=True)
    compared = "" if node is None else f", {verdict.pages:,} pages compared with {node}"
    _console().print(f"{verdict.files:,} files, {verdict.rows:,} rows{compared}: {verdict.found:,} faults")
    if verdict.found:
        raise typer.Exit(1)


@app.command()
def replay(
    start: Annotated[str, typer.Option(help="First minute: ISO 8601 (UTC unless it says otherwise) or ms.")],
    end: Annotated[str | None, typer.Option(help="End of the last minute: ISO 8601 or ms; default: now.")] = None,
    speed: Annotated[int, typer.Option(help="How many times as fast as the clock.", min=1, max=1_000)] = 1,
    port: Annotated[int, typer.Option(help="Where the replay answers.", min=1, max=65_535)] = 8010,
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    *,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    demo: Demo = False,
) -> None:
    """Serve a past time of the database at a chosen speed: REST and sockets, read-only, beside a node or alone."""
    from app import operate, operate_replay
    from app.node.cannot_start import CannotStart

    given: dict[str, object] = {"port": port} if host is None else {"port": port, "host": host}
    settings = _settings_of(is_demo=demo, needs_node=False).model_copy(update=given)
    plan = operate_replay.Plan(_ms(start, "--start") or 0, _ms(end, "--end"), speed, loop)
    try:
        operate_replay.run(settings, plan)
    except (operate.OperateError, CannotStart) as error:
        _fail(str(error))


@app.command()
def config(
    *, sample_file: Annotated[bool, typer.Option("--sample", help="Print .env.sample instead.")] = False
) -> None:
    """Print the settings in force, secrets masked."""
    if sample_file:
        from app.settings import sample

        sys.stdout.write(sample())
        return
    for name, value in _settings(asks_exchange=False).effective().items():  # unchecked: it shows what may be wrong
        sys.stdout.write(f"{name}={value}\n")


keys = typer.Typer(no_args_is_help=True, help="API keys, for a node that others may ask (API_KEYS_FILE).")
app.add_typer(keys, name="key")


@keys.callback()
def key() -> None:
    """API keys, for a node that others may ask (API_KEYS_FILE)."""


@keys.command("new")
def key_new(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, dots, dashes and underscores.")],
    per_minute: Annotated[int, typer.Option("--per-minute", help="Requests that the key has in each minute.")] = 1200,
) -> None:
    """Make an API key: the key itself, which is shown this once, and the line for API_KEYS_FILE."""
    from app.access.api_keys import line_of, new_key

    secret = new_key()
    try:
        line = line_of(name, secret, per_minute)
    except ValueError as error:
        _fail(str(error))
    _console(stderr=True).print("The key, for its user; it is stored nowhere:", highlight=False)
    sys.stdout.write(f"{secret}\n")
    sys.stdout.flush()
    _console(stderr=True).print("The line for API_KEYS_FILE, which running nodes read within seconds:", highlight=False)
    sys.stdout.write(f"{line}\n")


def _approve(klines: int, seal_after_days: float) -> None:
    """Ask for confirmation of a backfill of more than BIG_KLINES; without a terminal, fail. Raises typer.Exit."""
    from app.filling.amounts import of_bytes
    from app.filling.room import row_disk_bytes

    if klines <= BIG_KLINES:
        return
    what = f"this fetches about {klines:,} klines, {of_bytes(klines * row_disk_bytes(seal_after_days))} of disk"
    if not sys.stdin.isatty():
        _fail(f"{what}; so much is asked about first, and nobody is here to answer: add --yes, or name fewer --symbol")
    if not typer.confirm(f"{what}; begin?"):
        raise typer.Exit(1)


def _print_withdrawal(report: Mapping[str, int]) -> None:
    withdrawn, remaining = report["withdrawn"], report["remaining"]
    if withdrawn:
        _console().print(f"withdrawn: the wishes of {withdrawn} series; what is held stays")
    elif not remaining:
        _console().print(
            "nothing to withdraw: no backfill of these series and times was asked for, or it was withdrawn"
        )
    if remaining:
        _console().print(f"{remaining} series are wished before and after the span: withdraw more of them")


def _cancel_command() -> str:
    return shlex.join([_program(), *(word for word in sys.argv[1:] if word != "--yes"), "--cancel"])


# --- what the commands share --------------------------------------------------------------------------------------


def _settings(overrides: Mapping[str, object] | None = None, *, asks_exchange: bool = True) -> "Settings":
    from app.settings import SettingsError, load

    try:
        return load(overrides, asks_exchange=asks_exchange, remark=_remark)
    except SettingsError as error:
        _fail(str(error))


def _remark(text: str) -> None:
    _console(stderr=True).print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _settings_of(*, is_demo: bool, needs_node: bool = True) -> "Settings":
    """The settings of the node that a command works for: the configured one, or the demo's."""
    from app.node.stores import set_up_libraries
    from app.outbound import masked

    set_up_libraries()
    demo_db_url = DEMO_SERVER.read_text() if DEMO_SERVER.exists() else DEMO_DB_URL
    demo_runs = _has_writer(demo_db_url)
    if is_demo:
        if needs_node and not demo_runs:
            _fail(f"no demo runs in this folder; start it in another terminal: {_program()} demo")
        return _demo_settings(8000, SANDBOX_PORT, demo_db_url)
    settings = _settings(asks_exchange=False)  # a running node has them checked; else app/operate.py checks
    if demo_runs and not _has_writer(settings.db_url):
        _remark(f"a demo runs in this folder, but this is about {masked(settings.db_url)}; add --demo to mean the demo")
    return settings


def _has_writer(db_url: str) -> bool:
    """Whether a node writes to a database. PermissionError means that another user's node does."""
    import asyncio

    from app.node.stores import store_of

    async def holder() -> str | None:
        lease = store_of(db_url).lease(db_url)
        try:
            return await lease.holder()
        finally:
            await lease.release()

    try:
        return asyncio.run(holder()) is not None
    except PermissionError:
        return True


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
        _fail(str(error))


def _demo_settings(port: int, sandbox_port: int, db_url: str) -> "Settings":
    url = f"127.0.0.1:{sandbox_port}"
    return _settings(
        {
            "binance_rest_url": f"http://{url}",
            "binance_ws_url": f"ws://{url}",
            "binance_archive_url": f"http://{url}",
            "db_url": db_url,
            "runtime_dir": dict(parse_qsl(urlsplit(db_url).query)).get("host", ""),  # ends with the demo's server
            "backfill_days": 3,
            "auto_sync_symbols": True,
            "only_final_default": False,  # answers as the exchange does, with the kline in progress
            "host": "127.0.0.1",
            "port": port,
            "workers": 1,
        }
    )


def _demo_greeting(node: str, exchange: str) -> str:
    program = _program()
    return (
        f"sandbox exchange on {exchange}, node on {node}; try, from another terminal:\n"
        f"  curl '{node}/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=500'\n"
        f"  {program} gaps --demo\n"
        f"  {program} verify --demo --symbol BTCUSDT\n"
        f"  {program} backfill --demo --symbol BTCUSDT --start {_days_ago(5)} --end {_days_ago(3)}\n"
    )


def _program() -> str:
    """The path by which this program was called, relative to the current folder if possible."""
    path = Path(sys.argv[0])
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _days_ago(days: int) -> str:
    from app.domain.interval import DAY_MS
    from infra.process.clock import SystemClock

    return _iso(SystemClock().now_ms() - days * DAY_MS).partition(" ")[0]


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


def _collect(overrides: Mapping[str, object]) -> None:
    from app import collect
    from app.node.cannot_start import CannotStart
    from app.settings import load

    try:
        collect.run(_settings(overrides), partial(load, overrides))
    except CannotStart as error:
        _fail(str(error))


@contextmanager
def _listener_process(nats_url: str) -> Iterator[None]:
    command = [sys.executable, "-P", "-m", "infra.nats.listener", nats_url]
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603  our own module; Ctrl-C is for us
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _serve(settings: "Settings") -> None:
    from app import server
    from app.node.cannot_start import CannotStart
    from app.node.stores import set_up_libraries

    set_up_libraries()
    try:
        server.run(settings)
    except CannotStart as error:
        _fail(str(error))


@contextmanager
def _sandbox_process(port: int, symbols: int) -> Iterator[None]:
    from app import listening
    from app.node.cannot_start import CannotStart

    try:
        listening.listen("127.0.0.1", port).close()
    except CannotStart:  # another program on the port would be taken for our sandbox
        _fail(f"port {port} is taken; choose another for the sandbox with --sandbox-port")
    signal.signal(signal.SIGTERM, listening.leave)  # so that `finally` below ends the sandbox, even while it starts
    # -P: the current folder may have a package named "app"
    command = [sys.executable, "-P", "-m", "app.cli", "sandbox", "--port", str(port), "--symbols", str(symbols)]
    pressed = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C stops the node first, then the sandbox
    process = subprocess.Popen(command)  # noqa: S603  our own module
    signal.signal(signal.SIGINT, pressed)
    try:
        _await_sandbox(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(SANDBOX_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_sandbox(process: subprocess.Popen[bytes], port: int) -> None:
    import httpx

    deadline_s = time.monotonic() + SANDBOX_START_S_MAX
    with httpx.Client(trust_env=False, timeout=1.0) as client:
        while time.monotonic() < deadline_s and process.poll() is None:
            try:
                client.get(f"http://127.0.0.1:{port}/fapi/v1/ping")
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
    _fail(f"the sandbox did not start on port {port}; what it said stands above")


def _target(
    settings: "Settings", symbols: list[str] | None, codes: list[str] | None, start: str | None, end: str | None
) -> "Target":
    from app.operate import Target

    return Target(
        tuple(map(_name, symbols)) if symbols else None,
        _intervals(settings, codes),
        _ms(start, "--start"),
        _ms(end, "--end"),
    )


def _name(text: str) -> str:
    from app.kinds.registry import KINDS, spelt

    name = spelt(text)
    if name is None:
        kinds = ", ".join(f"SYMBOL@{suffix}" for suffix in KINDS if suffix)
        _fail(f"--symbol {text}: no such series; besides those of symbols there are {kinds}")
    return name


def _intervals(settings: "Settings", codes: list[str] | None) -> "tuple[Interval, ...]":
    from app.domain.interval import INTERVALS

    if not codes:
        return settings.interval_list
    unknown = [code for code in codes if code not in INTERVALS]
    if unknown:
        _fail(f"unknown interval {unknown[0]}; Binance has {','.join(INTERVALS)} (1m is not 1M)")
    return tuple(interval for code, interval in INTERVALS.items() if code in codes)


def _ms(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        time_ms = int(text) if text.isascii() and text.isdigit() else _iso_ms(text)
    except (ValueError, OverflowError):  # int() refuses thousands of digits with a ValueError
        shown = text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
        _fail(f"{option} {shown} is neither ms nor ISO 8601, for example 2026-11-01T00:00:00")
    if not 0 <= time_ms <= TIME_MS_MAX:
        _fail(f"{option} must lie between 1970 and 2100; ms are counted from 1970-01-01, for example 1793491200000")
    return time_ms


def _iso_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


def _fail(message: str) -> NoReturn:
    _console(stderr=True).print(message, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    main()
