"""Prints what cryptofeed makes of recorded frames: its trades, and its book after each of them.

python -m tests.programs.bench.collector_oracle <file of tapes>
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.programs.bench import collector_peers as peers
from tests.programs.bench.collector_ours import Reader, Tape


class Traded(msgspec.Struct, frozen=True):
    """A trade; the numbers are those of cryptofeed's decimals."""

    trade_id: str
    price: str
    amount: str
    side: str
    timestamp_ms: int


class Held(msgspec.Struct, frozen=True):
    """A book after the frame with this sequence number, amounts by price."""

    sequence: int
    bids: dict[str, str]
    asks: dict[str, str]


class Seen(msgspec.Struct):
    """What cryptofeed called back with for one tape."""

    trades: list[Traded]
    books: list[Held]


async def see(tape: Tape) -> Seen:
    """Let cryptofeed handle a tape."""
    seen = Seen([], [])

    async def trade(each: Any, receipt: float) -> None:
        at_ms = round(each.timestamp * 1_000)
        seen.trades.append(Traded(str(each.id), str(each.price), str(each.amount), str(each.side), at_ms))

    async def book(each: Any, receipt: float) -> None:
        bids, asks = ({str(price): str(amount) for price, amount in side.to_dict().items()} for side in _sides(each))
        seen.books.append(Held(each.sequence_number, bids, asks))

    await peers.Cryptofeed(Reader(tape), trade, book).follow()
    return seen


def _sides(book: Any) -> tuple[Any, Any]:
    return book.book.bids, book.book.asks


async def _main(tapes: list[Tape]) -> list[Seen] | None:
    if "cryptofeed" not in peers.versions():
        return None
    return [await see(tape) for tape in tapes]


if __name__ == "__main__":
    read = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=list[Tape])
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_main(read))))
