"""Waiting for an event with a timeout of the Clock."""

import asyncio

from app.ports.clock import Clock


async def until(event: asyncio.Event, clock: Clock, delay_s: float) -> bool:
    """Wait until `event` is set, at most `delay_s` seconds of `clock`; returns whether it is set."""
    async with asyncio.TaskGroup() as tasks:
        racers = (tasks.create_task(event.wait()), tasks.create_task(clock.sleep(delay_s)))
        await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for racer in racers:
            racer.cancel()
    return event.is_set()
