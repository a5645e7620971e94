"""Klines as an Apache Arrow stream."""

from collections.abc import Mapping
from typing import Protocol


class ArrowMissing(Exception):
    """The library that makes Arrow is not installed; the message says how to install it."""


class ArrowKlines(Protocol):
    """Makes the parts of Arrow streams of klines. A stream is one `begin`, any number of `klines`, and `END`.

    Every method raises ArrowMissing, and takes milliseconds: call them in a thread.
    """

    def begin(self, facts: Mapping[str, str]) -> bytes:
        """The first part: the schema, which states `facts` as its metadata."""
        ...

    def klines(self, symbol: str, body: bytes) -> bytes:
        """The klines of one symbol, from the body of an answer. Raises ValueError for a number that does not fit."""
        ...


END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The last part of every stream."""
