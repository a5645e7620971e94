"""What the command replay does: serve a past time of the database, beside a running node or without one."""

import asyncio
from typing import Final, NamedTuple

from app.domain.interval import M1
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.listening import config_of, listen, serve
from app.node.replay import Replay
from app.node.stores import Reading, store_of
from app.operate import OperateError
from app.outbound import masked
from app.ports.errors import SchemaTooNew, StoreUnavailable
from app.server import allowed_connections
from app.settings import Settings
from app.sockets.stream_protocol import StreamProtocol
from infra.process.clock import SystemClock
from infra.process.malloc import return_large_blocks

_RUN_NODE: Final = "run the node on it first (klinenode serve)"


class Plan(NamedTuple):
    """What is replayed, and how. Times in ms; without an end up to now."""

    start_ms: int
    end_ms: int | None
    speed: int
    is_looping: bool


def run(settings: Settings, plan: Plan) -> None:
    """Replay until SIGINT or SIGTERM. Raises OperateError, and CannotStart if the port cannot be had."""
    span = _span(plan, SystemClock().now_ms())
    asyncio.run(_check(settings, span))
    listener = listen(settings.host, settings.port)
    return_large_blocks()
    settings = settings.model_copy(update={"connections_max": allowed_connections(settings)})
    replay = Replay(settings, span, plan.speed)
    replay.clock.loop(is_looping=plan.is_looping)
    serve(config_of(replay.app, ws=StreamProtocol), listener)


def _span(plan: Plan, now_ms: int) -> Span:
    """The minutes that are replayed: from the one that contains the start, up to the last whole one before the end."""
    newest_ms = M1.grid.floor(now_ms)
    span = Span(M1.grid.floor(plan.start_ms), min(newest_ms, M1.grid.floor(plan.end_ms or newest_ms)))
    if not span:
        raise OperateError("--start must lie a minute or more before --end, and both in the past")
    return span


async def _check(settings: Settings, span: Span) -> None:
    """Raise OperateError unless the database can be read and holds minutes of `span`."""
    reader = store_of(settings.db_url).reader(Reading(settings.db_url))
    try:
        ledgers = await reader.ledgers()
    except (StoreUnavailable, SchemaTooNew) as error:
        raise OperateError(f"{masked(settings.db_url)} cannot be replayed: {error}; {_RUN_NODE}") from error
    finally:
        await reader.close()
    minutes = [ledger.held for series, ledger in ledgers.items() if series.table == (KLINES, M1)]
    if not any(held.clip(span) for held in minutes):
        known = [spans.hull for spans in minutes if spans]
        raise OperateError(
            f"{masked(settings.db_url)} holds no minutes from {span.start_ms} to {span.end_ms}, but {_where(known)}: "
            "name another --start, or fetch the span with klinenode backfill"
        )


def _where(spans: list[Span]) -> str:
    """From when to when there are minutes, for people."""
    if not spans:
        return "none at all"
    return f"from {min(span.start_ms for span in spans)} to {max(span.end_ms for span in spans)} (ms)"
