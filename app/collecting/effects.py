"""What a session of the collector wants done: values that the runtime executes and the simulation inspects."""

from typing import NamedTuple, TypeAlias

from app.domain.records import Record
from app.domain.venue import Request


class Open(NamedTuple):
    """Open the socket number `socket` at `route`; report `opened` or `closed`."""

    socket: int
    route: str


class Send(NamedTuple):
    """Send `text` on an open socket."""

    socket: int
    text: str


class Close(NamedTuple):
    """Close the socket. It is reported as `closed` if it was open; frames that still come are not wanted."""

    socket: int


class Fetch(NamedTuple):
    """Send a GET; report `answered` with the same `fetch`, or `failed`."""

    fetch: int
    request: Request


class Emit(NamedTuple):
    """Publish a record. Records of one feed are published in the order of their effects."""

    record: Record


Effect: TypeAlias = Open | Send | Close | Fetch | Emit
