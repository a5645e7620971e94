"""The HTML pages: the dashboard at `/`, or the status while it is not built, and the API description at `/docs`.

They load nothing from other hosts. All links and assets are relative, so that the pages work behind a proxy that adds a
prefix to the paths.
"""

from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from app.http.dashboard import Dashboard, dashboard_router
from app.http.services import Health

REASONS_SHOWN_MAX: Final = 20  # why the node is degraded; /v1/health shows all reasons
ASSETS_PACKAGE: Final = ("fastapi_offline", "static")  # Swagger UI as released, without a CDN
ASSETS_PATH: Final = "/docs"
_LINKS: Final = (
    ("docs", "the API described"),
    ("v1/health", "how the node is, as JSON"),
    ("v1/ready", "whether every wished series is fresh"),
    ("v1/coverage", "what is held, proven absent and missing"),
    ("v1/verification", "comparisons with the exchange"),
    ("metrics", "Prometheus"),
    ("fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5", "five klines, as Binance answers them"),
)
_FRONT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)
_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
"""
_STYLE: Final = """<style>
body { font: 16px/1.5 system-ui, sans-serif; color-scheme: light dark }
body { max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
code { font-family: ui-monospace, monospace }
</style>
"""
_DOCS: Final = (
    _HEAD.format(title="klinenode: the API")
    + """<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="docs">The description itself is <a href="openapi.json">openapi.json</a>.</div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
)
_START: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null, // by default a service on the internet is asked whether the description is valid
});
"""


def add_pages(app: FastAPI, health: Health, dashboard: Dashboard) -> None:
    """Serve `/`, `/docs` and the assets of both."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def front(request: Request) -> Response:
        return dashboard.front(request) or _page(_front(health.report()), _FRONT_POLICY)

    app.include_router(router)
    app.include_router(dashboard_router(dashboard))
    add_docs(app)


def add_docs(app: FastAPI) -> None:
    """Serve `/docs`, which shows the description at `/openapi.json`, and its assets."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> Response:
        return _page(_DOCS, _DOCS_POLICY)

    @router.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    app.include_router(router)
    app.mount(ASSETS_PATH, StaticFiles(packages=[ASSETS_PACKAGE]))


def _page(text: str, policy: str) -> Response:
    return HTMLResponse(
        text,
        headers={
            "cache-control": "no-store",
            "content-security-policy": f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "referrer-policy": "no-referrer",
        },
    )


def _front(report: dict[str, object]) -> str:
    status = escape(str(report["status"]))
    named = version("klinenode")
    links = "\n".join(
        f'<li><a href="{escape(path)}"><code>/{escape(path)}</code></a> {text}</li>' for path, text in _LINKS
    )
    return f"""{_HEAD.format(title=f"klinenode {named}: {status}")}{_STYLE}</head>
<body>
<h1>klinenode {named}</h1>
<p>Binance USDⓈ-M futures klines, exact and complete, under Binance's own URLs. Read-only.</p>
<p>Status: <strong>{status}</strong></p>
<p>The dashboard is not built here: <code>make web</code> builds it (it needs npm), then load this page again.</p>
{_listed(report.get("reasons", ()))}<ul>
{links}
</ul>
</body>
</html>
"""


def _listed(reasons: object) -> str:
    """The reasons why the node is degraded as an HTML list; empty when there are none."""
    if not isinstance(reasons, Sequence) or not reasons:
        return ""
    lines = "\n".join(f"<li>{escape(str(reason))}</li>" for reason in reasons[:REASONS_SHOWN_MAX])
    return f"<ul>\n{lines}\n</ul>\n"
