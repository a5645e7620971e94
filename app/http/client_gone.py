"""Work for one client that ends when the client disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None if the client disconnected first, after `work` was cancelled and has ended.

    Raises what `work` raises. Nothing else may call `receive` meanwhile.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work)
            watching = tasks.create_task(_cancel_when_gone(receive, working))
            working.add_done_callback(lambda _: watching.cancel())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return None if working.cancelled() else working.result()


async def _cancel_when_gone(receive: Receive, working: asyncio.Task[Any]) -> None:
    while (message := await receive())["type"] == "http.request":
        if not message.get("more_body"):
            message = await receive()  # after the whole request, ASGI has nothing to say but that the client has gone
            break
    if message["type"] == "http.disconnect":
        working.cancel()
