"""Answers of a node with API keys: refusals in the shape of the path, and answers that no shared cache keeps."""

from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from app.access.api_keys import caller_of
from app.access.key_gate import KeyGate
from app.binance.error_body import BinanceError
from app.http.admin_guard import AdminGuard
from app.http.errors import binance_response, is_binance_path, own_response
from app.http.forward import FORWARDED
from app.http.headers import Header

_OWN_PATHS: Final = ("/v1/", "/api/v1/")
_HELP: Final = "send a key of this node as X-MBX-APIKEY, or as 'Authorization: Bearer <key>'"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask a node with API keys: who has a key, and on its own paths the operator, who has the admin token."""

    gate: KeyGate
    admin: AdminGuard

    def refusal(self, scope: Scope) -> Response | None:
        """The response that refuses an ASGI request; None if it is admitted, and counted.

        What another process has forwarded was checked there.
        """
        path = scope["path"]
        if FORWARDED in scope or self.gate.is_open(path) or (path.startswith(_OWN_PATHS) and self._is_operator(scope)):
            return None
        denial = self.gate.admit(caller_of(scope["headers"]))
        return None if denial is None else denied(path, denial)

    def _is_operator(self, scope: Scope) -> bool:
        return any(name == b"authorization" for name, _ in scope["headers"]) and self.admin.admits(Request(scope))


def denied(path: str, error: BinanceError) -> Response:
    """The response to a request that a KeyGate refuses with `error`."""
    if is_binance_path(path):
        return binance_response(error)
    if error.retry_after_s is not None:
        return own_response(error.status, error.msg, (b"retry-after", b"%d" % error.retry_after_s))
    text = "This needs an API key" if error.code == -2014 else "No such API key is known here"
    return own_response(error.status, f"{text}: {_HELP}.", (b"www-authenticate", b'Bearer realm="klinenode"'))


def privately(send: Send) -> Send:
    """A `send` that forbids shared caches to keep an answer: they would give it to callers without a key."""

    async def send_privately(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [as_private(header) for header in message["headers"]]}
        await send(message)

    return send_privately


def as_private(header: Header) -> Header:
    """A Cache-Control header with `private` in the place of `public`; any other header as it is."""
    return _private(header) if header[0] == b"cache-control" else header


def _private(header: Header) -> Header:
    name, value = header
    return name, value.replace(b"public", b"private", 1)
