"""Single flight: identical concurrent requests share one call."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from app.domain.reason import Reason
from app.ports.errors import UpstreamUnavailable

Question = TypeVar("Question", bound=Hashable)
Result = TypeVar("Result")


class SingleFlight(Generic[Question, Result]):
    """Runs at most `at_once_max` calls at once, and one per question."""

    def __init__(self, at_once_max: int, what: str) -> None:
        self._at_once_max = at_once_max
        self._what = what
        self._flights: dict[Question, asyncio.Future[Result]] = {}

    def __len__(self) -> int:
        """The number of calls under way."""
        return len(self._flights)

    async def join(self, question: Question, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Call `ask` once per question; its result or error goes to all waiting callers.

        Raises UpstreamUnavailable when `at_once_max` calls are under way.
        """
        while (flight := self._flights.get(question)) is not None:
            try:
                return await asyncio.shield(flight)
            except asyncio.CancelledError:
                if not flight.cancelled() or _is_cancelled():
                    raise  # this caller was cancelled; otherwise the asking caller was: ask again
        if len(self._flights) >= self._at_once_max:
            raise UpstreamUnavailable(f"{self._at_once_max} {self._what} are under way already", Reason.BUSY)
        flight = self._flights[question] = asyncio.get_running_loop().create_future()
        try:
            result = await ask()
            flight.set_result(result)
        except Exception as error:
            flight.set_exception(error)
            flight.exception()  # marks the error as retrieved: there may be no waiting caller
            raise
        finally:
            del self._flights[question]
            if not flight.done():
                flight.cancel()
        return result


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
