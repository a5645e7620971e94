"""The routes GET /fapi/v1/ping, time and exchangeInfo, which Binance's clients call when they start."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.binance.error_body import service_unavailable
from app.domain.reason import Reason
from app.http.documentation import BINANCE_LIMITS, INTEGER, STRING, error_doc, json_doc, object_of
from app.http.errors import json_response
from app.http.headers import BINANCE, NO_STORE
from app.http.page import Page, PageResponse
from app.http.params import refuse_as_of
from app.http.services import Symbols
from app.ports.clock import Clock

NEVER_SYNCED_RETRY_AFTER_S: Final = 5  # the first symbol sync takes a second or two once the exchange is reachable
EXCHANGE_INFO_MAX_AGE_S: Final = 60  # listings are announced days ahead, and the exchange caches its own list longer

_SYMBOLS: Final = {"type": "array", "items": object_of(symbol=STRING)}


class _LatestPage:
    """The rendered page of the newest body; a new page is made only when the body changes."""

    def __init__(self) -> None:
        self._body: bytes | None = None
        self._page = Page(b"")

    def of(self, body: bytes) -> Page:
        if body is not self._body:
            self._body = body
            self._page = Page(body)
        return self._page


def market_router(symbols: Symbols, clock: Clock, exchange_info_max_age_s: int = EXCHANGE_INFO_MAX_AGE_S) -> APIRouter:
    """The router with ping, time and exchangeInfo, which others may cache for `exchange_info_max_age_s`."""
    router = APIRouter(prefix="/fapi/v1", tags=["market data"], responses=BINANCE_LIMITS)
    latest = _LatestPage()

    @router.get(
        "/ping",
        summary="Test connectivity",
        responses={200: json_doc("Always {}.", {"type": "object", "maxProperties": 0})},
    )
    async def ping() -> Response:
        return json_response(b"{}", 200, NO_STORE, *BINANCE)

    @router.get(
        "/time", summary="The exchange's clock in ms", responses={200: json_doc("Now.", object_of(serverTime=INTEGER))}
    )
    async def time() -> Response:
        return json_response(b'{"serverTime":%d}' % clock.now_ms(), 200, NO_STORE, *BINANCE)

    @router.get(
        "/exchangeInfo",
        summary="What the exchange lists, as it said last",
        responses={
            200: json_doc("Byte for byte the exchange's.", object_of(symbols=_SYMBOLS)),
            304: {"description": "The list that If-None-Match names is still true."},
            503: error_doc("The exchange was never reached; Retry-After says when to ask again."),
        },
    )
    async def exchange_info(request: Request) -> Response:
        refuse_as_of(request.scope["query_string"])
        body = symbols.exchange_info()
        if body is None:
            raise service_unavailable(NEVER_SYNCED_RETRY_AFTER_S, Reason.NOT_SYNCED)
        return PageResponse(latest.of(body), request.scope, exchange_info_max_age_s)

    return router
