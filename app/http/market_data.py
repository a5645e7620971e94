"""The routes of market data other than klines: Binance's answers under Binance's URLs, each fetched once for all."""

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Scope

from app.binance.error_body import BinanceError, UnknownSymbol, decode, invalid_parameter, missing_parameter
from app.domain.interval import INTERVALS
from app.domain.kind import Kind
from app.domain.series import Series
from app.http.archive_header import ARCHIVE_ROWS_DOC, archive_headers
from app.http.coverage_header import coverage_headers
from app.http.deadline import in_time
from app.http.documentation import BINANCE_LIMITS, Responses, error_doc
from app.http.errors import json_response
from app.http.headers import BINANCE, NO_STORE
from app.http.klines import AS_OF_DOC, Klines
from app.http.market_docs import answer_doc, parameters_doc
from app.http.market_pages import Kept, MarketPages
from app.http.market_params import DATA, question_of, refuse_too_old
from app.http.params import as_of, refuse_as_of
from app.http.relay import ask_writer, holds_header, is_relayed, wants_new
from app.http.services import HeldRows, MarketServices
from app.market import book_starts
from app.market.endpoints import ENDPOINTS, Endpoint, Mode, Question
from app.market.market_source import Fetched
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable, UpstreamError
from app.querying.answer import LIMIT_DEFAULT, KlineQuery
from app.querying.refusal import refusal_of
from app.querying.statistics import NEWEST_MS, StatisticsQuery

_MODES: Final = {
    Mode.HELD: "Held in memory, from the exchange's streams. An answer holds for",
    Mode.STORED: "Held where PRICE_KLINES, METRICS or FUNDING says so, else fetched once for all. An answer holds for",
    Mode.CACHED: "Fetched from the exchange once for all who ask. An answer holds for",
}


