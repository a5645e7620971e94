"""Binance's endpoints for accounts and trading, which the node refuses as Binance refuses a wrong API key."""

import re
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.binance.error_body import key_malformed, key_refused
from app.http.documentation import BINANCE_LIMITS, error_doc
from app.http.errors import binance_response, takes_only

KEY_HEADER: Final = "x-mbx-apikey"
_KEY: Final = re.compile(r"[A-Za-z0-9]{64}")

_GET, _POST, _PUT, _DELETE = "GET", "POST", "PUT", "DELETE"
REFUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "/fapi/v1/historicalTrades": (_GET,),
    # orders
    "/fapi/v1/order": (_GET, _POST, _PUT, _DELETE),
    "/fapi/v1/order/test": (_POST,),
    "/fapi/v1/batchOrders": (_POST, _PUT, _DELETE),
    "/fapi/v1/allOpenOrders": (_DELETE,),
    "/fapi/v1/countdownCancelAll": (_POST,),
    "/fapi/v1/openOrder": (_GET,),
    "/fapi/v1/openOrders": (_GET,),
    "/fapi/v1/allOrders": (_GET,),
    "/fapi/v1/orderAmendment": (_GET,),
    "/fapi/v1/algoOrder": (_GET, _POST, _DELETE),
    "/fapi/v1/algoOpenOrders": (_DELETE,),
    "/fapi/v1/openAlgoOrders": (_GET,),
    "/fapi/v1/allAlgoOrders": (_GET,),
    "/fapi/v1/forceOrders": (_GET,),
    "/fapi/v1/userTrades": (_GET,),
    # positions
    "/fapi/v1/leverage": (_POST,),
    "/fapi/v1/marginType": (_POST,),
    "/fapi/v1/positionMargin": (_POST,),
    "/fapi/v1/positionMargin/history": (_GET,),
    "/fapi/v1/positionSide/dual": (_GET, _POST),
    "/fapi/v1/multiAssetsMargin": (_GET, _POST),
    "/fapi/v2/positionRisk": (_GET,),
    "/fapi/v3/positionRisk": (_GET,),
    "/fapi/v1/adlQuantile": (_GET,),
    # accounts
    "/fapi/v2/account": (_GET,),
    "/fapi/v3/account": (_GET,),
    "/fapi/v2/balance": (_GET,),
    "/fapi/v3/balance": (_GET,),
    "/fapi/v1/accountConfig": (_GET,),
    "/fapi/v1/symbolConfig": (_GET,),
    "/fapi/v1/commissionRate": (_GET,),
    "/fapi/v1/leverageBracket": (_GET,),
    "/fapi/v1/rateLimit/order": (_GET,),
    "/fapi/v1/apiTradingStatus": (_GET,),
    "/fapi/v1/feeBurn": (_GET, _POST),
    "/fapi/v1/income": (_GET,),
    "/fapi/v1/income/asyn": (_GET,),
    "/fapi/v1/order/asyn": (_GET,),
    "/fapi/v1/trade/asyn": (_GET,),
    "/fapi/v1/listenKey": (_POST, _PUT, _DELETE),
}


def refused_router() -> APIRouter:
    """The router with every refused route."""
    router = APIRouter(tags=["refused"], responses=BINANCE_LIMITS)

    async def refuse(request: Request) -> Response:
        is_key = _KEY.fullmatch(request.headers.get(KEY_HEADER, "")) is not None
        return binance_response(key_refused() if is_key else key_malformed())

    for path, methods in REFUSED.items():
        for method in methods:
            router.add_api_route(
                path,
                refuse,
                methods=[method],
                name=f"{method} {path}",
                operation_id=f"refused {method} {path}",
                summary="Refused: this node reads the market and has no account",
                status_code=401,
                responses={401: error_doc("-2014 without a key, -2015 with one: no key has rights here.")},
            )
        takes_only(router, path, methods)
    return router
