"""How an upstream connection leaves this machine: its proxy and the certificates it trusts."""

import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_UPSTREAM_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_MASK: Final = "********"
_SOCKS_TEXT_BYTES_MAX: Final = 255  # user and password each: their length is one byte of the SOCKS request
_NATS_SERVERS: Final = re.compile(r",(?=(?:nats|tls)://)")
"""Between the servers of a cluster; a comma that no scheme follows may stand in a password."""
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOW: Final = (
    "give scheme, host and port only, for example http://proxy.example:3128 or socks5://127.0.0.1:1080; "
    "write @ : / # ? of user and password percent-encoded (%40 %3A %2F %23 %3F)"
)
_CONTROL: Final = re.compile(r"[\s\x00-\x1f\x7f]")
_NO_NAME: Final = re.compile(r"^$|[\s\x00-\x1f\x7f!-,/:-@\[-^`{-~]")  # all ASCII but letters, digits and . - _


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP (CONNECT) or SOCKS5 proxy; its `repr` leaves the credentials out."""

    scheme: str
    host: str
    port: int
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def is_socks(self) -> bool:
        """Whether the proxy speaks SOCKS5. The proxy always resolves names (socks5 and socks5h alike)."""
        return self.scheme.startswith("socks")

    @property
    def address(self) -> str:
        """The URL without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password; None if both are empty."""
        return (self.username, self.password) if self.username or self.password else None


@dataclass(frozen=True, slots=True)
class Egress:
    """The way to one upstream address. Without `ca_file` and `ca_dir`, system and bundled certificates are trusted."""

    proxy: Proxy | None = None
    ca_file: str | None = None
    ca_dir: str | None = None


DIRECT: Final = Egress()


@dataclass(frozen=True, slots=True)
class Destination:
    """An upstream address and the way to it."""

    url: str
    egress: Egress = DIRECT


def proxy_of(text: str) -> Proxy:
    """Parse a proxy variable; a value without a scheme means an HTTP proxy. Raises ValueError.

    The text may contain a password, so no message quotes it.
    """
    try:
        parts = urlsplit(text if _SCHEME.match(text) else f"http://{text}")
        port = parts.port
    except ValueError:  # its message might quote the password
        raise ValueError(_HOW) from None
    if parts.scheme not in _PORTS:
        raise ValueError(
            f"a proxy of {parts.scheme}:// cannot be used; give http://, https:// or socks5:// and host and port"
        )
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    is_plain = port != 0 and not parts.path.strip("/") and not parts.query and not parts.fragment
    if not is_plain or _CONTROL.search(text) or not parts.hostname or not is_host(parts.hostname):
        raise ValueError(_HOW)
    if _MASK in (username, password):
        raise ValueError("the credentials are masked, as `klinenode config` prints them; give the real ones")
    if any(len(each.encode()) > _SOCKS_TEXT_BYTES_MAX for each in (username, password)):
        raise ValueError(f"user and password may have {_SOCKS_TEXT_BYTES_MAX} bytes each")
    return Proxy(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], username, password)


def masked(text: str) -> str:
    """A URL, or a proxy without a scheme, with its credentials masked; unchanged if it has none. Of NATS, several."""
    if len(servers := _NATS_SERVERS.split(text)) > 1:
        return ",".join(map(masked, servers))
    start = found.end() if (found := _SCHEME.match(text)) else 0
    if start and text.startswith("/", start):
        return text  # a file, or the database of a server's socket: there is no user before the first slash
    _, at, rest = text[start:].rpartition("@")
    return f"{text[:start]}{_MASK}@{rest}" if at else text


def url_of(proxy: Proxy) -> str:
    """The URL with its credentials, percent-encoded; for connecting only, never for logs."""
    if (credentials := proxy.credentials) is None:
        return proxy.address
    scheme, _, rest = proxy.address.partition("://")
    return f"{scheme}://{':'.join(quote(each, safe='') for each in credentials)}@{rest}"


def is_host(text: str) -> bool:
    """Whether `text` is an IP address or a valid host name."""
    try:
        ip_address(text)
    except ValueError:
        try:
            text.encode("idna")  # as the resolver does; it refuses empty and overlong labels
        except UnicodeError:
            return False
        return not _NO_NAME.search(text)
    return True


def is_loopback(host: str) -> bool:
    """Whether a name or address is a loopback one; such an upstream is never reached through a proxy."""
    try:
        address = ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


def is_exempt(no_proxy: str, url: str) -> bool:
    """Whether NO_PROXY names the upstream at `url`: its name, a domain above it, its address or network, or `*`."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _UPSTREAM_PORTS.get(parts.scheme)
    return any(_matches(entry, host) and wanted in (None, port) for entry, wanted in _entries(no_proxy))


def certificate_faults(egress: Egress) -> list[str]:
    """Error messages for SSL_CERT_FILE and SSL_CERT_DIR if they cannot be used; empty if they can."""
    faults = []
    if egress.ca_file is not None:
        try:
            ssl.create_default_context(cafile=egress.ca_file)
        except OSError as error:  # ssl.SSLError too
            reason = "it has no certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            faults.append(
                f"SSL_CERT_FILE: {egress.ca_file} cannot be used: {reason}; name a file of certificates, or unset it"
            )
    faults.extend(
        f"SSL_CERT_DIR: {folder} is no folder; name one prepared by `openssl rehash`, or unset it"
        for folder in (egress.ca_dir or "").split(os.pathsep)
        if folder and not Path(folder).is_dir()
    )
    return faults


def _entries(no_proxy: str) -> Iterator[tuple[str, int | None]]:
    """The entries of NO_PROXY, separated by commas or blanks, with the port that each is limited to or None."""
    for text in no_proxy.replace(",", " ").lower().split():
        entry = text.partition("://")[2].rstrip("/") if "://" in text else text
        name, colon, port = entry.rpartition(":")
        is_port = bool(colon) and port.isascii() and port.isdigit() and len(port) <= 5
        if is_port and (":" not in name or name.endswith("]")):  # a bare IPv6 address contains colons
            yield name.strip("[]"), int(port)
        else:
            yield entry.strip("[]"), None


def _matches(entry: str, host: str) -> bool:
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:  # `host` or `entry` is a name
        domain = entry.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
