"""What the processes of a node ask of each other."""

from typing import Final, NamedTuple

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
