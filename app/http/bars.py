"""The route GET /v1/bars: held klines in columns, thinned to what a chart can draw, with marks."""

from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.domain.interval import INTERVALS
from app.http.bars_params import bars_query
from app.http.documentation import INTEGER, OWN_LIMITS, STRING, Responses, json_doc, object_of, own_error_doc
from app.http.errors import ApiError
from app.http.kept_answers import KeptAnswers, Question
from app.http.page_cache import PageCache
from app.http.params import INTEGER_MAX
from app.http.services import Query
from app.kinds.klines import KLINES
from app.kinds.registry import BAR_KINDS
from app.ports.clock import Clock
from app.querying.bars import BAR_COLUMNS, BARS_DEFAULT, BARS_MAX, ROWS_MAX, Bars

PATH: Final = "/v1/bars"
_TIME: Final[dict[str, Any]] = {"type": "integer", "format": "int64", "minimum": 0, "maximum": INTEGER_MAX}
_SPANS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}}


def _parameter(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


_DOC: Final[dict[str, Any]] = {
    "parameters": [
        _parameter(
            "symbol", {"type": "string", "minLength": 1, "example": "BTCUSDT"}, "In either case.", required=True
        ),
        _parameter("interval", {"type": "string", "enum": list(INTERVALS)}, "Case matters.", required=True),
        _parameter("kind", {"type": "string", "enum": list(BAR_KINDS), "default": KLINES.name}, "Klines of what."),
        _parameter("startTime", _TIME, "Klines that open at or after this time (ms); without it the newest ones."),
        _parameter("endTime", _TIME, "Klines that open at or before this time (ms); without it up to now."),
        _parameter(
            "bars",
            {"type": "integer", "minimum": 1, "maximum": BARS_MAX, "default": BARS_DEFAULT},
            "How many bars at most. Where the span has more klines, each bar is made of several; 3d, 1w and 1M are not "
            "added up: a span with more of them than that is refused with 400.",
        ),
        _parameter(
            "step",
            {"type": "integer", "format": "int64", "minimum": 1},
            "How long a bar is at least (ms), a multiple of the interval, which it is without it and for 3d, 1w, 1M.",
        ),
    ]
}
_RESPONSES: Final[Responses] = {
    200: json_doc(
        "The bars, and spans (half-open, ms) in which klines are absent, missing or disputed.",
        object_of(
            symbol=STRING,
            kind=STRING,
            interval=STRING,
            step={
                **INTEGER,
                "description": "How long a bar is (ms); of 1M nominal, 30 days: bars begin at their time.",
            },
            start=INTEGER,
            end=INTEGER,
            bars=object_of(**{name: {"type": "array"} for name in BAR_COLUMNS}),
            absent=_SPANS,
            missing=_SPANS,
            disputed=_SPANS,
            revised={"type": "array", "items": INTEGER},
            omitted={"type": "boolean"},
            first={"type": ["integer", "null"]},
        ),
    ),
    304: {"description": "The answer that If-None-Match names is still true."},
    400: own_error_doc(
        "A parameter is missing or wrong, or the span has too many klines, for an answer or, unthinned, for `bars`."
    ),
    503: own_error_doc("The store does not answer, or as many such requests are under way as may be."),
}


def bars_answers(bars: Bars, query: Query, pages: PageCache, clock: Clock) -> KeptAnswers:
    """What answers requests for bars."""

    def ask(query_string: bytes) -> Question:
        asked = bars_query(query_string, query.listed)
        if (rows := bars.rows(asked)) > ROWS_MAX:
            raise ApiError(
                400,
                f"The span has {rows} klines of {asked.series.interval}, and an answer is made of {ROWS_MAX} at most: "
                "ask for a shorter span or a longer interval.",
            )
        if number := bars.bars_beyond(asked):
            raise ApiError(
                400,
                f"The span has {number} klines of {asked.series.interval}, which are not thinned, and bars is "
                f"{asked.bars}: ask for a shorter span, or for more bars (at most {BARS_MAX}).",
            )
        return asked.series, partial(bars.answer, asked)

    return KeptAnswers(ask, pages, clock)


def bars_router(answers: KeptAnswers) -> APIRouter:
    """The router with the route of bars."""
    router = APIRouter(tags=["market data"], responses=OWN_LIMITS)

    @router.get(
        PATH,
        summary="Held klines for a chart, in columns, thinned where there are many, with what is missing or revised",
        openapi_extra=_DOC,
        responses=_RESPONSES,
    )
    async def bars(request: Request) -> Response:
        return await answers.respond(request.scope)

    return router