class MarketData:
    """Answers requests to the endpoints of app/market/endpoints.py, for the routes and `Direct` alike."""

    def __init__(
        self,
        services: MarketServices,
        klines: Klines,
        pages: MarketPages,
        clock: Clock,
    ) -> None:
        self._market = services.market
        self._statistics = services.statistics
        self._events = services.events
        self._as_of = services.as_of
        self._query = services.query
        self._symbols = services.symbols
        self._names = services.names
        self._line = services.line
        self._klines = klines
        self._starts = services.book_starts
        self._pages = pages
        self._clock = clock

    async def respond(self, scope: Scope) -> Response:
        """The response to a GET or HEAD. Raises BinanceError."""
        endpoint = ENDPOINTS[scope["path"]]
        now_ms = self._clock.now_ms()
        try:
            question = question_of(endpoint, scope["query_string"], self, now_ms)
        except UnknownSymbol as error:  # the symbol may have been listed since the last symbol sync
            async with in_time():
                if not await self._names.learn(error.name):
                    raise
                question = question_of(endpoint, scope["query_string"], self, now_ms)
                return await self._answer(endpoint, question, scope)
        return await self._answer(endpoint, question, scope)

    async def _answer(self, endpoint: Endpoint, question: Question, scope: Scope) -> Response:
        kind = endpoint.kind
        if (at_ms := _past_ms(scope["query_string"], endpoint, has_rows=kind is not None)) is not None:
            assert kind is not None, "refused otherwise"
            async with in_time():
                return await self._then(kind, question, at_ms)
        if not is_relayed(scope) and (query := self._stored(endpoint, question)) is not None:
            return await self._klines.kept_or_made(query, scope)
        edition = await self._edition(question, scope)
        name = question.params.get("symbol") or question.params.get("pair", "")
        try:
            with self._names.asking(endpoint.path, name):
                fetch = self._fetch_here if is_relayed(scope) else self._fetch
                kept = await self._pages.answer(question, fetch, edition)
        except BinanceError as error:
            raise _stated(error, endpoint) from error
        except (UpstreamError, StoreUnavailable, TimeoutError) as error:
            raise _stated(refusal_of(error, self._clock.now_ms()), endpoint) from error
        if kept.status != HTTPStatus.OK:
            self._names.note(endpoint.path, name, decode(kept.status, kept.page.body))
        return self._response(question, kept, scope, edition)

    def symbol(self, text: str) -> str | None:
        """The listed name of a symbol as a client wrote it (lower case accepted); None when it is not listed."""
        return self._query.symbol(text)

    def is_known(self) -> bool:
        """Whether the exchange's list of symbols has been read at least once."""
        return self._symbols.exchange_info() is not None

    def _stored(self, endpoint: Endpoint, question: Question) -> KlineQuery | None:
        """The klines query that a question states if its series is stored, with the kline in progress; else None."""
        if (kind := endpoint.kind) is None or kind.is_gathered:
            return None
        query = _klines_query(kind, question)
        return query if self._query.keeps(query.series) else None

    async def _then(self, kind: Kind, question: Question, at_ms: int) -> Response:
        """The answer from what was held at `at_ms`. Raises BinanceError."""
        try:
            if kind.is_gathered:
                if (query := _rows_query(kind, question)) is None:
                    is_named = kind.rest.symbol in question.params
                    raise _other_period(kind) if is_named else missing_parameter(kind.rest.symbol)
                if query.limit > kind.rest.rows_max:
                    raise invalid_parameter("limit")
                rows = await self._as_of.rows(query, at_ms)
                return json_response(rows.body, 200, NO_STORE, *BINANCE, *archive_headers(rows.archived))
            answer = await self._as_of.klines(_klines_query(kind, question), at_ms)
        except BinanceError as error:
            raise _stated(error, ENDPOINTS[question.path]) from error
        coverage = coverage_headers(answer) if answer.holes else ()
        return json_response(answer.body, 200, NO_STORE, *BINANCE, *coverage)

    async def _edition(self, question: Question, scope: Scope) -> int:
        """The edition of an order book that the question needs (book_starts.py); 0 for other endpoints."""
        kind = book_starts.PATHS.get(question.path)
        if kind is None:
            return 0
        if wants_new(scope):
            self._starts.begin(kind, question.params["symbol"])
        return await self._starts.edition(kind, question.params["symbol"])

    def _statistics_query(self, question: Question) -> StatisticsQuery | None:
        """The question about a gathered kind whose rows are kept; None for any other question."""
        kind = ENDPOINTS[question.path].kind
        if kind is None or not kind.is_gathered or (query := _rows_query(kind, question)) is None:
            return None
        return query if query.limit <= kind.rest.rows_max and self._rows_of(kind).keeps(query.series) else None

    def _rows_of(self, kind: Kind) -> HeldRows:
        return self._events if kind.is_sparse else self._statistics

    async def _held(self, question: Question) -> Fetched | None:
        """The answer of held statistics; None for what has to be asked for. Raises BinanceError."""
        query = self._statistics_query(question)
        if query is not None and (answer := await self._rows_of(query.series.kind).held(query)) is not None:
            return Fetched(HTTPStatus.OK, answer.body, answer.fresh_ms, answer.fresh_ms, answer.archived)
        refuse_too_old(question, self._clock.now_ms())
        return None

    async def _fetch(self, question: Question) -> Fetched:
        if (held := await self._held(question)) is not None:
            return held
        if await self._line.is_elsewhere():
            kind = book_starts.PATHS.get(question.path)
            is_new = kind is not None and self._starts.is_untold(kind, question.params["symbol"])
            return await ask_writer(self._line, question, is_new=is_new)
        return await self._ask(question)

    async def _fetch_here(self, question: Question) -> Fetched:
        """The answer to a question that another process has passed on."""
        return await self._held(question) or await self._ask(question)

    async def _ask(self, question: Question) -> Fetched:
        fetched = await self._market.fetch(question)
        if fetched.status == HTTPStatus.OK and (query := self._statistics_query(question)) is not None:
            await self._rows_of(query.series.kind).learn(query, fetched.body)
            fresh_ms = min(fetched.fresh_ms, NEWEST_MS)  # its rows may be joined by late ones
            fetched = fetched._replace(fresh_ms=fresh_ms, thrifty_ms=fresh_ms)
        return fetched

    def _response(self, question: Question, kept: Kept, scope: Scope, edition: int) -> Response:
        now_ms, size = self._clock.now_ms(), kept.page.size
        if is_relayed(scope):
            left = (max(0, until_ms - now_ms) for until_ms in (kept.fresh_until_ms, kept.thrifty_until_ms))
            stated = archive_headers(kept.archived)
            return json_response(kept.page.body, kept.status, NO_STORE, *BINANCE, *stated, holds_header(*left))
        response = kept.response(scope, now_ms)
        if kept.page.size != size:
            self._pages.weigh(question, kept, edition)
        return response


