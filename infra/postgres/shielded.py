"""Work that goes on when its caller is cancelled."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


def shielded(work: asyncio.Future[T]) -> Awaitable[T]:
    """Wait for `work`, which goes on if the caller is cancelled. Its error then is nobody's, and no news to the log."""
    work.add_done_callback(_retrieve)
    return asyncio.shield(work)


def _retrieve(work: "asyncio.Future[Any]") -> None:
    if not work.cancelled():
        work.exception()
