"""The node's own read-only routes under /v1: health, readiness, coverage and verification."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.domain.interval import INTERVALS
from app.domain.reason import Reason
from app.http.documentation import INTEGER, OWN_LIMITS, STRING, json_doc, object_of, own_error_doc
from app.http.errors import ApiError, json_response, unlisted
from app.http.forward import forwarded
from app.http.headers import NO_STORE, Header, reason_header
from app.http.own_params import STRICT
from app.http.page import Page, PageResponse
from app.http.params import INTEGER_MAX
from app.http.services import Services
from app.ports.errors import NotRecorded

COVERAGE_LIMIT_DEFAULT: Final = 100
COVERAGE_LIMIT_MAX: Final = 1000
COVERAGE_OFFSET_MAX: Final = 1_000_000

_REPORT: Final = object_of(total=INTEGER, offset=INTEGER, completeness=STRING, series={"type": "array"})
READY_RETRY_AFTER: Final[Header] = (b"retry-after", b"5")  # seconds; readiness can change with each minute's klines


def ops_router(services: Services) -> APIRouter:
    """The router with the routes for operators and monitoring."""
    router = APIRouter(prefix="/v1", tags=["operation"], responses=OWN_LIMITS, dependencies=[STRICT])

    @router.get(
        "/health",
        summary="Liveness: 200 while the process answers; status is ok or degraded, and why",
        responses={200: json_doc("How the node is.", object_of(status={"enum": ["ok", "degraded"]}))},
    )
    async def health() -> Response:
        return json_response(msgspec.json.encode(services.health.report()), 200, NO_STORE)

    @router.get(
        "/ready",
        summary="Readiness: 200 once the tail of every wished series is held and fresh",
        responses={
            200: json_doc("Ready.", object_of(ready={"const": True})),
            503: json_doc("Not yet; the body says what is missing.", object_of(ready={"const": False})),
        },
    )
    async def ready() -> Response:
        is_ready, report = services.health.ready()
        body = msgspec.json.encode(report)
        if is_ready:
            return json_response(body, 200, NO_STORE)
        return json_response(body, 503, NO_STORE, reason_header(Reason.NOT_READY), READY_RETRY_AFTER)

    @router.get(
        "/coverage",
        summary="The ledger: held, absent, missing, source, verified",
        responses={
            200: json_doc("A page of the ledger.", _REPORT),
            304: {"description": "The report that If-None-Match names is still true."},
            400: own_error_doc("A parameter is wrong."),
        },
    )
    async def coverage(
        request: Request,
        symbol: Annotated[
            str | None,
            Query(
                min_length=1,
                max_length=64,
                description="One symbol, or BTCUSDT@markPrice; all without it.",
            ),
        ] = None,
        interval: Annotated[
            str | None, Query(json_schema_extra={"enum": list(INTERVALS)}, description="One interval; all without it.")
        ] = None,
        offset: Annotated[int, Query(ge=0, le=COVERAGE_OFFSET_MAX, description="Series to skip.")] = 0,
        limit: Annotated[int, Query(ge=1, le=COVERAGE_LIMIT_MAX)] = COVERAGE_LIMIT_DEFAULT,
        incomplete: Annotated[bool, Query(description="Only series with something missing.")] = False,
        as_of: Annotated[
            int | None, Query(ge=0, le=INTEGER_MAX, description="The ledger as of this past time (ms), without checks.")
        ] = None,
    ) -> Response:
        name = None if symbol is None else services.query.name(symbol)
        if symbol is not None and name is None:
            raise ApiError(400, unlisted(symbol))
        if interval is not None and interval not in INTERVALS:
            raise ApiError(400, f"No such interval: {interval}. There are {', '.join(INTERVALS)}.")
        asked = None if interval is None else INTERVALS[interval]
        if as_of is not None:
            try:
                then = await services.as_of.coverage(name, asked, offset, limit, as_of, incomplete=incomplete)
            except NotRecorded as error:
                raise ApiError(400, str(error)) from error
            return json_response(msgspec.json.encode(then), 200, NO_STORE)
        report = await services.coverage.full_report(name, asked, offset, limit, incomplete=incomplete)
        return PageResponse(Page(msgspec.json.encode(report)), request.scope, max_age_s=0)

    @router.get(
        "/verification",
        summary="Comparisons with the exchange: the audits asked for, and what was found in the background",
        responses={
            200: json_doc("What was compared.", {"type": "object"}),
            503: own_error_doc("No process writes at the moment; ask again."),
        },
    )
    async def verification(request: Request) -> Response:
        if (answer := await forwarded(services.line, request)) is not None:
            return answer
        return json_response(msgspec.json.encode(services.verify.report()), 200, NO_STORE)

    return router
