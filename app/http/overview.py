"""The routes /v1/overview and /v1/coverage/days: what the dashboard shows, each in one answer."""

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.domain.interval import INTERVALS, M1, Interval
from app.domain.kind import Kind
from app.holding import coverage_days
from app.holding.coverage_days import DAYS_MAX
from app.http.documentation import INTEGER, OWN_LIMITS, STRING, json_doc, object_of, own_error_doc
from app.http.errors import ApiError, json_response
from app.http.forward import FORWARDED, forwarded
from app.http.headers import NO_STORE
from app.http.own_params import STRICT
from app.http.page import Page, PageResponse
from app.http.params import TIME_MS_MAX
from app.http.services import Services
from app.http.slow import SlowAnswers
from app.kinds.klines import KLINES
from app.kinds.registry import BY_WORD

DAYS_DEFAULT: Final = 90
SERIES_DEFAULT: Final = 50
SERIES_MAX: Final = 100  # of 400 days they take 80 ms of a core, with other requests in between
OFFSET_MAX: Final = 1_000_000

_OBJECT: Final = {"type": "object"}
_LIST: Final = {"type": "array"}
_OVERVIEW: Final = object_of(
    as_of=INTEGER, version=STRING, health=_OBJECT, exchange=_OBJECT, numbers=_OBJECT, close_lag=_OBJECT, jobs=_LIST,
    slow=_LIST,
)  # fmt: skip
_DAYS: Final = object_of(
    as_of=INTEGER, kind=STRING, interval=STRING, start=INTEGER, days=INTEGER, kinds=_LIST, total=INTEGER,
    offset=INTEGER, series=_LIST,
)  # fmt: skip


def overview_router(services: Services, slow: SlowAnswers) -> APIRouter:
    """The router; `slow` has the slow requests of this process."""
    router = APIRouter(prefix="/v1", tags=["operation"], responses=OWN_LIMITS, dependencies=[STRICT])

    @router.get(
        "/overview",
        summary="What the dashboard's first page shows: health, exchange, counts, close lag, jobs, slow requests",
        responses={200: json_doc("How the node is, by the process that writes while it can be reached.", _OVERVIEW)},
    )
    async def overview(request: Request) -> Response:
        told: dict[str, Any] = await _of_writer(services, request) or services.overview.report() | {"slow": []}
        return json_response(msgspec.json.encode({**told, "slow": slow.report() + told["slow"]}), 200, NO_STORE)

    @router.get(
        "/coverage/days",
        summary="The ledger by day: a letter for each day of each series",
        responses={
            200: json_doc(
                "Letters: d disputed, m missing, p partly missing, v verified, h held, a absent, . nothing.", _DAYS
            ),
            304: {"description": "The report that If-None-Match names is still true."},
            400: own_error_doc("A parameter is wrong."),
        },
    )
    async def days(
        request: Request,
        kind: Annotated[str, Query(json_schema_extra={"enum": list(BY_WORD)}, description="Of series.")] = KLINES.name,
        interval: Annotated[
            str | None,
            Query(json_schema_extra={"enum": list(INTERVALS)}, description="1m, or the kind's own, without it."),
        ] = None,
        end: Annotated[int | None, Query(ge=0, le=TIME_MS_MAX, description="A time of the last day; now.")] = None,
        days: Annotated[int, Query(ge=1, le=DAYS_MAX)] = DAYS_DEFAULT,
        offset: Annotated[int, Query(ge=0, le=OFFSET_MAX, description="Series to skip.")] = 0,
        limit: Annotated[int, Query(ge=1, le=SERIES_MAX)] = SERIES_DEFAULT,
        incomplete: Annotated[bool, Query(description="Only series with something missing in these days.")] = False,
    ) -> Response:
        of = _kind(kind)
        asked = coverage_days.Question(of, _interval(of, interval), end, days, offset, limit, incomplete)
        report = await services.coverage_days.report(asked)
        return PageResponse(Page(msgspec.json.encode(report)), request.scope, max_age_s=0)

    return router


async def _of_writer(services: Services, request: Request) -> dict[str, Any] | None:
    """What the process that writes says, if that is another one and it answers."""
    try:
        answer = await forwarded(services.line, request)
    except ApiError:
        return None  # nobody writes at the moment: the page is to show just that
    if answer is None or answer.status_code != 200 or FORWARDED in request.scope:
        return None
    found: dict[str, Any] = msgspec.json.decode(answer.body)
    return found


def _kind(name: str) -> Kind:
    if (kind := BY_WORD.get(name)) is None:
        raise ApiError(400, f"No such kind: {name[:40]}. There are {', '.join(BY_WORD)}.")
    return kind


def _interval(kind: Kind, code: str | None) -> Interval:
    """The interval with this code, or the kind's first; there may be no series of the kind in it."""
    if code is None:
        return kind.intervals[0] if kind.intervals else M1
    if (found := INTERVALS.get(code)) is None:
        raise ApiError(400, f"No such interval: {code[:40]}. There are {', '.join(INTERVALS)}.")
    return found
