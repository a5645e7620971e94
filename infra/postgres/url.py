"""The URL of a Postgres database, and how messages name it without its password."""

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

_SCHEMES: Final = ("postgresql", "postgres")
_DEFAULT_PORT: Final = 5432


def place(url: str) -> str:
    """`klinenode at db.example:5432`: which database `url` names. Raises ValueError when it is no Postgres URL."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError("DB_URL does not begin with postgresql://")
    query = parse_qs(parts.query)
    name = unquote(parts.path.removeprefix("/")) or query.get("dbname", query.get("database", [""]))[0]
    host = query.get("host", [parts.hostname or "localhost"])[0]
    port = query.get("port", [str(parts.port or _DEFAULT_PORT)])[0]
    return f"{name or 'of the user'} at {host}:{port}"
