"""What is known of a Postgres database without asking its server: the driver, and the names in the URL."""

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from app.ports.store import StoreLibrary

_PORT: Final = 5432


def postgres_driver() -> StoreLibrary:
    """The library by which the database is accessed."""
    return StoreLibrary("asyncpg", asyncpg.__version__, None)


def database_of(db_url: str) -> tuple[str, str]:
    """The name of the database, and host and port of its server (of a socket: its folder)."""
    parts = urlsplit(db_url)
    options = parse_qs(parts.query)
    host = options.get("host", [parts.hostname or ""])[0]
    port = options.get("port", [str(parts.port or _PORT)])[0]
    return unquote(parts.path[1:]), f"{host}:{port}"
