"""The route GET /fapi/v1/klines: parameters, answers and caching of klines requests."""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Scope

from app.binance import coin_margined
from app.binance.error_body import UnknownSymbol
from app.domain import letters
from app.domain.interval import INTERVALS
from app.http.coverage_header import coverage_headers
from app.http.deadline import in_time
from app.http.documentation import BINANCE_LIMITS, error_doc
from app.http.errors import json_response
from app.http.headers import BINANCE, NO_STORE, Header
from app.http.page import Asked, Hit, HitResponse, Page, asked_by
from app.http.page_cache import Key, PageCache
from app.http.params import INTEGER_MAX, kline_query
from app.http.services import MarketServices
from app.ports.clock import Clock
from app.querying.answer import LIMIT_DEFAULT, LIMIT_MAX, Answer, KlineQuery

PATH: Final = "/fapi/v1/klines"


def _parameter(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


_TIME: Final[dict[str, Any]] = {"type": "integer", "format": "int64", "minimum": 0, "maximum": INTEGER_MAX}
_ROW: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 12,
    "maxItems": 12,
    "description": "openTime, open, high, low, close, volume, closeTime, quoteVolume, trades, takerBuyBaseVolume, "
    'takerBuyQuoteVolume, "0"; times in ms, decimals as strings',
    "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
}

_COVERAGE: Final[dict[str, Any]] = {
    "description": "With allow_partial=true, or where the exchange itself has no klines between those of the answer. "
    "`complete` (`; absent=<start>-<end>,…`: it has none), or `partial; missing=<start>-<end>,…; klines_missing=N; "
    "more=K; klines_held=N; klines_absent=N; window=<start>-<end>; newest=unconfirmed`: spans are half-open open times "
    "in ms; `more` counts missing spans that are not named; `newest` stands there when nobody can say whether newer "
    "klines exist.",
    "schema": {"type": "string", "example": "partial; missing=1735689600000-1735689900000; klines_missing=5"},
}


def _documentation(*, only_final_default: bool) -> dict[str, Any]:
    return {
        "parameters": [
            _parameter(
                "symbol", {"type": "string", "minLength": 1, "example": "BTCUSDT"}, "In either case.", required=True
            ),
            _parameter(
                "interval",
                {"type": "string", "enum": list(INTERVALS)},
                "Case matters: 1m is a minute, 1M a month.",
                required=True,
            ),
            _parameter("startTime", _TIME, "Only klines that open at or after this time (ms); the oldest are kept."),
            _parameter("endTime", _TIME, "Only klines that open at or before this time (ms)."),
            _parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
                "How many klines at most.",
            ),
            _parameter(
                "only_final",
                {"type": "boolean", "default": only_final_default},
                "true: closed klines only. false: exactly Binance, which ends with the kline in progress.",
            ),
            _parameter(
                "allow_partial",
                {"type": "boolean", "default": False},
                "true: instead of a 503 the klines that are held, counted over those alone; X-Klinenode-Coverage says "
                "what is missing. Such an answer is not to be kept (no-store, no ETag).",
            ),
            AS_OF_DOC,
        ]
    }


AS_OF_DOC: Final = _parameter(
    "as_of",
    _TIME,
    "The answer as of this past time (ms): the closed klines or rows that this node held then, as they were then. What "
    "it did not hold is a 503 without Retry-After; a time before it began to record what it holds is a 400.",
)


