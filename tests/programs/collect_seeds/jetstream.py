"""A model of JetStream, which refuses, dies and answers too late as told, and of the disk that messages spill to."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple

from app.collecting.plans import PASSING_WINDOW_S, WINDOW_S
from app.ports.clock import Clock
from app.ports.publishing import Message, NotAccepted, Unconfirmed
from app.ports.spilling import SpillRefused

TIMEOUT_S: Final = 2.0
"""How long a publisher waits for a confirmation."""
LATENCY_S: Final = (0.0005, 0.004)
READ_MAX: Final = 50  # messages that one read of the spill returns
FSYNC_S: Final = 0.003
_KEPT: Final = (".trade", ".gap", ".funding_rate", ".kline.")

Later = Callable[[float, Callable[[], None]], None]
"""Call something after so many ms, whatever happens to the process that asks."""


class Stored(NamedTuple):
    """A message in the stream, and when it was stored (ms)."""

    message: Message
    at_ms: int


class JetStream:
    """All streams. `state`: up, away (nothing arrives), unsure (stores, and confirms too late), full (refuses)."""

    def __init__(self, clock: Clock, chance: Random, later: Later) -> None:
        self.stored: list[Stored] = []
        self.state = "up"
        self.attempts = self.duplicates = 0
        self._clock, self._chance, self._later = clock, chance, later
        self._ids: dict[str, int] = {}
        self._server = 0

    def kill(self) -> None:
        """Kill the server: what is under way is stored or not, and is not confirmed."""
        self._server += 1
        self.state = "away"

    def fault(self) -> str | None:
        """Nothing: the model's faults show in what `publish` raises."""
        return None

    async def publish(self, message: Message) -> None:
        """Return when the message is stored. PublishError: it is not, or that is unknown."""
        self.attempts += 1
        settled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = self._server

        def settle(result: str) -> None:
            if not settled.done():
                settled.set_result(result)

        def arrive() -> None:
            if self.state == "full":
                answer = "maximum bytes exceeded"
            elif self.state == "away" or (server != self._server and self._chance.random() < 0.5):
                return
            else:
                self._store(message)
                answer = "unconfirmed" if self.state == "unsure" or server != self._server else ""
            if answer != "unconfirmed":
                self._later(self._latency_ms(), lambda: settle(answer) if server == self._server else None)

        self._later(self._latency_ms(), arrive)
        self._later(TIMEOUT_S * 1_000, lambda: settle("unconfirmed"))
        match await settled:
            case "":
                return
            case "unconfirmed":
                raise Unconfirmed("no confirmation in time")
            case refusal:
                raise NotAccepted(refusal)

    def _store(self, message: Message) -> None:
        now_ms = self._clock.now_ms()
        window_s = WINDOW_S if any(kind in message.subject for kind in _KEPT) else PASSING_WINDOW_S
        if now_ms < self._ids.get(message.message_id, 0):
            self.duplicates += 1
            return
        self._ids[message.message_id] = now_ms + window_s * 1_000
        self.stored.append(Stored(message, now_ms))

    def _latency_ms(self) -> float:
        return self._chance.uniform(*LATENCY_S) * 1_000


class Disk:
    """A spill as it is on disk: it survives the process, and what was not released is read again."""

    def __init__(self) -> None:
        self.held: list[Message] = []


class DiskSpill:
    """A process's queue on the disk."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self._disk, self._clock = disk, clock
        self._read_to = 0
        self.is_refusing = False

    @property
    def bytes_held(self) -> int:
        """The bytes on the disk."""
        return sum(len(each.body) for each in self._disk.held)

    @property
    def is_empty(self) -> bool:
        """Whether every message was released."""
        return not self._disk.held

    @property
    def is_read(self) -> bool:
        """Whether `read` has returned every message."""
        return self._read_to == len(self._disk.held)

    async def append(self, messages: Sequence[Message]) -> None:
        """Write and fsync. SpillRefused: none was written."""
        await self._clock.sleep(FSYNC_S)
        if self.is_refusing:
            raise SpillRefused("the disk is full")
        self._disk.held += messages
        await self._clock.sleep(FSYNC_S)

    async def read(self) -> Sequence[Message]:
        """The next messages."""
        await self._clock.sleep(0.0005)
        found = self._disk.held[self._read_to : self._read_to + READ_MAX]
        self._read_to += len(found)
        return found

    async def release(self) -> None:
        """Forget what was read, once all was (as a whole segment is)."""
        if self.is_read:
            self._disk.held.clear()
            self._read_to = 0
