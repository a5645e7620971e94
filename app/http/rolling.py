"""The route GET /v1/klines/rolling: klines of windows that overlap, exact by the roll-up rule."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Scope

from app.http.batch_docs import ROLLING_DOC, ROLLING_RESPONSES
from app.http.documentation import OWN_LIMITS
from app.http.page import Hit, HitResponse, Page, asked_by
from app.http.page_cache import PageCache
from app.http.rolling_params import rolling_query
from app.http.services import Query
from app.ports.clock import Clock
from app.querying.rolling_query import RollingKlines

PATH: Final = "/v1/klines/rolling"


class RollingRoute:
    """Answers rolling requests; the page cache keeps the answers until a minute of theirs changes."""

    def __init__(self, rolling: RollingKlines, query: Query, pages: PageCache, clock: Clock) -> None:
        self._rolling = rolling
        self._query = query
        self._pages = pages
        self._clock = clock

    async def respond(self, scope: Scope) -> Response:
        """The response to a GET. Raises BinanceError, ApiError."""
        key, asked = (scope["path"], scope["query_string"]), asked_by(scope["headers"])
        if (hit := self._pages.hit(key, asked, self._clock.now_ms())) is not None:
            return HitResponse(hit, is_head=False)
        self._pages.misses += 1
        query = rolling_query(scope["query_string"], self._query.listed)
        version = self._pages.version(query.series)
        answer = await self._rolling.answer(query)
        page = Page(answer.body)
        hit = Hit(*page.chosen(asked), self._pages.max_age_s(answer, self._clock.now_ms()))
        self._pages.put(key, page, answer, version)
        return HitResponse(hit, is_head=False)


def rolling_router(route: RollingRoute) -> APIRouter:
    """The router with the rolling route."""
    router = APIRouter(tags=["market data"], responses=OWN_LIMITS)

    @router.get(
        PATH,
        summary="Klines of windows of any length, rolled up from held minutes at every step",
        openapi_extra=ROLLING_DOC,
        responses=ROLLING_RESPONSES,
    )
    async def rolling(request: Request) -> Response:
        return await route.respond(request.scope)

    return router
