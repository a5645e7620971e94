"""A hand-made stream and spill for the outboxes' tests: they fail as told, and remember what they were given."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from app.domain.instrument import Instrument, Market
from app.domain.records import BookDelta, BookSnapshot, Level, Record, Ticker, Trade
from app.ports.publishing import Message, NotAccepted, TooLarge, Unconfirmed
from app.ports.spilling import SpillRefused

BTC = Instrument("binance", Market.SWAP, "BTC-USDT", "BTCUSDT")
ETH = Instrument("binance", Market.SWAP, "ETH-USDT", "ETHUSDT")
AT_MS = 1_795_235_400_000


def trade(sequence: int, instrument: Instrument = BTC) -> Trade:
    return Trade(instrument, sequence, str(sequence), "60000.1", "0.10", "0.10", AT_MS + sequence, AT_MS, False)


def ticker(number: int, instrument: Instrument = BTC) -> Ticker:
    return Ticker(instrument, AT_MS + number, AT_MS, last_price=str(number))


def snapshot(sequence: int, instrument: Instrument = BTC) -> BookSnapshot:
    return BookSnapshot(instrument, 1, sequence, (Level("1", "2"),), (), sequence, AT_MS, AT_MS)


def delta(sequence: int, instrument: Instrument = BTC) -> BookDelta:
    return BookDelta(instrument, 1, sequence, (Level("1", "3"),), (), sequence, AT_MS, AT_MS)


async def turn(times: int = 1) -> None:
    """Let the event loop go round; may be cancelled."""
    for _ in range(times):
        passed = asyncio.Event()
        asyncio.get_running_loop().call_soon(passed.set)
        await passed.wait()


@dataclass
class Stream:
    """A Publisher that stores in memory. `state`: up, away, unsure (it stores and does not confirm), full, mixed."""

    chance: Random = field(default_factory=lambda: Random(0))
    state: str = "up"
    stored: list[Message] = field(default_factory=list)
    body_bytes_max: int = 1_000_000
    attempts: int = 0
    under_way: int = 0
    most_under_way: int = 0
    _ids: set[str] = field(default_factory=set)

    def fault(self) -> str | None:
        return None

    async def publish(self, message: Message) -> None:
        self.attempts += 1
        if len(message.body) > self.body_bytes_max:
            raise TooLarge(f"{len(message.body)} bytes are more than {self.body_bytes_max}")
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            await turn(self.chance.randrange(4))
            self._take(message)
            await turn(self.chance.randrange(4))
        finally:
            self.under_way -= 1

    def forget_ids(self) -> None:
        """The duplicate window passes."""
        self._ids.clear()

    def _take(self, message: Message) -> None:
        state = self.state if self.state != "mixed" else self.chance.choice(("up", "up", "away", "unsure", "full"))
        if state == "full":
            raise NotAccepted("maximum bytes exceeded")
        if state != "away" and message.message_id not in self._ids:
            self._ids.add(message.message_id)
            self.stored.append(message)
        if state != "up":
            raise Unconfirmed(f"no confirmation: {state}")

    def sequences(self, instrument: Instrument = BTC) -> list[int]:
        """The trades of an instrument in the order of the stream."""
        found: list[int] = []
        for message in self.stored:
            body = json.loads(message.body)
            if body["symbol"] == instrument.symbol:
                found += [row[0] for row in body["trades"]] if "trades" in body else [body["sequence"]]
        return found

    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(message.body) for message in self.stored]


@dataclass
class MemorySpill:
    """A Spill in memory, which refuses while `is_refusing`."""

    held: list[Message] = field(default_factory=list)
    read_to: int = 0
    is_refusing: bool = False
    appended: int = 0

    @property
    def bytes_held(self) -> int:
        return sum(len(each.body) for each in self.held)

    @property
    def is_empty(self) -> bool:
        return not self.held

    @property
    def is_read(self) -> bool:
        return self.read_to == len(self.held)

    async def append(self, messages: Sequence[Message]) -> None:
        await turn(2)
        if self.is_refusing:
            raise SpillRefused("the disk is full")
        self.held += messages
        self.appended += len(messages)

    async def read(self) -> Sequence[Message]:
        await turn()
        found = self.held[self.read_to : self.read_to + 7]
        self.read_to += len(found)
        return found

    async def release(self) -> None:
        if self.is_read:
            self.held.clear()
            self.read_to = 0


@dataclass
class Heard:
    """What an outbox called."""

    stored: list[Record] = field(default_factory=list)
    refused: list[Record] = field(default_factory=list)
    spilling: list[str | None] = field(default_factory=list)
    lost: list[Instrument] = field(default_factory=list)
