"""A line: how a process that is the writer is found by others, and how these connect to it."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


class Line(Protocol):
    """The place of one service of the writer. Every process has one, since any may become the writer."""

    async def serve(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Accept connections, each by a new protocol of `make`; takes over from a writer that died. Raises OSError."""
        ...

    def close(self) -> None:
        """Accept no more connections; those that are open stay. Does nothing when it does not serve.

        If another process has taken over already, others go on reaching that one.
        """
        ...

    async def connect(self, make: Callable[[], ProtocolT]) -> ProtocolT:
        """Connect to the writer, by the protocol that `make` returns. Raises OSError."""
        ...
