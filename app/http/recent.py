"""A cache of recent entries, bounded in bytes: when the newer of its two halves is full, the older one is dropped."""

from collections.abc import Sized
from typing import Final, Generic, TypeVar

OVERHEAD_BYTES: Final = 400
"""Memory of an entry in addition to its sized parts. Measured by tracemalloc: 155 bytes for a requested page's key, 322
for a parsed request; a dictionary that has just grown takes 70 more for each entry."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Entries in two halves of `bytes_max` together; adding an entry again moves it to the newer half."""

    def __init__(self, bytes_max: int) -> None:
        self._half_max = bytes_max // 2
        self._newer: dict[Key, Value] = {}
        self._older: dict[Key, Value] = {}
        self._newer_bytes = self._older_bytes = 0

    @property
    def bytes(self) -> int:
        """The bytes that all entries take, with overhead."""
        return self._newer_bytes + self._older_bytes

    def get(self, key: Key) -> Value | None:
        """The value that was recently added with `key`, else None. Values must be truthy."""
        return self._newer.get(key) or self._older.get(key)

    def add(self, key: Key, value: Value, *sized: Sized) -> None:
        """Add or replace an entry; `sized` are the parts of key and value whose size varies. Too large: not kept."""
        if key in self._newer:
            self._newer[key] = value
            return
        cost = OVERHEAD_BYTES + sum(map(len, sized))
        if cost > self._half_max:
            return
        if self._newer_bytes + cost > self._half_max:
            self._newer, self._older = {}, self._newer
            self._newer_bytes, self._older_bytes = 0, self._newer_bytes
        self._newer[key] = value
        self._newer_bytes += cost
