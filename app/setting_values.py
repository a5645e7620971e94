"""How the texts of settings are read: each function returns the value, or raises ValueError with what to write."""

import json
import re
from collections.abc import Collection
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from app.domain import letters
from app.outbound import is_host

MASK: Final = "********"
DB_URL_EXAMPLES: Final = (
    "sqlite:///./data/klinenode.db (relative) or sqlite:////var/lib/klinenode/klinenode.db (absolute)"
)
_SYMBOL: Final = re.compile(r"\w[\w.-]{0,63}")  # as app/binance/exchange_info.py
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_COMMENT: Final = re.compile(r"\s#")
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
    if scheme.lower() != "sqlite":
        raise ValueError(
            f"DB_URL begins with {scheme:.40}: this build stores in SQLite only; write it as {DB_URL_EXAMPLES}"
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
    """A DB_URL that names a file."""
    database_path(value)
    return value


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
