"""The HTTP application of a replay: klines and market data as of its time, and the routes that control it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp, Lifespan

from app.access.key_gate import KeyGate
from app.http.admin_guard import AdminGuard
from app.http.direct import Direct, Timings
from app.http.documentation import DescribedApi
from app.http.errors import add_error_handlers
from app.http.fast_path import FastPath
from app.http.front import add_docs
from app.http.intake import Intake
from app.http.key_answers import Access
from app.http.klines import PATH, Klines, klines_router
from app.http.market import market_router
from app.http.market_data import MarketData, market_data_router
from app.http.market_pages import MarketPages
from app.http.page_cache import PageCache
from app.http.refused import refused_router
from app.http.replay import replay_router
from app.http.services import AsOf, HeldRows, Market, Names, Query, Symbols, WriterLine
from app.market.book_starts import BookStarts
from app.market.endpoints import ENDPOINTS
from app.ports.clock import Clock
from app.replaying.control import Control


@dataclass(frozen=True, slots=True)
class ReplayServices:
    """The services that answer as of the replay's time; implements MarketServices."""

    query: Query
    symbols: Symbols
    market: Market
    statistics: HeldRows
    events: HeldRows
    as_of: AsOf
    line: WriterLine
    book_starts: BookStarts
    names: Names


def create_replay_app(
    services: ReplayServices,
    control: Control,
    *,
    clock: Clock,
    instrument: Callable[[FastAPI], None],
    admin: AdminGuard,
    gate: KeyGate | None,
    only_final_default: bool,
    lifespan: Lifespan[FastAPI],
) -> ASGIApp:
    """Build the application. `clock` is the replay's: no answer is kept, and none may be kept by others."""
    app = DescribedApi(
        title="klinenode replay",
        description="A past time of Binance USDⓈ-M futures, from held rows, under Binance's own URLs.",
        version=version("klinenode"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "."}],
        redirect_slashes=False,
    )
    pages, timings = PageCache(0, clock, ttl_s=0), Timings()
    klines = Klines(services, pages, clock, only_final_default=only_final_default)
    data = MarketData(services, klines, MarketPages(clock, lambda: False, bytes_max=0), clock)
    app.include_router(klines_router(klines))
    app.include_router(market_router(services.symbols, clock, exchange_info_max_age_s=0))
    app.include_router(market_data_router(data))
    app.include_router(refused_router())
    app.include_router(replay_router(control, admin))
    add_docs(app)
    add_error_handlers(app)
    app.add_middleware(Intake)
    instrument(app)
    responders = {PATH: klines.respond} | dict.fromkeys(ENDPOINTS, data.respond)
    access = None if gate is None else Access(gate, admin)
    return FastPath(Direct(app, responders, timings), pages, klines, timings, clock, access)
