"""The admin routes /v1/admin/…: what an operator may ask the node to do."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer
from starlette.responses import Response

from app.binance.unreadable import UNREADABLE
from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.domain.span import Span
from app.http.admin_guard import AdminGuard
from app.http.documentation import INTEGER, OWN_LIMITS, STRINGS, json_doc, object_of, own_error_doc
from app.http.errors import ApiError, json_response, takes_only, unavailable, unlisted
from app.http.forward import forwarded
from app.http.headers import NO_STORE
from app.http.params import TIME_MS_MAX
from app.http.services import Services, SymbolOf
from app.kinds.registry import named
from app.ports.clock import Clock
from app.ports.errors import StandDown, UpstreamError
from app.verifying.verify import TooManyAudits

BODY_BYTES_MAX: Final = 65_536  # the names of all the exchange's symbols take 15 kB
SERIES_MAX: Final = 20_000  # about 1,000 symbols in all 15 intervals
UPSTREAM_RETRY_AFTER_S: Final = 5
_BEARER: Final = HTTPBearer(auto_error=False, description="ADMIN_TOKEN, or the token beside the database.")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


_Body = TypeVar("_Body", bound="_Wish")


class _Wish(msgspec.Struct, forbid_unknown_fields=True):
    symbols: list[str]
    intervals: list[str]
    start: int | str
    end: int | str


class _Comparison(_Wish, forbid_unknown_fields=True):
    rows: bool = False


_wish_decoder: Final = msgspec.json.Decoder(_Wish)
_comparison_decoder: Final = msgspec.json.Decoder(_Comparison)
_MOMENT: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": TIME_MS_MAX},
        {"type": "string", "format": "date-time"},
    ]
}
_WISH_DOC: Final = {
    "symbols": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
    "intervals": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(INTERVALS)}},
    "start": _MOMENT | {"description": "ms or ISO 8601"},
    "end": _MOMENT | {"description": "ms or ISO 8601, not included"},
}
_ROWS_DOC: Final = {
    "rows": {"type": "boolean", "default": False, "description": "Compare every row, not the sums of whole days."}
}


def _body_doc(properties: dict[str, Any]) -> dict[str, Any]:
    """The description of a body that names series and a span."""
    schema = {
        "type": "object",
        "required": list(_WISH_DOC),
        "additionalProperties": False,
        "properties": properties,
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_BODY_DOC: Final = _body_doc(_WISH_DOC)


def admin_router(services: Services, clock: Clock, guard: AdminGuard) -> APIRouter:
    """The admin routes, each behind `guard`."""
    router = APIRouter(
        prefix="/v1/admin",
        tags=["admin"],
        dependencies=[Depends(_BEARER), Depends(guard)],
        responses={
            401: own_error_doc("The admin token is missing or wrong."),
            403: own_error_doc("Without ADMIN_TOKEN only this machine may ask, and through no proxy."),
            503: own_error_doc("The file with the token cannot be read or written."),
            **OWN_LIMITS,
        },
    )

    @router.post(
        "/symbols/refresh",
        summary="Read the exchange's symbols now",
        responses={
            200: json_doc("Done.", object_of(ok={"const": True}, added=STRINGS, removed=STRINGS)),
            503: own_error_doc("The exchange does not answer; Retry-After says when to ask again."),
        },
    )
    async def refresh(request: Request) -> Response:
        if (answer := await forwarded(services.line, request)) is not None:
            return answer
        try:
            added, removed = await services.symbols.refresh()
        except UpstreamError as error:
            raise _upstream_failed(error, clock) from error
        body = msgspec.json.encode({"ok": True, "added": list(added), "removed": list(removed)})
        return json_response(body, 200, NO_STORE)

    @router.post(
        "/backfill",
        status_code=202,
        summary="Hold a further span of some series",
        openapi_extra=_BODY_DOC,
        responses={
            202: json_doc("Taken.", object_of(ok={"const": True})),
            400: own_error_doc("The wish is not understood."),
            413: own_error_doc("The body is too large."),
        },
    )
    async def backfill(request: Request) -> Response:
        body = await body_of(request)
        if (answer := await forwarded(services.line, request, body)) is not None:
            return answer
        series, span = understood(body, services.query.name)
        await services.backfill.request(series, span)
        report = {"ok": True, "series": len(series), "start": span.start_ms, "end": span.end_ms}
        return json_response(msgspec.json.encode(report), 202, NO_STORE)

    @router.delete(
        "/backfill",
        summary="Withdraw the wish for a further span of some series; what is held stays",
        openapi_extra=_BODY_DOC,
        responses={
            200: json_doc("Done.", object_of(ok={"const": True}, withdrawn=INTEGER, remaining=INTEGER)),
            400: own_error_doc("The wish is not understood."),
            413: own_error_doc("The body is too large."),
        },
    )
    async def withdraw(request: Request) -> Response:
        body = await body_of(request)
        if (answer := await forwarded(services.line, request, body)) is not None:
            return answer
        series, span = understood(body, services.query.name)
        withdrawn, remaining = await services.backfill.withdraw(series, span)
        report = {"ok": True, "series": len(series), "withdrawn": withdrawn, "remaining": remaining}
        return json_response(msgspec.json.encode(report), 200, NO_STORE)

    @router.post(
        "/verify",
        status_code=202,
        summary="Compare a span of some series with the exchange; GET /v1/verification shows how it fares",
        description="Whole days by their sums, parts of days row by row; with `rows` everything row by row, for "
        "which 499 rows cost weight 2. GET /v1/verification names what of the span could not be compared; a check that "
        "compared nothing has failed.",
        openapi_extra=_body_doc(_WISH_DOC | _ROWS_DOC),
        responses={
            202: json_doc("Taken.", object_of(ok={"const": True}, audit=INTEGER)),
            400: own_error_doc("The wish is not understood."),
            413: own_error_doc("The body is too large."),
            429: own_error_doc("So many audits wait already."),
            503: own_error_doc("No process writes at the moment; ask again."),
        },
    )
    async def verify(request: Request) -> Response:
        body = await body_of(request)
        if (answer := await forwarded(services.line, request, body)) is not None:
            return answer
        series, span, by_rows = comparison(body, services.query.name)
        try:
            number = services.verify.request(series, span, by_rows=by_rows)
        except TooManyAudits as error:
            raise ApiError(429, f"{error}.") from error
        report = {"ok": True, "audit": number, "series": len(series), "start": span.start_ms, "end": span.end_ms}
        return json_response(msgspec.json.encode(report), 202, NO_STORE)

    routes = APIRouter()
    routes.include_router(router)
    takes_only(routes, "/v1/admin/backfill", ("POST", "DELETE"))  # outside the guard, like the 405 of other paths
    return routes


def _upstream_failed(error: UpstreamError, clock: Clock) -> ApiError:
    wait_s = UPSTREAM_RETRY_AFTER_S
    if isinstance(error, StandDown):
        wait_s = max(1, -(-(error.until_ms - clock.now_ms()) // 1000))
    text = f"The exchange gave no symbols: {error}. What is held is still served; try again in {wait_s} s."
    return unavailable(text, error.cause, wait_s)


async def body_of(request: Request) -> bytes:
    """The body of a request. Raises ApiError (413) above BODY_BYTES_MAX."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise ApiError(413, f"The body may have {BODY_BYTES_MAX} bytes; ask for fewer symbols at a time.")
    return bytes(body)


