"""How the texts of settings are read: each function returns the value, or raises ValueError with what to write."""

import json
import re
from collections.abc import Collection
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from app.domain import letters
from app.outbound import is_host

MASK: Final = "********"
DB_URL_EXAMPLES: Final = (
    "sqlite:///./data/klinenode.db (relative), sqlite:////var/lib/klinenode/klinenode.db (absolute) or "
    "postgresql://user:password@host:5432/klinenode"
)
SERVER_SCHEMES: Final = frozenset({"postgresql", "postgres"})
"""How the URL of a database begins that a Postgres server keeps."""
_SERVER_OPTIONS: Final = frozenset({"host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl"})
_SYMBOL: Final = re.compile(r"\w[\w.-]{0,63}")  # as app/binance/exchange_info.py
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_COMMENT: Final = re.compile(r"\s#")
_SERVER_EXAMPLE: Final = "postgresql://user:password@host:5432/klinenode"
_CACHE_SCHEMES: Final = frozenset({"redis", "rediss"})
_CACHE_DATABASE: Final = re.compile(r"/?|/[0-9]{1,5}")
_CACHE_EXAMPLE: Final = "redis://user:password@host:6379/0"
_NATS_SCHEMES: Final = frozenset({"nats", "tls"})
NATS_SERVERS_MAX: Final = 16
"""More than a cluster has; each is tried for five seconds while none answers."""
_NATS_EXAMPLE: Final = "nats://user:password@host:4222"
_NAMED_MAX: Final = 5  # wrong items that a message repeats
_QUOTED_MAX: Final = 80  # characters of each
_NO_NAMES: Final = frozenset({"NULL", "NONE"})  # what other programs print for "nothing"


def items(value: object) -> tuple[str, ...]:
    """A list written as CSV or JSON; empty entries are left out."""
    if isinstance(value, str):
        value = _from_json(value.strip()) if value.strip().startswith("[") else value.split(",")
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise ValueError('give a list of names, as CSV (BTCUSDT,ETHUSDT) or JSON (["BTCUSDT","ETHUSDT"])')
    return tuple(text for each in value if (text := each.strip()))


def symbols(value: tuple[str, ...]) -> tuple[str, ...]:
    """Names of symbols or assets, in upper case, each once."""
    if wrong := [each for each in value if not _SYMBOL.fullmatch(each) or letters.upper(each) in _NO_NAMES]:
        raise ValueError(
            f"{_quoted(wrong)}: not a name as exchangeInfo has them. Part names by commas, for example "
            "BTCUSDT,ETHUSDT; a comment needs a line of its own (systemd and docker keep it in the value)"
        )
    return tuple(dict.fromkeys(letters.upper(each) for each in value))


def choices(value: tuple[str, ...], known: Collection[str], what: str) -> tuple[str, ...]:
    """Items that all are among `known`, in its order."""
    if wrong := [each for each in value if each not in known]:
        raise ValueError(f"{_quoted(wrong)}: unknown {what}; there are {','.join(known)}")
    return tuple(each for each in known if each in value)


def plain_url(value: str, schemes: Collection[str], example: str) -> str:
    """An address of scheme, host and port, without a slash at its end."""
    try:
        parts = urlsplit(value)
        is_plain = parts.port != 0 and not parts.path.strip("/") and not parts.query and not parts.fragment
    except ValueError:  # the port is no port, or the brackets do not close
        is_plain = False
    if not is_plain or parts.scheme not in schemes or not is_host(parts.hostname or ""):
        raise ValueError(f"give scheme, host and port only, for example {example}")
    return value.rstrip("/")


