"""Who may use the admin routes: the holder of the token, or without one a program on this machine."""

import hmac
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from fastapi import Request
from starlette.datastructures import Headers

from app.http.errors import ApiError

_PROXY_HEADERS: Final = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "cf-connecting-ip", "true-client-ip"}
)
_WAYS_IN: Final = "Set ADMIN_TOKEN and send 'Authorization: Bearer <token>', or ask from this machine directly"


@dataclass(frozen=True, slots=True)
class AdminGuard:
    """A FastAPI dependency. An empty token is none."""

    token: str | None

    def __call__(self, request: Request) -> None:
        """Let the request pass or raise ApiError."""
        if self.token:
            _check_token(request.headers, self.token.encode())
        else:
            _check_local(request)


def _check_token(headers: Headers, token: bytes) -> None:
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ApiError(
            401,
            "This needs the admin token: send 'Authorization: Bearer <ADMIN_TOKEN>'.",
            {"www-authenticate": 'Bearer realm="klinenode"'},
        )
    if not hmac.compare_digest(sent.strip().encode("latin-1"), token):
        raise ApiError(
            401,
            "The token is not the node's ADMIN_TOKEN.",
            {"www-authenticate": 'Bearer realm="klinenode", error="invalid_token"'},
        )


def _check_local(request: Request) -> None:
    headers = request.headers
    if request.client is None or not _is_loopback(request.client.host):
        raise ApiError(403, f"Without ADMIN_TOKEN only this machine may do that. {_WAYS_IN}.")
    if any(name in _PROXY_HEADERS or name.startswith("x-forwarded") for name in headers):
        raise ApiError(403, f"This came through a proxy, so who asks is unknown. {_WAYS_IN}.")
    if request.scope.get("http_version") == "1.0":  # nginx without any setting: 1.0, no header that tells of it
        raise ApiError(403, f"HTTP/1.0 comes from proxies, so who asks is unknown. {_WAYS_IN}.")
    host = headers.get("host", "")
    if not _is_loopback(_name(host)):  # a rebound DNS name points a browser here under a stranger's name
        raise ApiError(403, "The Host header must be localhost or a loopback address. " + _WAYS_IN + ".")
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise ApiError(403, f"Pages of other origins may not do that. {_WAYS_IN}.")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise ApiError(403, f"Pages of other origins may not do that. {_WAYS_IN}.")


def _name(host: str) -> str:
    """The name or address in a Host header."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
