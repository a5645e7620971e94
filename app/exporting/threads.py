"""Blocking steps of an export: each runs in a thread, and is over before whoever waits for it goes on, or is ended."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def in_thread(
    work: Callable[..., _Result], *arguments: Any, undo: Callable[[_Result], None] | None = None
) -> _Result:
    """The result of `work(*arguments)`. A caller that is cancelled meanwhile waits for it, and `undo` gets the result.

    A thread cannot be stopped: one that is left behind writes on in a folder that is being deleted.
    """
    running = asyncio.get_running_loop().run_in_executor(None, partial(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if running.exception() is None and undo is not None:
            undo(running.result())
        raise
