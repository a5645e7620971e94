"""The route GET /v1/klines/rolling: klines of windows that overlap, exact by the roll-up rule."""

from functools import partial
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.http.batch_docs import ROLLING_DOC, ROLLING_RESPONSES
from app.http.documentation import OWN_LIMITS
from app.http.kept_answers import KeptAnswers, Question
from app.http.page_cache import PageCache
from app.http.rolling_params import rolling_query
from app.http.services import Query
from app.ports.clock import Clock
from app.querying.rolling_query import RollingKlines

PATH: Final = "/v1/klines/rolling"


def rolling_answers(rolling: RollingKlines, query: Query, pages: PageCache, clock: Clock) -> KeptAnswers:
    """What answers rolling requests."""

    def ask(query_string: bytes) -> Question:
        asked = rolling_query(query_string, query.listed)
        return asked.series, partial(rolling.answer, asked)

    return KeptAnswers(ask, pages, clock)


def rolling_router(answers: KeptAnswers) -> APIRouter:
    """The router with the rolling route."""
    router = APIRouter(tags=["market data"], responses=OWN_LIMITS)

    @router.get(
        PATH,
        summary="Klines of windows of any length, rolled up from held minutes at every step",
        openapi_extra=ROLLING_DOC,
        responses=ROLLING_RESPONSES,
    )
    async def rolling(request: Request) -> Response:
        return await answers.respond(request.scope)

    return router