def understood(body: bytes, symbol_of: SymbolOf) -> tuple[list[Series], Span]:
    """The series and the span that a request's body names. Raises ApiError."""
    return _meant(_read(body, _wish_decoder), symbol_of)


def comparison(body: bytes, symbol_of: SymbolOf) -> tuple[list[Series], Span, bool]:
    """The series and the span that are to be compared, and whether every row is. Raises ApiError."""
    asked = _read(body, _comparison_decoder)
    return (*_meant(asked, symbol_of), asked.rows)


def _read(body: bytes, decoder: msgspec.json.Decoder[_Body]) -> _Body:
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        text = f'Not understood: {error}. Send {{"symbols": […], "intervals": […], "start": ms or ISO, "end": …}}.'
        raise ApiError(400, text) from error


def _meant(wish: _Wish, symbol_of: SymbolOf) -> tuple[list[Series], Span]:
    # dict.fromkeys: each once, in the order sent; repeated names would make the product below unbounded
    names = dict.fromkeys(_named(symbol_of, text) for text in wish.symbols)
    if unknown := [text for text in wish.intervals if text not in INTERVALS]:
        raise ApiError(400, f"No such interval: {unknown[0][:20]}. There are {', '.join(INTERVALS)}.")
    series = [named(name, INTERVALS[code]) for name in names for code in dict.fromkeys(wish.intervals)]
    if missing := [each for each in series if each.interval not in each.kind.intervals_of((each.interval,))]:
        raise ApiError(400, f"There are no {missing[0].interval} rows of {missing[0].name}.")
    if not 1 <= len(series) <= SERIES_MAX:
        raise ApiError(400, f"{len(series)} series; ask for 1 to {SERIES_MAX} (symbols × intervals) at a time.")
    span = Span(time_ms("start", wish.start), time_ms("end", wish.end))
    if not span:
        raise ApiError(400, "start must be before end.")
    return series, span


def _named(symbol_of: SymbolOf, text: str) -> str:
    name = symbol_of(text)
    if name is None:
        raise ApiError(400, unlisted(text))
    return name


def time_ms(name: str, value: int | str) -> int:
    """A time as ms or ISO 8601; without an offset it is UTC."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise ApiError(400, f"{name} is no time: send ms or ISO 8601 such as 2024-01-31T00:00:00Z.") from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        value = (moment - _EPOCH) // timedelta(milliseconds=1)
    if not 0 <= value <= TIME_MS_MAX:
        raise ApiError(400, f"{name} is out of range: send ms (13 digits) or ISO 8601 from 1970 on.")
    return value
