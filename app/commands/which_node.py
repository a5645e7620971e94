"""Which node a command is about: the one of the settings, or the demo of this folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from app.commands.output import fail, program, remark

if TYPE_CHECKING:
    from app.settings import Settings

SANDBOX_PORT: Final = 8900
DEMO_DB_URL: Final = "sqlite:///./data/demo/klinenode.db"
DEMO_SERVER: Final = Path("data/demo/postgres-url")
"""While a demo runs on Postgres: the URL of its database, for the commands with --demo."""


def settings_in_force(overrides: Mapping[str, object] | None = None, *, asks_exchange: bool = True) -> "Settings":
    """The settings of environment and .env; end with status 2 and all faults if they cannot be used."""
    from app.settings import SettingsError, load

    try:
        return load(overrides, asks_exchange=asks_exchange, remark=remark)
    except SettingsError as error:
        fail(str(error))


def settings_of(*, is_demo: bool, needs_node: bool = True) -> "Settings":
    """The settings of the node that a command works for: the configured one, or the demo's."""
    from app.node.stores import set_up_libraries
    from app.outbound import masked

    set_up_libraries()
    demo_db_url = DEMO_SERVER.read_text() if DEMO_SERVER.exists() else DEMO_DB_URL
    demo_runs = _has_writer(demo_db_url)
    if is_demo:
        if needs_node and not demo_runs:
            fail(f"no demo runs in this folder; start it in another terminal: {program()} demo")
        return demo_settings(8000, SANDBOX_PORT, demo_db_url)
    settings = settings_in_force(asks_exchange=False)  # a running node has them checked; else app/operate.py checks
    if demo_runs and not _has_writer(settings.db_url):
        remark(f"a demo runs in this folder, but this is about {masked(settings.db_url)}; add --demo to mean the demo")
    return settings


def demo_settings(port: int, sandbox_port: int, db_url: str) -> "Settings":
    """The settings of the node that `klinenode demo` runs."""
    url = f"127.0.0.1:{sandbox_port}"
    return settings_in_force(
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
