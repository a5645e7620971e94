"""The HTTP application: the routes inside FastAPI, and the layers around it."""

from collections.abc import Callable
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp, Lifespan

from app.access.key_gate import KeyGate
from app.http.admin import admin_router
from app.http.admin_guard import AdminGuard
from app.http.bars import bars_answers, bars_router
from app.http.batch import Batches, batch_router
from app.http.collector import collector_router
from app.http.dashboard import Dashboard
from app.http.deadline import Deadline
from app.http.direct import Direct, Timings
from app.http.documentation import DescribedApi
from app.http.errors import add_error_handlers
from app.http.export import export_router
from app.http.fast_path import FastPath
from app.http.front import add_pages
from app.http.intake import Intake
from app.http.key_answers import Access
from app.http.klines import PATH, Klines, klines_router
from app.http.market import market_router
from app.http.market_data import MarketData, market_data_router
from app.http.market_pages import MarketPages
from app.http.ops import ops_router
from app.http.overview import overview_router
from app.http.page_cache import PageCache
from app.http.refused import refused_router
from app.http.rolling import rolling_answers, rolling_router
from app.http.services import Services
from app.http.slow import SlowAnswers
from app.http.traced import TracedFastPath
from app.market.endpoints import ENDPOINTS
from app.ports.clock import Clock
from app.ports.tracing import RequestTraces


def create_http_app(
    services: Services,
    *,
    pages: PageCache,
    clock: Clock,
    market_pages: MarketPages,
    instrument: Callable[[FastAPI], None],
    timings: Timings,
    admin: AdminGuard,
    gate: KeyGate | None = None,
    only_final_default: bool = True,
    lifespan: Lifespan[FastAPI] | None = None,
    dashboard: Dashboard | None = None,
    traces: RequestTraces | None = None,
) -> ASGIApp:
    """Build the application. A request passes FastPath, Direct, the metrics, Intake, Deadline and the routes."""
    app = DescribedApi(
        title="klinenode",
        description="Binance USDⓈ-M futures klines, exact and complete, under Binance's own URLs.",
        version=version("klinenode"),
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads its assets from a CDN; ours is in app/http/front.py
        redoc_url=None,
        servers=[{"url": "."}],  # relative to the description, so that a proxy may add a prefix
        # whatever other libraries configure: our spans are made before FastAPI begins, and its own have the whole query
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        redirect_slashes=False,  # Binance does not redirect either: a path with a slash too many is unknown
    )
    klines = Klines(services, pages, clock, only_final_default=only_final_default)
    app.include_router(klines_router(klines))
    app.include_router(batch_router(Batches(services.batch, pages, clock, services.arrow)))
    app.include_router(rolling_router(rolling_answers(services.rolling, services.query, pages, clock)))
    app.include_router(bars_router(bars_answers(services.bars, services.query, pages, clock)))
    app.include_router(market_router(services.symbols, clock))
    data = MarketData(services, klines, market_pages, clock)
    app.include_router(market_data_router(data))
    app.include_router(refused_router())
    app.include_router(ops_router(services))
    slow = SlowAnswers(clock)
    app.include_router(overview_router(services, slow))
    app.include_router(export_router(services))
    app.include_router(admin_router(services, clock, admin))
    app.include_router(collector_router(services.collector, admin, services.line))
    add_pages(app, services.health, dashboard or Dashboard())
    add_error_handlers(app)
    app.add_middleware(Deadline)
    app.add_middleware(Intake)
    instrument(app)
    responders = {PATH: klines.respond} | dict.fromkeys(ENDPOINTS, data.respond)
    direct = Direct(app, responders, timings, slow)
    access = None if gate is None else Access(gate, admin)
    if traces is not None:
        return TracedFastPath(direct, pages, klines, timings, clock, access, requests=traces, direct=responders)
    return FastPath(direct, pages, klines, timings, clock, access)
