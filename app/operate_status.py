"""What the command status does: ask a node once a second how it is, and show it."""

from typing import Any, Final

import httpx
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from app.ports.clock import Clock
from app.status.open_reports import overview_of
from app.status.screen import no_node, screen, sentence
from app.status.snapshot import Json, Snapshot, snapshot_of
from app.status.trend import Trend

EVERY_S: Final = 1.0
PORT_MAX: Final = 65_535
ANSWER_S_MAX: Final = 5.0  # a node that needs longer does not answer
_OVERVIEW: Final = "/v1/overview"
_OPEN_REPORTS: Final = ("/v1/health", "/v1/ready", "/v1/verification", "/metrics")
_WITHOUT: Final[dict[int, str]] = {
    httpx.codes.NOT_FOUND: "this node's version has no /v1/overview; update it to see jobs and slow requests too",
    httpx.codes.UNAUTHORIZED: "this node wants an API key for /v1/overview; its page in a browser shows everything",
}
"""By the status of /v1/overview: why the node is shown by what it answers everybody, which is less."""


class NoNode(Exception):
    """No node answers; the message says what to do."""


async def look(client: httpx.AsyncClient, clock: Clock) -> tuple[dict[str, Any], Snapshot]:
    """The overview of the node that `client` is for, as it is and read. Raises NoNode."""
    url = str(client.base_url).rstrip("/")
    try:
        overview = await _overview(client, clock)
        return overview, snapshot_of(overview)
    except httpx.TransportError as error:
        raise NoNode(no_node(url, str(error) or type(error).__name__)) from error
    except httpx.HTTPStatusError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}"
        raise NoNode(no_node(url, f"/v1/overview is answered with {status}")) from error
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise NoNode(no_node(url, "it is another program")) from error


async def once(url: str, clock: Clock) -> dict[str, Any]:
    """The document of `klinenode status --json`: the sentence, and the whole overview. Raises NoNode."""
    async with _client(url) as client:
        overview, snapshot = await look(client, clock)
    return {"url": url, "sentence": sentence(snapshot, Trend().add(snapshot)), **overview}


async def show_once(url: str, out: Console, clock: Clock) -> None:
    """Print everything that is known of this moment. Raises NoNode."""
    async with _client(url) as client:
        _, snapshot = await look(client, clock)
    out.print(screen(out, url, snapshot, Trend().add(snapshot), is_whole=True))


async def watch(url: str, out: Console, clock: Clock) -> None:
    """Show a new screen every second until it is cancelled, also while no node answers. Raises NoNode of a bad URL."""
    trend = Trend()
    async with _client(url) as client:
        with Live(console=out, screen=True, auto_refresh=False) as live:
            while True:
                live.update(await _screen(client, url, out, clock, trend), refresh=True)
                await clock.sleep(EVERY_S)


async def _screen(client: httpx.AsyncClient, url: str, out: Console, clock: Clock, trend: Trend) -> RenderableType:
    try:
        _, snapshot = await look(client, clock)
    except NoNode as error:
        return Text(str(error), style="bold red")
    return screen(out, url, snapshot, trend.add(snapshot))


def _client(url: str) -> httpx.AsyncClient:
    """Raises NoNode if that is no URL."""
    try:
        client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=ANSWER_S_MAX)
    except httpx.InvalidURL as error:
        raise NoNode(f"--url {url} is no URL: {error}; name the node like http://127.0.0.1:8000") from error
    where = client.base_url
    if where.scheme not in ("http", "https") or not where.host or (where.port or 0) > PORT_MAX:
        raise NoNode(f"--url {url} is no URL of a node; name it like http://127.0.0.1:8000")
    return client


async def _overview(client: httpx.AsyncClient, clock: Clock) -> dict[str, Any]:
    """/v1/overview, or what the node's open reports have of it.

    Raises NoNode, httpx.TransportError, httpx.HTTPStatusError, and ValueError and its like of another program.
    """
    answer = await client.get(_OVERVIEW)
    if (why := _WITHOUT.get(answer.status_code)) is None:
        answer.raise_for_status()
        return dict(_object(answer))
    *reports, metrics = [await client.get(path) for path in _OPEN_REPORTS]
    health, ready, verification = ({} if each.status_code in _WITHOUT else _object(each) for each in reports)
    if "replay" in health:
        raise NoNode(f"{client.base_url} is a replay, and no node: its /v1/health says how it is")
    overview = overview_of(clock.now_ms(), health, ready, verification, metrics.text)
    if "role" in health:  # a process that only collects has no overview in any version
        overview["health"] = {**health, "notes": [why, *health.get("notes", ())]}
    return overview


def _object(answer: httpx.Response) -> Json:
    """The JSON object of an answer. Raises ValueError or TypeError."""
    report = answer.json()
    if not isinstance(report, dict):
        raise TypeError("no object")
    return report
