"""What the command status does: ask a node once a second how it is, and show it."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import httpx
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from app.ports.clock import Clock
from app.status.screen import no_node, screen, sentence
from app.status.snapshot import Snapshot, snapshot_of
from app.status.trend import Trend

EVERY_S: Final = 1.0
ANSWER_S_MAX: Final = 5.0  # a node that needs longer does not answer
_REPORTS: Final = ("/v1/health", "/v1/ready", "/v1/verification")


class NoNode(Exception):
    """No node answers; the message says what to do."""


async def look(client: httpx.AsyncClient, clock: Clock) -> Snapshot:
    """One snapshot of the node that `client` is for. Raises NoNode."""
    try:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(client.get(path)) for path in (*_REPORTS, "/metrics")]
    except BaseExceptionGroup as group:
        failed, others = group.split(httpx.TransportError)
        if others is not None or failed is None:
            raise
        error: BaseException = failed
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise NoNode(no_node(str(client.base_url).rstrip("/"), str(error) or type(error).__name__)) from group
    *reports, metrics = (task.result() for task in asked)
    try:
        health, ready, verification = map(_report, reports)
        return snapshot_of(clock.now_ms(), health, ready, verification, metrics.text)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise NoNode(no_node(str(client.base_url).rstrip("/"), "it is another program")) from error


async def once(url: str, clock: Clock) -> dict[str, Any]:
    """The document of `klinenode status --json`: the sentence and the snapshot. Raises NoNode."""
    async with _client(url) as client:
        snapshot = await look(client, clock)
    return {"url": url, "sentence": sentence(snapshot, Trend().add(snapshot)), **asdict(snapshot)}


async def show_once(url: str, out: Console, clock: Clock) -> None:
    """Print the screen of this moment. Raises NoNode."""
    async with _client(url) as client:
        snapshot = await look(client, clock)
    out.print(screen(out, url, snapshot, Trend().add(snapshot)))


async def watch(url: str, out: Console, clock: Clock) -> None:
    """Show the screen anew every second, until it is cancelled; also while no node answers."""
    trend = Trend()
    async with _client(url) as client:
        with Live(console=out, screen=True, auto_refresh=False) as live:
            while True:
                live.update(await _screen(client, url, out, clock, trend), refresh=True)
                await clock.sleep(EVERY_S)


async def _screen(client: httpx.AsyncClient, url: str, out: Console, clock: Clock, trend: Trend) -> RenderableType:
    try:
        snapshot = await look(client, clock)
    except NoNode as error:
        return Text(str(error), style="bold red")
    return screen(out, url, snapshot, trend.add(snapshot))


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=ANSWER_S_MAX)


def _report(answer: httpx.Response) -> Mapping[str, Any]:
    """The JSON object of a report; empty for one that this node does not have, or not at the moment."""
    if answer.status_code == httpx.codes.NOT_FOUND:
        return {}
    report = answer.json()
    if not isinstance(report, dict):
        raise TypeError("no object")
    return report
