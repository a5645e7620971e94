"""What is special about one kind of series, as one record; the records themselves stand in app/kinds/."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Final, Protocol

from app.domain.interval import Grid, Interval

CLOSE_TIME: Final = "close_time"
"""In `Kind.printed`: the last millisecond of a row's time, which no column holds."""

_WORD: Final = re.compile(r"[a-z_]+", re.ASCII)
_FIELD: Final = re.compile(r"%\((\w+)\)([ds])")


class Row(Protocol):
    """A row of a series: a named tuple of exact texts and integers, led by the time at which it opens (ms)."""

    @property
    def open_ms(self) -> int:
        """When the row opens."""
        ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, index: int, /) -> Any: ...

    def __lt__(self, other: Any, /) -> bool: ...


class Bucket(IntEnum):
    """Requests that the exchange counts apart, whatever their weight: so many in five minutes (binance-facts 1.1)."""

    FUNDING = 0
    DATA = 1


@dataclass(frozen=True, slots=True)
class RestPages:
    """How REST gives rows: `path?<symbol>=…&<interval>=…&limit=…` with startTime and endTime, both inclusive."""

    path: str
    symbol: str
    interval: str
    rows_max: int
    """The largest limit that the exchange accepts."""
    rows_thrifty: int
    """The limit with the most rows for their weight."""
    weight: Callable[[int], int]
    """What a request costs, by its limit."""
    decode: Callable[[bytes, Grid], Sequence[Row]]
    """The rows of an answer, checked, strictly ascending. Raises BadKline; nothing of a bad answer is used."""
    bucket: Bucket | None = None


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of series. Two kinds are equal when they are the same object."""

    name: str
    """Its word in the settings."""
    suffix: str
    """What follows the symbol and an @ in the name of a series, as in the exchange's streams; "" for none."""
    row: type[Any]
    """The named tuple of a row; its first field is `open_ms`."""
    columns: tuple[tuple[str, type], ...]
    """The columns of a stored row in the order of `row`'s fields, `open_time` first: name, and int or str."""
    table: str
    """What the tables of its rows begin with; one for each interval."""
    printed: str
    """A row as REST prints it: `%(column)d` or `%(column)s` for a column or CLOSE_TIME."""
    rest: RestPages
    encoder: Callable[[Any, int], bytes] | None = None
    """The same as `printed` in code, where many rows are printed: 1.9 µs for a kline instead of 4."""
    intervals: tuple[Interval, ...] = ()
    """The intervals that exist, whatever INTERVALS says; empty: those of INTERVALS."""
    of_pair: bool = False
    """Whether a series belongs to a pair and not to each of its contracts."""
    follows_symbols: bool = False
    """Whether it is wished of every symbol of the wish."""
    begins_with_listing: bool = False
    """Whether there is nothing before the symbol was listed; otherwise rows may begin at any time."""
    rolls_up: bool = False
    """Whether rows of a longer interval are made of those of a shorter one, so that one refutes a hole in the other."""
    is_streamed: bool = False
    """Whether sockets bring its rows as they close."""
    is_archived: bool = False
    """Whether data.binance.vision has files of it."""
    live_age_ms_max: int = 0
    """For how long a row in progress may be answered after it was last heard of."""

    def __post_init__(self) -> None:
        names = [self.table, *(name for name, _ in self.columns)]
        assert all(map(_WORD.fullmatch, names)), f"{self.name}: tables and columns are named in statements, as words"
        assert "'" not in self.printed, f"{self.name}: `printed` is quoted in statements"

    def whose(self, symbol: str) -> str:
        """Whose series this kind has for a listed symbol, which may be a dated contract of a pair."""
        return symbol.partition("_")[0] if self.of_pair else symbol

    def intervals_of(self, wished: Sequence[Interval]) -> Sequence[Interval]:
        """The intervals to hold when `wished` are."""
        return self.intervals or wished

    @cached_property
    def encode(self) -> Callable[[Any, int], bytes]:
        """Prints a row, given its last millisecond, as REST does. Texts are plain decimals: nothing needs escaping."""
        return self.encoder or self.encoded_by_template

    def encoded_by_template(self, row: Row, close_ms: int) -> bytes:
        """A row as `printed` says."""
        names = [*(name for name, _ in self.columns), CLOSE_TIME]
        values = dict(zip(names, (*row, close_ms), strict=True))
        return (self.printed % values).encode()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"the kind {self.name} exists once in a process; send its suffix to another one")

    def print_with(self, expressions: dict[str, str]) -> tuple[str, list[str]]:
        """`printed` for a printf that takes values by position: its format, and the expression of each value."""
        named = [match[1] for match in _FIELD.finditer(self.printed)]
        return _FIELD.sub(r"%\2", self.printed), [expressions.get(name, name) for name in named]