def _klines_query(kind: Kind, question: Question) -> KlineQuery:
    """The klines query that a question about a kind of price klines states."""
    sent = question.params
    series = Series(kind, kind.whose(sent[kind.rest.symbol]), INTERVALS[sent[kind.rest.interval]])
    start_ms, end_ms = question.number("startTime"), question.number("endTime")
    return KlineQuery(series, start_ms, end_ms, question.number("limit") or LIMIT_DEFAULT, only_final=False)


def _rows_query(kind: Kind, question: Question) -> StatisticsQuery | None:
    """The question about one series of a gathered kind; None if it names none that the node could hold."""
    sent = question.params
    code = sent[kind.rest.interval] if kind.rest.interval else kind.intervals[0].code
    symbol, interval = sent.get(kind.rest.symbol), INTERVALS.get(code)
    if symbol is None or interval is None or interval not in kind.intervals_of(()):
        return None
    limit = question.number("limit") or kind.rest.rows_default
    series = Series(kind, kind.whose(symbol), interval)
    return StatisticsQuery(series, question.number("startTime"), question.number("endTime"), limit)


def _past_ms(query_string: bytes, endpoint: Endpoint, *, has_rows: bool) -> int | None:
    """The past time that is asked for; None for now. Raises BinanceError, also where only now is answered."""
    try:
        if not has_rows:
            refuse_as_of(query_string)
        return as_of(query_string)
    except BinanceError as error:
        raise _stated(error, endpoint) from error


def _other_period(kind: Kind) -> BinanceError:
    held = " or ".join(interval.code for interval in kind.intervals)
    return BinanceError(400, -1130, f"as_of is answered for {kind.rest.interval}={held} alone, which the node keeps.")


def _stated(error: BinanceError, endpoint: Endpoint) -> BinanceError:
    error.is_msg_first = endpoint.path.startswith(DATA)
    return error


def market_data_router(data: MarketData) -> APIRouter:
    """The router with a route for each endpoint of app/market/endpoints.py."""
    router = APIRouter(tags=["market data"], responses=BINANCE_LIMITS)

    async def answer(request: Request) -> Response:
        return await data.respond(request.scope)

    for endpoint in ENDPOINTS.values():
        router.add_api_route(
            endpoint.path,
            answer,
            methods=["GET"],
            name=endpoint.path,
            summary=endpoint.summary,
            description=f"{_MODES[endpoint.mode]} {endpoint.holds_text}.",
            openapi_extra={"parameters": parameters_doc(endpoint) + ([AS_OF_DOC] if endpoint.kind else [])},
            responses=_responses(endpoint),
        )
    return router


def _responses(endpoint: Endpoint) -> Responses:
    is_archived = (kind := endpoint.kind) is not None and kind.archived_form is not None
    errors: Responses = {
        200: answer_doc(endpoint) | ({"headers": ARCHIVE_ROWS_DOC} if is_archived else {}),
        304: {"description": "The answer that If-None-Match names is still true."},
        "4XX": error_doc("What the exchange refuses, in its own words."),
        503: error_doc("The exchange cannot be asked at the moment; Retry-After says when to ask again."),
    }
    if endpoint.parameters:
        errors[400] = error_doc("A parameter is missing or wrong.")
    return errors
