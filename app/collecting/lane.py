"""The records of one feed that wait to be published, and how they become messages whose borders never change."""

from collections import deque
from enum import Enum
from typing import NamedTuple

from app.collecting.encoding import batch_message, message
from app.domain.records import Record, Trade
from app.ports.publishing import Message


class Made(NamedTuple):
    """A message, and the records that it holds."""

    message: Message
    records: list[Record]


class LaneState(Enum):
    """What a lane does: nothing, wait for more of a batch, wait for its turn, or wait for a confirmation."""

    IDLE = 1
    LINGERING = 2
    READY = 3
    BUSY = 4


class Lane:
    """One feed's records in their order. At most one of its messages is under way, so that none overtakes another."""

    __slots__ = ("batch_max", "made", "pending", "state")

    def __init__(self, batch_max: int) -> None:
        """Trades are joined to messages of up to `batch_max`; with 1, each is a message in the form of one record."""
        self.batch_max = batch_max
        self.pending: deque[Record] = deque()
        self.made: deque[Made] = deque()
        self.state = LaneState.IDLE

    @property
    def has_any(self) -> bool:
        """Whether anything waits."""
        return bool(self.made or self.pending)

    def first(self) -> Made:
        """The next message. It stays the first, with the same content, until `taken`."""
        if not self.made:
            self.made.append(self._next())
        return self.made[0]

    def taken(self) -> Made:
        """Remove the next message."""
        first = self.first()
        self.made.popleft()
        return first

    def put_back(self, made: Made) -> None:
        """Make `made` the next message again."""
        self.made.appendleft(made)

    def _next(self) -> Made:
        record = self.pending.popleft()
        if not isinstance(record, Trade) or self.batch_max == 1:
            return Made(message(record), [record])
        run = [record]
        expected = record.sequence + 1
        while self.pending and len(run) < self.batch_max:
            following = self.pending[0]
            if not isinstance(following, Trade) or following.sequence != expected:
                break  # first and last must say what is in the batch
            run.append(following)
            self.pending.popleft()
            expected += 1
        return Made(batch_message(run), [*run])
