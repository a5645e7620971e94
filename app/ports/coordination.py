"""What the processes of a node ask of each other."""

from typing import Final, NamedTuple, Protocol

NO_WRITER: Final = "this process does not hold the writer lease; ask the one that does"


class WriterUnreachable(Exception):
    """The process that writes cannot be asked at the moment; the message says what to do."""


class RpcRequest(NamedTuple):
    """A request that only the writer can answer, as it came in; `client` is the address of who asked."""

    method: str
    path: str
    query: str
    client: str
    headers: list[tuple[str, str]]
    body: bytes


class RpcResponse(NamedTuple):
    """The writer's answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Lease(Protocol):
    """The right to write to a database. At most one process has it at a time; a dead one has nothing."""

    def try_acquire(self, url: str) -> bool:
        """Take the lease without waiting; whether it is now held. `url` is where the holder's HTTP server answers.

        Raises OSError when this machine does not let us.
        """
        ...

    def is_held(self) -> bool:
        """Whether the lease is ours, and others see that."""
        ...

    def release(self) -> None:
        """Give the lease back; nothing happens when it is not held."""
        ...

    def holder(self) -> str | None:
        """The address of the node that holds the lease, None when nobody does, "" when it has not said yet."""
        ...
