"""Rows that another node has read already: a cache behind the pages, shared by the nodes of a database (CACHE_URL).

What is shared is not a page but its rows: the body of an unbroken run of closed klines, exactly as the store prints it.
Which kline is the newest, and until when an answer counts, each node decides itself; so nothing shared ever expires by
the time of day, and every request for the same klines shares it, however it is written.

Key: format, generation, series, and span of open times. The generation is a random name that each writer stores when it
begins: two databases, or a database and its restored copy, never share a key. Value: a digest of key and rest, the
number of the change as of which the rows were read, the rows compressed. Rows are used only if this process knows that
no change since has touched them (app/holding/seen_changes.py), so no row is older than what this process has seen; and
only if the digest fits, so a value of another program counts as none.

Short runs are not shared: the store reads them as fast (ROWS_MIN).
"""

import struct
from collections.abc import Callable
from typing import Final

import xxhash
import zstandard

from app.domain.series import Series
from app.domain.span import Span
from app.holding.seen_changes import SeenChanges
from app.ports.cache import SharedCache
from app.ports.store import StoreReader

ROWS_MIN: Final = 100
TTL_MS: Final = 300_000  # a client that pages comes back within seconds; memory is the cache's, and others want it too
FORMAT: Final = 1  # of key and value; another version's values are under other keys
LEVEL: Final = 1  # 500 rows: 14 kB instead of 63 in 0.15 ms, and back in 0.05
BODY_BYTES_MAX: Final = 4 * 1024 * 1024

_HEAD: Final = struct.Struct("<QQ")  # digest, change


class SharedRows:
    """Reads runs of closed klines from the shared cache if they are there and still right, else from the store."""

    def __init__(
        self, store: StoreReader, cache: SharedCache, seen: SeenChanges, generation: Callable[[], str | None]
    ) -> None:
        """`generation` returns the name that the writer stored; None while it is not known, and nothing is shared."""
        self._store = store
        self._cache = cache
        self._seen = seen
        self._generation = generation
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()
        self.hits = 0
        self.misses = 0

    async def read(self, series: Series, span: Span, rows: int) -> tuple[int, bytes]:
        """At most `rows` rows that open in `span`: their number, and the body. Raises StoreUnavailable.

        Only a run without holes is shared: `rows` says how many open times `span` has.
        """
        generation = self._generation() if rows >= ROWS_MIN and self._cache.is_usable else None
        if generation is None or self._seen.stamp() is None:
            return await self._store.read_encoded(series, span, rows)
        key = f"klinenode:{FORMAT}:{generation}:{series.name}:{series.interval.code}:{span.start_ms}:{span.end_ms}"
        name = key.encode()
        value = await self._cache.get(name)
        if value is not None and (body := self._checked(name, value, series, span)) is not None:
            self.hits += 1
            return rows, body
        self.misses += 1
        stamp = self._seen.stamp()
        found, body = await self._store.read_encoded(series, span, rows)
        if found == rows and stamp is not None:
            rest = stamp.to_bytes(8, "little") + self._compressor.compress(body)
            self._cache.put(name, _digest(name, rest) + rest, TTL_MS)
        return found, body

    def _checked(self, name: bytes, value: bytes, series: Series, span: Span) -> bytes | None:
        """The body in `value`; None if it is not ours, or a change may have touched its rows since they were read."""
        if len(value) < _HEAD.size or _digest(name, value[8:]) != value[:8]:
            return None
        _, change = _HEAD.unpack_from(value)
        if not self._seen.is_unchanged(series, span, change):
            return None
        return self._decompressor.decompress(value[_HEAD.size :], max_output_size=BODY_BYTES_MAX)


def _digest(name: bytes, rest: bytes) -> bytes:
    return xxhash.xxh3_64_intdigest(name + rest).to_bytes(8, "little")
