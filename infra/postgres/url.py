"""The URL of a Postgres database, and how messages name it without its password."""

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

_SCHEMES: Final = ("postgresql", "postgres")
_DEFAULT_PORT: Final = 5432
_ENCODE: Final = "write special characters of user and password with percent signs: / is %2F, # is %23, @ is %40"


def place(url: str) -> str:
    """`klinenode at db.example:5432`: which database `url` names. Raises ValueError when it is no Postgres URL."""
    parts = urlsplit(url)
    try:
        number = parts.port or _DEFAULT_PORT
    except ValueError:  # its message may have a part of the password
        raise ValueError(f"DB_URL names no port; {_ENCODE}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("DB_URL does not begin with postgresql://")
    query = parse_qs(parts.query)
    name = unquote(parts.path.removeprefix("/")) or query.get("dbname", query.get("database", [""]))[0]
    host = query.get("host", [parts.hostname or "localhost"])[0]
    port = query.get("port", [str(number)])[0]
    return f"{name or 'of the user'} at {host}:{port}"


def database_of(db_url: str) -> tuple[str, str]:
    """The name of the database, and host and port of its server (of a socket: its folder)."""
    parts = urlsplit(db_url)
    options = parse_qs(parts.query)
    host = options.get("host", [parts.hostname or ""])[0]
    port = options.get("port", [str(parts.port or _DEFAULT_PORT)])[0]
    return unquote(parts.path[1:]), f"{host}:{port}"
