"""What the command unseal does: sealed blocks become plain rows again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.domain.span import Span
from app.node.prepare import CannotStart, prepare, require_database
from app.node.stores import store_of
from app.operate import OperateError
from app.ports.errors import StoreDamaged, StoreUnavailable
from app.ports.store import EVERYTHING, OpenWriter
from app.settings import Settings
from infra.process.clock import SystemClock

_COLUMNS: Final = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


async def unseal(settings: Settings, out: Console) -> tuple[int, int]:
    """Turn every block into rows and return the number of rows, and of damaged blocks. Raises OperateError.

    Each block is one transaction: what is done stays done. A damaged one is deleted, and its rows become unknown.
    """
    if settings.seal_after_days:
        raise OperateError("SEAL_AFTER_DAYS is not 0, so the node would seal the rows again: set it to 0 first")
    try:
        require_database(settings.db_url)
        await prepare(settings)
    except CannotStart as error:
        raise OperateError(str(error)) from error
    rows = damaged = 0
    try:
        async with _writer(settings) as writer:
            found = list(await writer.ledgers())
            with Progress(*_COLUMNS, console=out) as progress:
                for series in progress.track(found, description="series"):
                    next_ms: int | None = 0
                    while next_ms is not None:
                        try:
                            step = await writer.unseal(series, Span(next_ms, EVERYTHING.end_ms))
                        except StoreDamaged as error:
                            if await writer.give_up(error.series, error.span) is None:
                                raise
                            damaged += 1
                            continue
                        rows, next_ms = rows + step.rows, step.next_ms
    except StoreUnavailable as error:
        raise OperateError(str(error)) from error
    return rows, damaged


@asynccontextmanager
async def _writer(settings: Settings) -> AsyncIterator[OpenWriter]:
    """The store, open for writing, while this process holds the lease. Raises OperateError and StoreUnavailable."""
    store = store_of(settings.db_url, timescale=settings.timescale)
    lease = store.lease(settings.db_url)
    try:
        if not await lease.try_acquire(""):
            raise OperateError(f"a node ({await lease.holder() or 'starting'}) has the database open: stop it first")
    except OSError as error:
        raise OperateError(f"the database cannot be locked: {error}") from error
    try:
        writer = await store.writer(settings.db_url, SystemClock(), lambda reason: None, lambda error: None)
        try:
            yield writer
        finally:
            await writer.close()
    finally:
        await lease.release()
