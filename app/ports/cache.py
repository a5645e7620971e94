"""The shared cache: bytes that the nodes of one database keep for each other, any of which may be lost at any time."""

from typing import Protocol


class SharedCache(Protocol):
    """A cache that is never needed: whoever finds nothing in it makes the value himself.

    No method raises an error of the cache's own, and none waits longer than some milliseconds, whatever it does.
    """

    @property
    def is_usable(self) -> bool:
        """Whether asking is worthwhile: there is such a cache, and it answers."""
        ...

    @property
    def errors(self) -> int:
        """How many commands and connections have failed."""
        ...

    async def get(self, key: bytes) -> bytes | None:
        """The value that was put under `key`; None if there is none, or the cache does not answer in time.

        The bytes may be those of another program, or of another version of this one: check them.
        """
        ...

    def put(self, key: bytes, value: bytes, ttl_ms: int) -> None:
        """Keep `value` for at most `ttl_ms`, soon. It is lost if the cache is away or full, or if much is waiting."""
        ...

    async def run(self) -> None:
        """Keep the cache connected, for ever."""
        ...

    async def close(self) -> None:
        """Close all connections. Does nothing when there is none."""
        ...
