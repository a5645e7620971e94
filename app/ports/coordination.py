"""How the processes of a node cooperate: the writer lease, and requests that only the writer can answer."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

from app.binance.rate_state import RateState
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span

T = TypeVar("T")

NO_WRITER: Final = "this process does not hold the writer lease; ask the one that does"


class WriterUnreachable(Exception):
    """The writer process cannot be reached at the moment; the message says what to do."""


class RpcRequest(NamedTuple):
    """An HTTP request that only the writer can answer, as it was received; `client` is the client's address."""

    method: str
    path: str
    query: str
    client: str
    headers: list[tuple[str, str]]
    body: bytes


class RpcResponse(NamedTuple):
    """The writer's HTTP response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Lease(Protocol):
    """The right to write to a database. At most one process holds it; a process that dies loses it."""

    def try_acquire(self, url: str) -> bool:
        """Try to take the lease without waiting, and return whether this process now holds it.

        `url` is the address of this process' HTTP server. Raises OSError when the machine does not permit the lock.
        """
        ...

    def is_held(self) -> bool:
        """Whether this process holds the lease, and other processes can see that."""
        ...

    def release(self) -> None:
        """Release the lease; does nothing when it is not held."""
        ...

    def holder(self) -> str | None:
        """The URL of the process that holds the lease; None when nobody does, "" when it has not written it yet."""
        ...


class RateStateKeeper(Protocol):
    """Keeps the rate state that the processes of a node share.

    `update` and `look` never raise an error of their own. While the shared state cannot be used, both go by what this
    process knew last, and `trouble` says why; what the process did meanwhile is merged into the shared state later.
    """

    @property
    def me(self) -> int:
        """The number of this process in `RateState.under_way`; valid inside `update` and `look`."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why the shared state cannot be used; None if it can."""
        ...

    async def update(self, change: Callable[[RateState], T]) -> T:
        """Call `change` once with the newest state, store the changed state, and return the result of `change`.

        Meanwhile no other task, thread or process reads or changes the shared state. This also holds when the caller is
        cancelled: CancelledError is raised after the state was stored, so the caller can still undo what it booked.
        `change` reports no events and calls neither `update` nor `look`.
        """
        ...

    def look(self, read: Callable[[RateState], T]) -> T:
        """Return the result of `read` for the state as this process knows it; from any thread, without waiting.

        It includes every update of this process, and those of other processes up to the last update of this process.
        """
        ...

    def close(self) -> None:
        """Close the file or connection; the next use opens it again."""
        ...


class Change(NamedTuple):
    """What became of a series: the span of open times that may have changed (ms), and its ledger afterwards."""

    span: Span
    ledger: Ledger


class Changes(NamedTuple):
    """What was committed since a change number, `last` being the newest one.

    Not `is_whole`: more has happened than is remembered, or it is another database; the reader loads everything again.
    """

    last: int
    is_whole: bool
    series: Mapping[Series, Change]


class ChangeFeed(Protocol):
    """What the writer commits, for processes that keep copies of it."""

    async def changes(self, after: int | None) -> Changes:
        """What was committed after the change number `after`; None asks for the newest number only.

        Nothing that was committed before the call is missing. Raises StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Close its connection; a call that is under way ends first."""
        ...
