"""The command line: serve, demo, sandbox, backfill, gaps, verify, config."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Final, NoReturn

import httpx
import typer
from rich.console import Console
from rich.table import Table

from app import operate, operate_verify, server
from app.domain import letters
from app.domain.interval import INTERVALS, Interval
from app.prepare import CannotStart
from app.settings import Settings, SettingsError, load, sample
from infra.memory import stop_sqlite_counting

SANDBOX_PORT: Final = 8900
SANDBOX_START_S_MAX: Final = 20.0
SANDBOX_STOP_S_MAX: Final = 4.0

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
_out = Console()
_err = Console(stderr=True)

Symbols = Annotated[list[str] | None, typer.Option("--symbol", help="Repeatable; default: every wished symbol.")]
Intervals = Annotated[list[str] | None, typer.Option("--interval", help="Repeatable; default: every wished one.")]
Start = Annotated[str | None, typer.Option(help="ISO 8601 (UTC unless it says otherwise) or ms.")]
End = Annotated[str | None, typer.Option(help="ISO 8601 or ms; default: now.")]


def main() -> None:
    """Run the command line; a settings error ends it with status 2 and the faults, all at once."""
    stop_sqlite_counting()
    app()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None,
) -> None:
    """Start the node."""
    overrides = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    _serve(_settings(**overrides))


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Where the node answers.")] = 8000,
    sandbox_port: Annotated[int, typer.Option(help="Where the sandbox answers.")] = SANDBOX_PORT,
    symbols: Annotated[int, typer.Option(help="How many symbols the sandbox lists.")] = 50,
) -> None:
    """Start a sandbox exchange and a node that follows it; both on loopback, no network needed."""
    url = f"127.0.0.1:{sandbox_port}"
    settings = _settings(
        binance_rest_url=f"http://{url}",
        binance_ws_url=f"ws://{url}",
        binance_archive_url=f"http://{url}",
        db_url="sqlite:///./data/demo/klinenode.db",
        backfill_days=3,
        auto_sync_symbols=True,
        only_final_default=False,  # clients find what they find at the exchange
        host="127.0.0.1",
        port=port,
        workers=1,
    )
    with _sandbox_process(sandbox_port, symbols):
        _out.print(f"sandbox exchange on http://{url}, node on http://127.0.0.1:{port}; try, from another terminal:")
        _out.print(
            f"  curl 'http://127.0.0.1:{port}/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=500'", soft_wrap=True
        )
        _serve(settings)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="REST, archive and sockets.")] = SANDBOX_PORT,
    seed: Annotated[int, typer.Option(help="Which market.")] = 1,
    symbols: Annotated[int, typer.Option(help="How many USDT perpetuals.")] = 50,
    weight_limit: Annotated[int, typer.Option(help="REST weight a minute.")] = 2400,
) -> None:
    """Run a seeded Binance on loopback: REST, archive, sockets, and faults through POST /sandbox/faults."""
    from infra.sandbox.server import run

    run(port, seed, symbols, weight_limit)


@app.command()
def backfill(symbol: Symbols = None, interval: Intervals = None, start: Start = None, end: End = None) -> None:
    """Fill a span, beside a running node or by itself; Ctrl-C is safe, the next call goes on where this one stopped."""
    settings = _settings()
    target = _target(settings, symbol, interval, start, end)
    try:
        asyncio.run(operate.backfill(settings, target, _out))
    except KeyboardInterrupt:
        _err.print("stopped; what was fetched is kept, the same command goes on from here")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        _fail(str(error))


@app.command()
def gaps(symbol: Symbols = None, interval: Intervals = None, start: Start = None, end: End = None) -> None:
    """List the spans that are wished and not held, straight from the database."""
    settings = _settings()
    target = _target(settings, symbol, interval, start, end)
    try:
        found = asyncio.run(operate.gaps(settings, target))
    except operate.OperateError as error:
        _fail(str(error))
    table = Table("symbol", "interval", "missing from", "to (exclusive)", "klines", title="gaps")
    for gap in found:
        for span in gap.missing:
            table.add_row(
                gap.series.symbol,
                gap.series.interval.code,
                _iso(span.start_ms),
                _iso(span.end_ms),
                str(gap.grid.count(*span)),
            )
    if table.row_count:
        _out.print(table)
        raise typer.Exit(1)
    _out.print("no gaps: everything that is wished is held or proven absent")


@app.command()
def verify(symbol: Symbols = None, interval: Intervals = None, start: Start = None, end: End = None) -> None:
    """Compare what is held with the exchange's own klines and mend what differs; status 1 when something did."""
    settings = _settings()
    target = _target(settings, symbol, interval, start, end)
    try:
        audit = asyncio.run(operate_verify.verify(settings, target, _out))
    except KeyboardInterrupt:
        _err.print("stopped; a running node goes on by itself, otherwise the same command begins anew")
        raise typer.Exit(130) from None
    except operate.OperateError as error:
        _fail(str(error))
    table = Table("compared", "differed", "rows replaced", "exchange contradicts itself", title="verification")
    table.add_row(*(str(audit[name]) for name in ("compared", "mismatched", "rows_replaced", "disagreements")))
    _out.print(table)
    for finding in audit["findings"]:
        _out.print(f"  {finding}", markup=False, highlight=False)
    if audit["state"] == "failed":
        _fail(f"not everything could be compared: {audit['error']}")
    if audit["mismatched"]:
        raise typer.Exit(1)


