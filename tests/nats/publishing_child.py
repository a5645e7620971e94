"""A process that publishes trades for ever, to be killed: `python -m tests.nats.publishing_child URL FOLDER FIRST`.

It prints the last sequence of each group that is stored, and puts at most AHEAD more than that.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from app.collecting.kept_outbox import Batching, Hooks, KeptOutbox
from app.collecting.plans import StreamLimits, stream_plans
from app.domain.records import Record, Trade
from infra.nats.publisher import JetStreamPublisher
from infra.process.clock import SystemClock
from infra.spill.segments import SegmentSpill
from tests.collecting.stream import trade

AHEAD: Final = 3_000
ROOM: Final = 100_000_000
PLANS: Final = stream_plans(StreamLimits(bytes_max=200_000_000))


async def main(url: str, folder: Path, first: int) -> None:
    """Publish trades from sequence `first` on."""
    newest = first - 1
    progressed = asyncio.Event()

    def stored(records: Sequence[Record]) -> None:
        nonlocal newest
        last = records[-1]
        assert isinstance(last, Trade)
        newest = last.sequence
        progressed.set()
        print(newest, flush=True)

    def refused(records: Sequence[Record], reason: str) -> None:
        raise AssertionError(f"{len(records)} records are refused: {reason}")

    clock = SystemClock()
    publisher = JetStreamPublisher(url, PLANS, clock, Random(1))
    hooks = Hooks(stored, refused, lambda _: None)
    outbox = KeptOutbox(publisher, SegmentSpill(folder, ROOM, print), clock, Random(2), hooks, Batching())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run())
        tasks.create_task(outbox.run())
        sequence = first
        while True:
            progressed.clear()
            while sequence <= newest + AHEAD:
                outbox.put(trade(sequence))
                sequence += 1
            await progressed.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