class Klines:
    """Answers klines requests and fills the page cache, for the route, `Direct` and `FastPath` alike."""

    def __init__(self, services: MarketServices, pages: PageCache, clock: Clock, *, only_final_default: bool) -> None:
        self._query = services.query
        self._as_of = services.as_of
        self._names = services.names
        self._pages = pages
        self._clock = clock
        self.only_final_default = only_final_default

    async def respond(self, scope: Scope) -> Response:
        """The response to a GET or HEAD. Raises BinanceError, StoreUnavailable."""
        try:
            query = self._understood(scope["query_string"])
        except UnknownSymbol as error:  # the symbol may have been listed since the last symbol sync
            async with in_time():
                if not await self._names.learn(error.name):
                    raise
                return await self._made(self._understood(scope["query_string"]), scope)
        return await self._made(query, scope)

    async def kept_or_made(self, query: KlineQuery, scope: Scope) -> Response:
        """The response to a query of another path (price klines), from the page cache or made. Raises BinanceError."""
        key, asked = (scope["path"], scope["query_string"]), asked_by(scope["headers"])
        if (hit := self._pages.hit(key, asked, self._clock.now_ms())) is not None:
            return HitResponse(hit, is_head=scope["method"] == "HEAD")
        self._pages.misses += 1
        return await self._made(query, scope)

    async def _made(self, query: KlineQuery, scope: Scope) -> Response:
        key = (scope["path"], scope["query_string"])
        asked, is_head = asked_by(scope["headers"]), scope["method"] == "HEAD"
        if query.as_of_ms is not None:
            async with in_time():
                return self._uncached(query, await self._as_of.klines(query, query.as_of_ms))
        if (hit := self._from_memory(query, key, asked, self._clock.now_ms())) is not None:
            return HitResponse(hit, is_head=is_head)
        version = self._pages.version(query.series)
        with self._names.asking(PATH, query.series.name):
            answer = await self._query.answer(query)
        if answer.shortfall is not None:  # partial: without cache and ETag nobody can later take it for the whole
            return self._uncached(query, answer)
        page = Page(answer.body, *_stated(query, answer))
        hit = Hit(*page.chosen(asked), self._pages.max_age_s(answer, self._clock.now_ms()))
        self._pages.put(key, page, answer, version)
        return HitResponse(hit, is_head=is_head)

    @staticmethod
    def _uncached(query: KlineQuery, answer: Answer) -> Response:
        return json_response(answer.body, 200, NO_STORE, *BINANCE, *_stated(query, answer))

    def at_once(self, key: Key, asked: Asked, now_ms: int) -> Hit | None:
        """The answer if memory has all of it, else None. Raises BinanceError."""
        return self._from_memory(self._understood(key[1]), key, asked, now_ms)

    def _understood(self, query_string: bytes) -> KlineQuery:
        return kline_query(query_string, self._symbol, only_final_default=self.only_final_default)

    def _symbol(self, text: str) -> str | None:
        """The name of a listed symbol, or of a coin-margined one, which the exchange serves without listing it here."""
        name = self._query.listed(text)
        return upper if name is None and coin_margined.is_symbol(upper := letters.upper(text)) else name

    def _from_memory(self, query: KlineQuery, key: Key, asked: Asked, now_ms: int) -> Hit | None:
        answer = None if query.as_of_ms is not None else self._query.at_once(query, now_ms)
        if answer is None:
            return None
        page = Page(answer.body, *(coverage_headers(answer) if query.allow_partial else ()))
        status, variant = page.chosen(asked)
        is_packed = variant.body is not answer.body
        if is_packed or self._pages.is_asked_again(key, now_ms):
            self._pages.put(key, page, answer, self._pages.version(answer.series))
        return Hit(status, variant, self._pages.max_age_s(answer, now_ms))


def _stated(query: KlineQuery, answer: Answer) -> tuple[Header, ...]:
    return coverage_headers(answer) if query.allow_partial or answer.holes else ()


def klines_router(klines: Klines) -> APIRouter:
    """The router with the klines route."""
    router = APIRouter(prefix="/fapi/v1", tags=["market data"], responses=BINANCE_LIMITS)

    @router.get(
        "/klines",
        summary="Klines, ascending by open time",
        openapi_extra=_documentation(only_final_default=klines.only_final_default),
        responses={
            200: {
                "description": "The klines, whole unless allow_partial=true: never a silent hole.",
                "headers": {"X-Klinenode-Coverage": _COVERAGE},
                "content": {"application/json": {"schema": {"type": "array", "items": _ROW}}},
            },
            304: {"description": "The page that If-None-Match names is still true."},
            400: error_doc("A parameter is missing or wrong."),
            503: error_doc("The klines cannot be answered whole at the moment; Retry-After says when to ask again."),
        },
    )
    async def answer(request: Request) -> Response:
        return await klines.respond(request.scope)

    return router