@app.command()
def config(
    *, sample_file: Annotated[bool, typer.Option("--sample", help="Print .env.sample instead.")] = False
) -> None:
    """Print the settings in force, secrets masked."""
    if sample_file:
        sys.stdout.write(sample())
        return
    for name, value in _settings().effective().items():
        sys.stdout.write(f"{name}={value}\n")


# --- what the commands share --------------------------------------------------------------------------------------


def _settings(**overrides: object) -> Settings:
    try:
        return load(overrides)
    except SettingsError as error:
        _fail(str(error))


def _serve(settings: Settings) -> None:
    try:
        server.run(settings)
    except CannotStart as error:
        _fail(str(error))


@contextmanager
def _sandbox_process(port: int, symbols: int) -> Iterator[None]:
    try:
        server.listen("127.0.0.1", port).close()
    except CannotStart:  # whoever answers there would be taken for our sandbox
        _fail(f"port {port} is taken; choose another for the sandbox with --sandbox-port")
    signal.signal(signal.SIGTERM, server.leave)  # so that the sandbox ends too, even while it starts
    # -P: the folder this is called from may have an "app" of its own
    command = [sys.executable, "-P", "-m", "app.cli", "sandbox", "--port", str(port), "--symbols", str(symbols)]
    process = subprocess.Popen(command)  # noqa: S603  our own module
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
    settings: Settings, symbols: list[str] | None, codes: list[str] | None, start: str | None, end: str | None
) -> operate.Target:
    return operate.Target(
        tuple(letters.upper(name) for name in symbols) if symbols else None,
        _intervals(settings, codes),
        _ms(start, "--start"),
        _ms(end, "--end"),
    )


def _intervals(settings: Settings, codes: list[str] | None) -> tuple[Interval, ...]:
    if not codes:
        return settings.interval_list
    unknown = [code for code in codes if code not in INTERVALS]
    if unknown:
        _fail(f"unknown interval {unknown[0]}; Binance has {','.join(INTERVALS)} (1m is not 1M)")
    return tuple(interval for code, interval in INTERVALS.items() if code in codes)


def _ms(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        _fail(f"{option} {text} is neither ms nor ISO 8601, for example 2026-11-01T00:00:00")
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _fail(message: str) -> NoReturn:
    _err.print(message, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    main()
