"""What was seen lately, bounded in bytes: the older of two halves goes when the newer one is full."""

from collections.abc import Sized
from typing import Final, Generic, TypeVar

OVERHEAD_BYTES: Final = 400
"""Of an entry, beside its bytes. Measured by tracemalloc: 155 of a page that was asked for, 322 of a request whose
meaning is known; a dictionary that has just grown has room of 70 more."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """At most `bytes_max` for both halves; what is added twice in a while stays."""

    def __init__(self, bytes_max: int) -> None:
        self._half_max = bytes_max // 2
        self._newer: dict[Key, Value] = {}
        self._older: dict[Key, Value] = {}
        self._newer_bytes = self._older_bytes = 0

    @property
    def bytes(self) -> int:
        """What is kept takes."""
        return self._newer_bytes + self._older_bytes

    def get(self, key: Key) -> Value | None:
        """What was added with `key` lately; values are true."""
        return self._newer.get(key) or self._older.get(key)

    def add(self, key: Key, value: Value, *sized: Sized) -> None:
        """Keep `value`, in place of an earlier one; `sized` is what there is of varying size in both."""
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
