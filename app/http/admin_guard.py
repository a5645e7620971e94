"""Access to the admin routes: ADMIN_TOKEN from anywhere; without one, the local token file, from this machine only."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from fastapi import Request

from app.domain.reason import Reason
from app.http.errors import ApiError, unavailable
from app.http.forward import FORWARDED

_PROXY_HEADERS: Final = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "cf-connecting-ip", "true-client-ip"}
)
TOKEN_RETRY_AFTER_S: Final = 5  # the file fails on a full disk or without permission, which an operator has to fix
_REMOTE: Final = "To ask from elsewhere or through a proxy, set ADMIN_TOKEN and send it"


@dataclass(frozen=True, slots=True)
class LocalToken:
    """The token in a file that only the node's user can read; `name` is the file's name."""

    name: str
    read: Callable[[], str]
    """Reads the token, and writes the file first if there is none. Raises OSError."""
    where: str = "beside the database (DB_URL; of Postgres: in data/) or in RUNTIME_DIR"
    """The folder of the file, for people."""


@dataclass(frozen=True, slots=True)
class AdminGuard:
    """A FastAPI dependency that requires `token`, or the local token if `token` is None or empty."""

    token: str | None
    local: LocalToken

    def __call__(self, request: Request) -> None:
        """Let the request pass or raise ApiError."""
        if self.token:
            _check(
                request,
                self.token,
                missing="This needs the admin token: send 'Authorization: Bearer <ADMIN_TOKEN>'.",
                wrong="The token is not the node's ADMIN_TOKEN.",
            )
            return
        if FORWARDED not in request.scope:  # a forwarded request was checked by the process that received it
            _check_origin(request)
        file = f"{self.local.name} {self.local.where}"
        try:
            token = self.local.read()
        except OSError as error:
            text = f"The token in {file} cannot be had: {error}. Or set ADMIN_TOKEN."
            raise unavailable(text, Reason.DATABASE, TOKEN_RETRY_AFTER_S) from error
        _check(
            request,
            token,
            missing=f"This needs the token in {file}, which only the node's user can read: "
            f'send -H "Authorization: Bearer $(cat {self.local.name})". Or set ADMIN_TOKEN and send that.',
            wrong=f"The token is not the one in {file}. Or set ADMIN_TOKEN and send that.",
        )

    def admits(self, request: Request) -> bool:
        """Whether the request has the token."""
        try:
            self(request)
        except ApiError:
            return False
        return True


def _check(request: Request, token: str, *, missing: str, wrong: str) -> None:
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ApiError(401, missing, {"www-authenticate": 'Bearer realm="klinenode"'})
    if not hmac.compare_digest(sent.strip().encode("latin-1"), token.encode()):
        raise ApiError(401, wrong, {"www-authenticate": 'Bearer realm="klinenode", error="invalid_token"'})


def _check_origin(request: Request) -> None:
    """Raise ApiError unless the request comes from this machine: the local token must not travel over a network.

    This is no authentication; only the token is.
    """
    if any(name in _PROXY_HEADERS or name.startswith("x-forwarded") for name in request.headers):
        raise ApiError(403, f"This came through a proxy. {_REMOTE}.")
    server = request.scope.get("server")
    if request.client is None or not _is_here(request.client.host, server[0] if server else ""):
        raise ApiError(403, f"Without ADMIN_TOKEN only this machine may do that. {_REMOTE}.")


def _is_here(client: str, server: str) -> bool:
    """Whether the client's address is a loopback address, or the same address that the client connected to."""
    address = _address(client)
    return address is not None and (address.is_loopback or address == _address(server))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
