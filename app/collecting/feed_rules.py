"""What the session asks of the rules of one feed, whatever its type."""

from typing import Final, NamedTuple, Protocol

from app.domain.gap_reason import GapReason
from app.domain.market_events import BookUpdate, Trades
from app.domain.records import Feed, FundingRate, KlineRecord, OpenInterest, Ticker
from app.domain.venue import Request

NEVER_MS: Final = 1 << 62
"""A time that never comes."""

FeedEvent = Trades | BookUpdate | Ticker | FundingRate | OpenInterest | KlineRecord


class FeedStatus(NamedTuple):
    """How a feed stands; `newest_ms` is the exchange's time of its newest record, None before the first.

    `levels`: of a book, how many levels were compared with a fresh snapshot at last, and how many were equal.
    """

    feed: Feed
    state: str
    open_gaps: int
    newest_ms: int | None
    detail: str = ""
    levels: tuple[int, int] = (0, 0)


class FeedRules(Protocol):
    """The rules of one feed. They put what they decide into the session's outlet; one request is under way at most.

    After each call the session looks at `due_ms`: when `tick` wants to be called next.
    """

    @property
    def feed(self) -> Feed:
        """Whose rules these are."""
        ...

    @property
    def due_ms(self) -> int:
        """When something is to be done without an event from outside."""
        ...

    def received(self, event: FeedEvent, socket: int, now_ms: int) -> None:
        """Take what a socket brought."""
        ...

    def cut(self, socket: int, reason: GapReason, now_ms: int) -> None:
        """The socket that carried the feed, or one of two that overlap, brings nothing more."""
        ...

    def tick(self, now_ms: int) -> None:
        """Do what is due."""
        ...

    def wanted(self, now_ms: int) -> Request | None:
        """The request that shall be sent now. The session sends it at once, or asks again later."""
        ...

    def sent(self, now_ms: int) -> None:
        """The request that was wanted is under way: until `answered` or `failed` no other is wanted."""
        ...

    def answered(self, body: bytes, now_ms: int) -> None:
        """Take the answer to the request. Unreadable: the session calls `failed`."""
        ...

    def failed(self, now_ms: int) -> None:
        """The request came to nothing; it is wanted again after a pause."""
        ...

    def leave(self, now_ms: int) -> None:
        """End the gaps that are open: the feed is followed no longer."""
        ...

    def delivers_on(self, socket: int) -> bool:
        """Whether what this socket brings is enough to close the other one that overlaps it."""
        ...

    def status(self) -> FeedStatus:
        """How the feed stands."""
        ...
