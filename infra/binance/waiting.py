"""Waiting on the Clock: for an event or a time, and the jittered pause before another try."""

import asyncio
from random import Random
from typing import Final

from app.ports.clock import Clock

_DOUBLINGS_MAX: Final = 16  # keeps 2**n small; every pause is capped long before


async def until(event: asyncio.Event, clock: Clock, delay_s: float) -> bool:
    """Return when `event` is set, or after `delay_s` seconds of `clock`; whether it is set."""
    async with asyncio.TaskGroup() as tasks:
        racers = (tasks.create_task(event.wait()), tasks.create_task(clock.sleep(delay_s)))
        await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for racer in racers:
            racer.cancel()
    return event.is_set()


def full_jitter_s(chance: Random, failures: int, first_s: float, longest_s: float) -> float:
    """A pause between 0 and `first_s`, the bound doubling with every failure after the first, up to `longest_s`."""
    doublings = min(max(failures - 1, 0), _DOUBLINGS_MAX)
    return chance.uniform(0.0, min(longest_s, first_s * float(2**doublings)))
