"""Answers of held klines that the page cache keeps until a kline of theirs changes."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Scope

from app.domain.series import Series
from app.http.page import Hit, HitResponse, Page, asked_by
from app.http.page_cache import PageCache
from app.ports.clock import Clock
from app.querying.answer import Answer

Question = tuple[Series, Callable[[], Awaitable[Answer]]]
"""The series whose klines an answer is made of, and what makes it; that raises BinanceError."""


class KeptAnswers:
    """Answers requests from the page cache, or by the question that their query string asks."""

    def __init__(self, ask: Callable[[bytes], Question], pages: PageCache, clock: Clock) -> None:
        """`ask` understands a query string. It raises BinanceError and ApiError."""
        self._ask = ask
        self._pages = pages
        self._clock = clock

    async def respond(self, scope: Scope) -> Response:
        """The response to a GET. Raises BinanceError, ApiError."""
        key, asked = (scope["path"], scope["query_string"]), asked_by(scope["headers"])
        if (hit := self._pages.hit(key, asked, self._clock.now_ms())) is not None:
            return HitResponse(hit, is_head=False)
        self._pages.misses += 1
        series, make = self._ask(scope["query_string"])
        version = self._pages.version(series)
        answer = await make()
        page = Page(answer.body)
        hit = Hit(*page.chosen(asked), self._pages.max_age_s(answer, self._clock.now_ms()))
        self._pages.put(key, page, answer, version)
        return HitResponse(hit, is_head=False)
