"""The shared cache of a node without CACHE_URL: there is none, so nothing is found and nothing is kept."""


class NoCache:
    """A SharedCache that is never usable."""

    is_usable = False
    errors = 0

    async def get(self, key: bytes) -> bytes | None:
        """None."""
        return None

    def put(self, key: bytes, value: bytes, ttl_ms: int) -> None:
        """Drop `value`."""

    async def run(self) -> None:
        """Return at once: there is nothing to connect to."""

    async def close(self) -> None:
        """Do nothing."""
