"""Where work is measured for traces of OpenTelemetry; nothing is, unless OTEL_… asks for it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple, Protocol, Self

Attributes = Mapping[str, str | int]

Traced = Callable[[str, Attributes], AbstractContextManager[object]]
"""Measures a piece of work, by its name and attributes; what is asked of the exchange inside belongs to it."""

Headers = Sequence[tuple[bytes, bytes]]

_NOTHING: Final = nullcontext()


def untraced(_name: str, _attributes: Attributes) -> AbstractContextManager[object]:
    """The Traced of a process without traces."""
    return _NOTHING


class ServedRequest(NamedTuple):
    """A request to this node, as far as its span tells. `parent`: the headers by which a client's span reaches it."""

    method: str
    path: str
    query: bytes
    parent: Headers
    route: str | None = None
    """The path's pattern, if it is known already."""


class RequestSpan(AbstractContextManager["RequestSpan"], Protocol):
    """The span of a request while it is answered, which its client's span is the parent of."""

    def __enter__(self) -> Self: ...

    def headers(self) -> Headers:
        """The headers that make this span the parent of another process's."""
        ...

    def answered(self, status: int) -> None:
        """The answer's head is sent."""
        ...

    def routed(self, route: str) -> None:
        """The pattern that the path belongs to is known."""
        ...


class RequestTraces(Protocol):
    """Measures the requests to this node."""

    @property
    def carriers(self) -> Collection[bytes]:
        """The names, in lower case, of the headers by which a parent is told."""
        ...

    def serve(self, request: ServedRequest) -> RequestSpan:
        """The span of a request that will be answered inside of it."""
        ...

    def served(self, request: ServedRequest, status: int, elapsed_ns: int) -> None:
        """A request has been answered, and took `elapsed_ns`."""
        ...
