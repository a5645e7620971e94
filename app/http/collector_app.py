"""The HTTP application of a process that only collects: the collector's routes, its health, and metrics."""

from collections.abc import Callable
from importlib.metadata import version

import msgspec
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Lifespan

from app.collecting.collector import Collector
from app.http.admin_guard import AdminGuard
from app.http.collector import collector_router
from app.http.documentation import DescribedApi, json_doc, object_of
from app.http.errors import add_error_handlers, json_response
from app.http.front import add_docs
from app.http.headers import NO_STORE
from app.http.intake import Intake

HEALTH_PATHS = ("/v1/health", "/health")
"""The second one is where monitoring of other collectors asks."""


def create_collector_app(
    collector: Collector,
    *,
    instrument: Callable[[FastAPI], None],
    admin: AdminGuard,
    lifespan: Lifespan[FastAPI] | None = None,
) -> ASGIApp:
    """Build the application. A request passes, in this order: the metrics, Intake, the routes."""
    app = DescribedApi(
        title="klinenode collect",
        description="Market data of several exchanges, complete, onto NATS JetStream.",
        version=version("klinenode"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "."}],
        redirect_slashes=False,
    )
    app.include_router(collector_router(lambda: collector, admin))

    async def health() -> Response:
        return json_response(msgspec.json.encode(report_of(collector)), 200, NO_STORE)

    for path in HEALTH_PATHS:
        app.add_api_route(
            path,
            health,
            methods=["GET"],
            tags=["operation"],
            summary="Liveness: 200 while the process answers; status is ok or degraded, and why",
            responses={200: json_doc("How the collector is.", object_of(status={"enum": ["ok", "degraded"]}))},
            name=f"health {path}",
        )
    add_docs(app)
    add_error_handlers(app)
    app.add_middleware(Intake)
    instrument(app)
    return app


def report_of(collector: Collector) -> dict[str, object]:
    """What /v1/health says of a process that only collects."""
    reasons = collector.health.reasons()
    return {"status": "degraded" if reasons else "ok", "reasons": reasons, "collector": collector.health.report()}
