"""Work for one client that ends when the client disconnects."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from starlette.types import Receive, Scope

T = TypeVar("T")

_ENDED: Final = "klinenode.peer-ended"  # key in the scope: True once the peer has ended its half of the connection
_WHEN_ENDED: Final = "klinenode.when-peer-ended"  # key in the scope: what is called then


def peer_ended(scope: Scope) -> None:
    """The peer of this request has ended its half of the connection (TCP's FIN)."""
    scope[_ENDED] = True
    when_ended: Callable[[], object] = scope.get(_WHEN_ENDED, _ended_early)
    when_ended()


async def unless_gone(scope: Scope, receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None if the client disconnected first, after `work` was cancelled and has ended.

    A client that only ends its half of the connection counts as gone: until something is sent, TCP shows no difference.
    Raises what `work` raises. Nothing else may call `receive` meanwhile.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work)
            watching = tasks.create_task(_cancel_when_gone(receive, working))
            working.add_done_callback(lambda _: watching.cancel())
            scope[_WHEN_ENDED] = working.cancel
            if scope.get(_ENDED):
                working.cancel()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    finally:
        scope.pop(_WHEN_ENDED, None)
    return None if working.cancelled() else working.result()


async def _cancel_when_gone(receive: Receive, working: asyncio.Task[Any]) -> None:
    while (message := await receive())["type"] == "http.request":
        if not message.get("more_body"):
            message = await receive()  # after the whole request, ASGI has nothing to say but that the client has gone
            break
    if message["type"] == "http.disconnect":
        working.cancel()


def _ended_early() -> None:
    """Nobody has begun to work for the client yet, or all is done."""
