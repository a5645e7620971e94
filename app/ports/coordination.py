"""How the processes of a node cooperate: lease, requests to the writer, its commits and streams, shared rate state."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

from app.binance.rate_state import RateState
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span
from app.ports.clock import Clock
from app.ports.streams import StreamHub, StreamSource

T = TypeVar("T")

LOOK_S_MAX: Final = 0.5
"""How long a follower may go without a look at the store: what it keeps in memory is valid for twice as long."""

QUOTA_ROWS: Final = 1024
"""Rows of a QuotaCounter."""
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


AnswerRequest = Callable[[RpcRequest], Awaitable[RpcResponse]]
"""How the writer answers a request that another process forwards."""


class WriterRpcServer(Protocol):
    """The writer's side: answers the requests that other processes forward. Only the lease's holder opens it."""

    async def open(self, answer: AnswerRequest) -> None:
        """Answer each request by one call of `answer`, many at a time; takes over from a writer that died.

        Requests at a time, the size of a request and the time for an answer are limited. Beyond a limit the request is
        dropped, and the process that asked gets WriterUnreachable. Raises OSError when no request could arrive.
        """
        ...

    async def close(self) -> None:
        """Accept no more requests; those under way are still answered. Does nothing when it is not open.

        If another process has taken over already, requests go on reaching that one.
        """
        ...


class WriterRpcClient(Protocol):
    """The other processes' side: forwards requests to whichever process is the writer at that moment."""

    async def ask(self, request: RpcRequest) -> RpcResponse:
        """Return what the writer's `answer` returned for `request`, unchanged and whatever its status.

        Raises WriterUnreachable, without waiting longer than a limit: nobody is the writer, or it died meanwhile, is at
        a limit, or its `answer` raised an exception; or the response is too large. The request is not sent again, but
        may have been carried out.
        """
        ...


class WriterRpc(WriterRpcServer, WriterRpcClient, Protocol):
    """Both sides: every process has them, since any may become the writer."""


class Admission(NamedTuple):
    """What serves a connection of another node, after the answer 101; `left` is to be called when it has ended."""

    protocol: asyncio.Protocol
    left: Callable[[], None]


class NotAdmitted(NamedTuple):
    """Why a connection of another node is refused: an HTTP status, and a sentence."""

    status: int
    text: str


class Lines(Protocol):
    """The services of the writer for the nodes of other hosts."""

    def admit(self, service: str, authorization: str) -> Admission | NotAdmitted:
        """Whether a node that shows this `authorization` header may be connected to `service`."""
        ...


class Lease(Protocol):
    """The right to write to a database. At most one process holds it; a process that dies loses it."""

    async def try_acquire(self, url: str) -> bool:
        """Try to take the lease without waiting for its holder, and return whether this process now holds it.

        `url` is the address of this process' HTTP server. Raises OSError when the machine does not permit the lock,
        StoreUnavailable when the database cannot be reached, and StoreUnusable when it never can be used like this.
        """
        ...

    def is_held(self) -> bool:
        """Whether this process holds the lease, and other processes can see that. Never waits.

        A process that cannot reach what keeps the lease stops holding it within seconds, before another can take it.
        """
        ...

    async def renew(self, url: str) -> bool:
        """Try to go on with a lease that `is_held` has found lost; returns whether this process holds it again.

        Raises StoreUnavailable while what keeps the lease cannot be reached, so that nobody can tell.
        """
        ...

    async def release(self) -> None:
        """Release the lease if it is held, and close whatever the other methods opened; they open it again."""
        ...

    async def holder(self) -> str | None:
        """The URL of the process that holds the lease; "" when it has not written it yet.

        None when nobody holds it, or when what keeps the lease cannot be reached.
        """
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


class QuotaCounter(Protocol):
    """Counts, in rows, the requests that the processes of a node admit, anew in each period.

    A period is a number below 2^40. A count is exact for what was added before; processes that add at the same instant
    do not see each other's addition yet. It never waits and never fails: where counts cannot be shared, each process
    goes by its own.
    """

    def used(self, row: int, period: int) -> int:
        """How many requests all processes have counted in a row in a period."""
        ...

    def add(self, row: int, period: int) -> None:
        """Count one request of this process; a row has at most 2^24 - 1 in a period."""
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

    async def wait(self, clock: Clock, poll_s: float) -> None:
        """Wait until it is time for the next look: `poll_s` seconds, unless the store tells of commits.

        A store that does is looked into soon after each commit, and without one every LOOK_S_MAX seconds.
        """
        ...

    async def close(self) -> None:
        """Close its connection; a call that is under way ends first."""
        ...


class StreamFanoutServer(Protocol):
    """The writer's side: sends the frames of its hub to the other processes. Only the lease's holder opens it."""

    async def open(self, hub: StreamHub) -> None:
        """Join and leave streams of `hub` as the other processes ask; takes over from a writer that died.

        A stream for which the hub has no room is joined when it has. `hub` never waits for a process: one that takes
        too little, in bytes or for too long, is disconnected, and the others receive their frames. Raises OSError when
        no process could connect.
        """
        ...

    async def close(self) -> None:
        """Disconnect every process and leave its streams. Does nothing when it is not open.

        If another process has taken over already, processes go on finding that one.
        """
        ...


class StreamFanoutClient(StreamSource, Protocol):
    """The other processes' side: delivers the writer's frames, as the source of a hub.

    Frames are delivered byte for byte and, over all streams, in the writer's order. A connection loses none. Every loss
    of a connection is a gap, and is told: `heard_ms` is None for each stream until a frame arrives on the next one. The
    frames between are not sent again.
    """

    def forget(self) -> None:
        """Deliver no stream any more."""
        ...

    async def run(self) -> None:
        """Connect to whichever process is the writer and ask for the streams, again after each loss, for ever."""
        ...
