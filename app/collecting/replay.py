"""Publishing what was spilled: in each feed's order, again and again until the stream has confirmed all of it."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

from app.domain.backoff import spread_s
from app.ports.clock import Clock
from app.ports.publishing import Message, Publisher, PublishError, TooLarge

PAUSE_S_FIRST: Final = 0.1
PAUSE_S_MAX: Final = 5.0
"""The longest pause between attempts: so much later at most does publishing go on when the stream is back."""


class Replay:
    """Publishes messages of many feeds, at most `window` at once and one of each feed."""

    def __init__(self, publisher: Publisher, clock: Clock, chance: Random, window: int) -> None:
        self._publisher = publisher
        self._clock = clock
        self._chance = chance
        self._turns = asyncio.Semaphore(window)
        self._failures = 0
        self.published = 0
        self.too_large = 0
        self.last_refusal: str | None = None
        self.fault: str | None = None
        """Why the last attempt failed; None after one that did not."""

    @property
    def is_healthy(self) -> bool:
        """Whether the last attempt to publish succeeded."""
        return self._failures == 0

    def failed(self, reason: str) -> None:
        """An attempt to publish has failed, or is not worth it."""
        self._failures += 1
        self.fault = reason

    async def publish(self, messages: Iterable[Message], failing: Callable[[], None]) -> None:
        """Return when all are stored, except those that are too large. `failing` is called when an attempt fails."""
        lanes: dict[str, deque[Message]] = {}
        for message in messages:
            lanes.setdefault(message.message_id.rpartition("/")[0], deque()).append(message)
        while lanes:
            await self._attempt(list(lanes.values()))
            lanes = {name: lane for name, lane in lanes.items() if lane}
            if lanes:
                failing()
                await self.pause()

    async def pause(self) -> None:
        """Wait as long as the failures in a row deserve."""
        await self._clock.sleep(spread_s(self._chance, self._failures, PAUSE_S_FIRST, PAUSE_S_MAX))

    async def _attempt(self, lanes: list[deque[Message]]) -> None:
        before = self._failures
        async with asyncio.TaskGroup() as tasks:
            for lane in lanes:
                tasks.create_task(self._publish_lane(lane, before))
        if self._failures == before:
            self._failures, self.fault = 0, None
        else:
            self._failures = before + 1  # one attempt, however many of its messages failed

    async def _publish_lane(self, lane: deque[Message], failures: int) -> None:
        async with self._turns:
            while lane and self._failures == failures:
                try:
                    await self._publisher.publish(lane[0])
                except TooLarge as error:
                    self.too_large += 1
                    self.last_refusal = str(error)
                except PublishError as error:
                    self.failed(str(error))
                    return
                else:
                    self.published += 1
                lane.popleft()