def database_path(url: str) -> Path:
    """The file that a DB_URL names, relative as it may be; percent-encoded characters are decoded."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"DB_URL is no URL; write it as {DB_URL_EXAMPLES}")
    if scheme != "sqlite":
        raise ValueError(
            f"DB_URL begins with {scheme:.40}: klinenode stores in SQLite or Postgres; write it as {DB_URL_EXAMPLES}"
        )
    host, slash, encoded = rest.partition("/")
    text = unquote(encoded)
    if host or not slash or "?" in encoded or text in ("", ":memory:") or not Path(text).name:
        raise ValueError(f"DB_URL must name a file and nothing else: {DB_URL_EXAMPLES}")
    if text.endswith("/") or Path(text).name == "..":
        raise ValueError(f"DB_URL names a folder; add the name of a file: {DB_URL_EXAMPLES}")
    if text.startswith("~"):
        raise ValueError("DB_URL begins with ~, which only a shell replaces; write the folder out")
    if _CONTROL.search(text) or _COMMENT.search(text):
        raise ValueError("DB_URL has a comment or a control character in it; a comment needs a line of its own")
    return Path(text)


def database_url(value: str) -> str:
    """A DB_URL that names a file, or a database of a Postgres server."""
    if letters.lower(value.partition(":")[0]) in SERVER_SCHEMES:
        return server_url(value)
    scheme, colon, rest = value.partition(":")
    value = letters.lower(scheme) + colon + rest
    database_path(value)
    return value


def server_url(value: str) -> str:
    """The URL of a database of a Postgres server. The text may contain a password, so no message quotes it."""
    scheme, colon, rest = value.strip().partition(":")
    value = letters.lower(scheme) + colon + rest
    if letters.lower(scheme) not in SERVER_SCHEMES or not rest.startswith("//"):
        raise ValueError(f"write it as {_SERVER_EXAMPLE}")
    try:
        parts = urlsplit(value)
        is_sound = parts.port != 0 and not parts.fragment and not _CONTROL.search(value) and " " not in value
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:  # its message might quote the password
        is_sound = False
    if not is_sound:
        raise ValueError(
            f"write it as {_SERVER_EXAMPLE}, with @ : / # ? of user and password percent-encoded (%40 %3A %2F %23 %3F)"
        )
    if MASK in (parts.username, parts.password):
        raise ValueError("the password is masked, as `klinenode config` prints it; give the real one")
    if unknown := sorted(options.keys() - _SERVER_OPTIONS):
        raise ValueError(
            f"has {unknown[0]:.40} behind the ?, where only {', '.join(sorted(_SERVER_OPTIONS))} may stand; user and "
            "password stand before the @"
        )
    if not (parts.hostname or options.get("host")):
        raise ValueError(
            f"names no server: write it as {_SERVER_EXAMPLE}; for a socket …/klinenode?host=/run/postgresql"
        )
    if not unquote(parts.path).strip("/") or "/" in parts.path[1:]:
        raise ValueError(f"must name one database: write it as {_SERVER_EXAMPLE}")
    return value


def cache_url(value: str) -> str:
    """The URL of a Redis server. The text may contain a password, so no message quotes it."""
    scheme, colon, rest = value.strip().partition(":")
    value = letters.lower(scheme) + colon + rest
    try:
        parts = urlsplit(value)
        is_sound = parts.port != 0 and not parts.query and not parts.fragment
        is_sound = is_sound and not _CONTROL.search(value) and " " not in value and is_host(parts.hostname or "")
    except ValueError:  # its message might quote the password
        is_sound = False
    if not is_sound or parts.scheme not in _CACHE_SCHEMES or not _CACHE_DATABASE.fullmatch(parts.path):
        raise ValueError(
            f"name one server: write it as {_CACHE_EXAMPLE}, or rediss:// for TLS, with @ : / # ? of user and password "
            "percent-encoded (%40 %3A %2F %23 %3F)"
        )
    if MASK in (parts.username, parts.password):
        raise ValueError("the password is masked, as `klinenode config` prints it; give the real one")
    return value


def nats_urls(value: str) -> str:
    """The URLs of the servers of a cluster, separated by commas. They may contain passwords: no message quotes them."""
    urls = list(dict.fromkeys(_nats_url(each) for each in value.split(",")))
    if len(urls) > NATS_SERVERS_MAX:
        raise ValueError(f"name {NATS_SERVERS_MAX} servers at most; a server tells the others of its cluster")
    return ",".join(urls)


def _nats_url(value: str) -> str:
    scheme, colon, rest = value.strip().partition(":")
    value = letters.lower(scheme) + colon + rest
    try:
        parts = urlsplit(value)
        is_sound = parts.port != 0 and not parts.query and not parts.fragment and parts.path in ("", "/")
        is_sound = is_sound and not _CONTROL.search(value) and " " not in value and is_host(parts.hostname or "")
    except ValueError:  # its message might quote the password
        is_sound = False
    if not is_sound or parts.scheme not in _NATS_SCHEMES:
        raise ValueError(
            f"write it as {_NATS_EXAMPLE}, or tls:// for TLS, with @ : / # ? of user and password percent-encoded "
            "(%40 %3A %2F %23 %3F); several servers of a cluster are separated by commas"
        )
    if MASK in (parts.username, parts.password):
        raise ValueError("the password is masked, as `klinenode config` prints it; give the real one")
    return value.rstrip("/")


def folder(value: str) -> str:
    """The path of a folder, which need not exist."""
    text = value.strip()
    if not text:
        raise ValueError("name a folder")
    if text.startswith("~"):
        raise ValueError("begins with ~, which only a shell replaces; write the folder out")
    if _CONTROL.search(text) or _COMMENT.search(text):
        raise ValueError("has a comment or a control character in it; a comment needs a line of its own")
    return text


def own_address(host: str) -> str:
    """The address at which a program on this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound


def local_url(host: str, port: int) -> str:
    """The URL at which a program on this machine reaches a server that listens on `host`."""
    host = own_address(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_server(url: str) -> bool:
    """Whether a DB_URL that was checked names a database of a server."""
    return url.partition(":")[0] in SERVER_SCHEMES


def host(value: str) -> str:
    """An address or a name to listen on; an IPv6 address may stand in brackets."""
    text = value.strip()
    if text.startswith("[") and text.endswith("]") and ":" in text:
        text = text[1:-1]
    address, zone, name = text.partition("%")
    if not is_host(address) or (zone and not (_is_ipv6(address) and re.fullmatch(r"[\w.-]+", name))):
        raise ValueError(
            f"{_quoted([value])}: give an address or a name and nothing else: 127.0.0.1 (this machine alone), 0.0.0.0 "
            "(every address it has), ::1; the port goes into PORT"
        )
    return text


def token(value: str | None) -> str | None:
    """A token that a header can carry; blanks around it cannot be sent, so they do not belong to it."""
    text = (value or "").strip()
    if not text:
        return None
    if text == MASK:
        raise ValueError("this is the mask that `klinenode config` prints; give the token itself")
    if _CONTROL.search(text):
        raise ValueError("a header cannot carry control characters; choose a token without them")
    return text


def _from_json(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError('begins with [ and is no JSON; write ["BTCUSDT","ETHUSDT"] or BTCUSDT,ETHUSDT') from None
    return found


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _quoted(wrong: Collection[str]) -> str:
    named = ", ".join(repr(each[:_QUOTED_MAX]) for each in list(wrong)[:_NAMED_MAX])
    return named if len(wrong) <= _NAMED_MAX else f"{named} and {len(wrong) - _NAMED_MAX} more"
