"""The shape of error responses: Binance's `{"code", "msg"}` under Binance's paths, `{"error"}` under the node's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ExceptionHandler

from app.binance.error_body import BinanceError, invalid_path, service_unavailable
from app.domain.reason import Reason
from app.http.headers import BINANCE, JSON, NO_STORE, REASON, Header, reason_header
from app.kinds.registry import KINDS
from app.ports.errors import StoreUnavailable
from app.querying.refusal import RETRY_AFTER_S

PATH_ECHO_MAX: Final = 256  # characters of an unknown path that the error repeats
STORE_RETRY_AFTER_S: Final = 1  # a locked or restarting database is back within a second or so
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
UNKNOWN_ERROR: Final = BinanceError(500, -1000, "An unknown error occured while processing the request.")  # sic


@dataclass(eq=False)
class ApiError(Exception):
    """An error of one of the node's own routes; `text` says what to do next."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


def unavailable(text: str, reason: Reason, retry_after_s: int | None) -> ApiError:
    """A 503 of one of the node's own routes, with X-Klinenode-Reason, and Retry-After unless no later try helps."""
    more = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return ApiError(503, text, more | {REASON.decode(): reason})


def takes_only(router: APIRouter, path: str, methods: Sequence[str]) -> None:
    """Answer other methods of a path with 405 and all of `methods` in Allow.

    Needed where a path has several routes: Starlette's own 405 names the methods of the first route only.
    """

    async def deny(request: Request) -> Response:
        raise HTTPException(405, headers={"Allow": ", ".join(methods)})

    others = sorted(_METHODS - set(methods))
    # a plain route of Starlette: FastAPI's costs 0.4 ms to make, and there are forty of these
    router.add_route(path, deny, methods=others, name=f"other {path}", include_in_schema=False)


def is_binance_path(path: str) -> bool:
    """Whether a path lies under Binance's paths, where clients expect Binance's error shape."""
    return path.startswith(("/fapi/", "/futures/")) or path in ("/fapi", "/futures")


def binance_response(error: BinanceError, *more: Header) -> Response:
    """An error in Binance's shape."""
    if error.reason is not None:
        more = (*more, reason_header(error.reason))
    if error.retry_after_s is not None:
        more = (*more, (b"retry-after", b"%d" % error.retry_after_s))
    return json_response(error.body(), error.status, NO_STORE, *BINANCE, *more)


def own_response(status: int, text: str, *more: Header) -> Response:
    """An error in the shape of the node's own routes: `{"error": "…"}`."""
    return json_response(msgspec.json.encode({"error": text}), status, NO_STORE, *more)


def json_response(body: bytes, status: int, *headers: Header) -> Response:
    """A JSON response with Content-Type, Content-Length and exactly these `headers`."""
    response = Response(body, status)
    response.raw_headers.extend((JSON, *headers))
    return response


def refusal(path: str, status: int, text: str) -> Response:
    """The response to a request that is refused before a route sees it, in the shape that its path expects."""
    if is_binance_path(path):
        return binance_response(BinanceError(status, -1000, text))
    return own_response(status, text)


def add_error_handlers(app: FastAPI) -> None:
    """Turn each exception into a response of the right shape. The server also logs unexpected ones."""
    handlers: dict[type[Exception], ExceptionHandler] = {
        BinanceError: _on_binance_error,
        ApiError: _on_api_error,
        HTTPException: _on_http_exception,
        RequestValidationError: _on_validation_error,
        StoreUnavailable: _on_store_unavailable,
        Exception: _on_exception,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _on_binance_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BinanceError)
    if is_binance_path(_path(request)):
        return binance_response(error)
    more = [] if error.reason is None else [reason_header(error.reason)]
    if error.retry_after_s is not None:
        more.append((b"retry-after", b"%d" % error.retry_after_s))
    return own_response(error.status, error.msg, *more)


async def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    more = ((name.encode().lower(), value.encode()) for name, value in error.headers.items())
    return own_response(error.status, error.text, *more)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = _path(request)[:PATH_ECHO_MAX]
    more: tuple[Header, ...] = ()
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "GET")
        if "GET" in allow and "HEAD" not in allow:
            allow += ", HEAD"  # every GET route answers HEAD too (intake.py)
        more = ((b"allow", allow.encode()),)
    if is_binance_path(path):
        stated = invalid_path(path, request.method)
        if error.status_code not in (404, 405):
            stated = BinanceError(error.status_code, -1000, str(error.detail))
        stated.status = error.status_code
        return binance_response(stated, *more)
    if error.status_code == 404:
        return own_response(404, f"There is no {path} here; /docs lists what there is.")
    if error.status_code == 405:
        return own_response(405, f"{path} does not take {request.method}; it takes {allow}.", *more)
    return own_response(error.status_code, str(error.detail))


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return own_response(400, "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors()))


async def _on_store_unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreUnavailable)
    return store_unavailable(_path(request), error)


def store_unavailable(path: str, error: StoreUnavailable) -> Response:
    """The 503 while the database cannot be read or written."""
    if is_binance_path(path):
        return binance_response(service_unavailable(STORE_RETRY_AFTER_S, error.cause))
    return own_response(503, str(error), (b"retry-after", b"%d" % STORE_RETRY_AFTER_S), reason_header(error.cause))


def too_slow(path: str) -> Response:
    """The 503 when an answer was not made in time."""
    if is_binance_path(path):
        return binance_response(service_unavailable(RETRY_AFTER_S, Reason.SLOW))
    text = f"The node had no answer in time; try again in {RETRY_AFTER_S} s. /v1/health says what is wrong."
    return own_response(503, text, (b"retry-after", b"%d" % RETRY_AFTER_S), reason_header(Reason.SLOW))


async def _on_exception(request: Request, _error: Exception) -> Response:
    if is_binance_path(_path(request)):
        return binance_response(UNKNOWN_ERROR)
    return own_response(500, "Something unforeseen went wrong; the node's log says what.")


def _path(request: Request) -> str:
    path: str = request.scope["path"]
    return path


def unlisted(text: str) -> str:
    """The error text for a name that no series has."""
    shown = text[:40]
    if "@" in text:
        names = ", ".join(f"SYMBOL@{suffix}" for suffix in KINDS if suffix)
        return f"There are no series {shown}; besides those of symbols there are {names}."
    return f"The exchange lists no {shown}; /fapi/v1/exchangeInfo has the names."
