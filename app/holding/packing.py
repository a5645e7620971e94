"""Compressing tails above their share a little at a time, so that no reader of a close waits for it."""

from typing import Final

from app.holding.tail import Tail
from app.ports.clock import Clock

TAILS_A_SECOND: Final = 80  # a tail of 500 rows takes 0.6 ms: 5 % of the event loop
SLICE: Final = 4  # tails compressed without a pause
PAUSE_S: Final = SLICE / TAILS_A_SECOND
IDLE_PAUSE_S: Final = 1.0  # when nothing was left to compress


async def keep_packed(clock: Clock, tail: Tail) -> None:
    """Compress what is above the share of plain rows, for ever."""
    then_ms, has_more = clock.now_ms(), False
    while True:
        await clock.sleep(PAUSE_S if has_more else IDLE_PAUSE_S)
        now_ms = clock.now_ms()
        due = max(SLICE, (now_ms - then_ms) * TAILS_A_SECOND // 1000)
        then_ms, has_more = now_ms, True
        while has_more and due > 0:
            has_more = tail.pack(SLICE)
            due -= SLICE
            await clock.sleep(0)
