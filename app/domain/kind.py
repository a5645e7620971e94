"""The record type that describes one kind of series; the records are in app/kinds/."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from types import UnionType
from typing import Any, Final, Protocol

from app.domain.interval import Grid, Interval

CLOSE_TIME: Final = "close_time"
"""The name in `Kind.printed` of a row's last millisecond, which is computed and not stored in a column."""

STAMP_TIME: Final = "stamp_time"
"""The name in `Kind.printed` of the time that the exchange states for a row: `RestPages.stamp_ms` after it opens."""

_WORD: Final = re.compile(r"[a-z_]+", re.ASCII)
_FIELD: Final = re.compile(r"%\((\w+)\)([ds])")


class Row(Protocol):
    """A row of a series: a named tuple of decimal texts and integers. Its first field is its open time in ms."""

    @property
    def open_ms(self) -> int:
        """The open time in ms."""
        ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, index: int, /) -> Any: ...

    def __lt__(self, other: Any, /) -> bool: ...


class Bucket(IntEnum):
    """What is counted by requests in five minutes instead of weight in a minute (binance-facts section 1.1).

    Each endpoint of /futures/data has a bucket of its own, and DATA counts them all: which of the two the exchange
    limits is unconfirmed, so both are counted. The numbers are places in the file of the rate state.
    """

    FUNDING = 0
    DATA = 1
    OPEN_INTEREST = 2
    TOP_ACCOUNTS = 3
    TOP_POSITIONS = 4
    ACCOUNTS = 5
    TAKERS = 6
    BASIS = 7
    DELIVERY = 8

    @property
    def whole(self) -> "Bucket":
        """The bucket that counts its requests together with those of others: DATA, or itself."""
        return self if self is Bucket.FUNDING else Bucket.DATA

    def limit(self, *, is_data_shared: bool) -> "Bucket":
        """The bucket whose requests are limited when one of this bucket is sent (setting DATA_BUCKET)."""
        return self.whole if is_data_shared else self


@dataclass(frozen=True, slots=True)
class RestPages:
    """How rows are requested from REST: `path?<symbol>=…&<interval>=…&limit=…`, startTime and endTime inclusive.

    `symbol` and `interval` are the names of these two parameters; an `interval` of "" is not sent.
    """

    path: str
    symbol: str
    interval: str
    rows_max: int
    """The largest limit that the exchange accepts."""
    rows_thrifty: int
    """The limit that returns the most rows for each unit of weight."""
    weight: Callable[[int], int]
    """The weight of a request, given its limit."""
    decode: Callable[[bytes, Grid, str], Sequence[Row]]
    """Decodes an answer's body into checked rows, strictly ascending, given the grid and the symbol (or pair) that was
    asked for. Raises BadKline for the whole answer, also when a row states another symbol."""
    rows_default: int = 500
    """How many rows an answer has at most if the client states no limit."""
    bucket: Bucket | None = None
    stamp_ms: int = 0
    """How long after a row's open time the time lies that the exchange states for it, and that parameters mean."""
    reach_ms: int | None = None
    """How far back the exchange has rows; None: to their begin. Where a kind has a reach, an answer has the newest
    `limit` rows of a window instead of the oldest, so that a window must not have more open times than that."""
    late_ms: int = 0
    """How long after its close the exchange may have no row yet, beside the grace that every kind has."""


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of series. Two kinds are equal when they are the same object."""

    name: str
    """Its name in messages and, for price klines, in the setting PRICE_KLINES."""
    suffix: str
    """The part of a series' name after the symbol and an @, as in `BTCUSDT@markPrice`; "": the name is the symbol."""
    row: type[Any]
    """The named tuple of a row; its first field is `open_ms`."""
    columns: tuple[tuple[str, type | UnionType], ...]
    """The columns of a stored row in the order of `row`'s fields, `open_time` first: name, and int, str or str | None.

    None is a value that nobody knows. It is stored as NULL and printed as an empty text.
    """
    table: str
    """The prefix of its tables' names. There is one table for each interval."""
    printed: str
    """The format of a row as REST prints it, with `%(name)d` or `%(name)s` for a column, CLOSE_TIME or STAMP_TIME."""
    rest: RestPages
    encoder: Callable[[Any, int], bytes] | None = None
    """A function that prints the same as `printed`, but faster: 1.9 µs for a kline instead of 4."""
    intervals: tuple[Interval, ...] = ()
    """The kind's only intervals, held whatever the setting INTERVALS says; empty: those of INTERVALS."""
    of_pair: bool = False
    """Whether a series belongs to a pair and not to each of its contracts."""
    follows_symbols: bool = False
    """Whether the node holds it for every symbol of the wish."""
    begins_with_listing: bool = False
    """Whether its rows begin with the symbol's listing; otherwise they may begin at any time."""
    rolls_up: bool = False
    """Whether longer rows are made of shorter ones. A row of one interval then disproves a hole in another."""
    is_streamed: bool = False
    """Whether sockets deliver its rows as they close."""
    is_archived: bool = False
    """Whether data.binance.vision has files of it."""
    live_age_ms_max: int = 0
    """How long a row in progress may be served after its last update, in ms."""
    is_gathered: bool = False
    """Whether rows are gathered in turn, as the kind's bucket allows, instead of as each closes. Such a series is no
    part of readiness, and is not compared with the exchange in rounds."""
    is_sparse: bool = False
    """Whether rows are events, at any times: a step of the grid has none, one or several. That a step is held means
    that all its rows are, if there are any, and a batch states so for its spans. Such rows are gathered, never sealed.
    """
    finished: Callable[[bytes, str], bytes] = lambda body, symbol: body
    """Completes the body of an answer of printed rows by what they all share: the symbol."""
    archived_form: Callable[[Sequence[Any], Any], Sequence[Row]] | None = None
    """Brings rows that came from the archive to REST's form, given what was learned about their symbol
    (app/binance/rest_form.py); None: they have it."""
    shows_listing: bool = True
    """Whether the begin of its rows, and their decimals, show which listing of a name they belong to."""

    def __post_init__(self) -> None:
        names = [self.table, *(name for name, _ in self.columns)]
        assert all(map(_WORD.fullmatch, names)), f"{self.name}: tables and columns are named in statements, as words"
        assert "'" not in self.printed, f"{self.name}: `printed` is quoted in statements"

    def whose(self, symbol: str) -> str:
        """Whose series `symbol` uses: its own, or its pair's where `of_pair` (BTCUSDT for BTCUSDT_261225)."""
        return symbol.partition("_")[0] if self.of_pair else symbol

    def intervals_of(self, wished: Sequence[Interval]) -> Sequence[Interval]:
        """The intervals that the node holds of this kind, `wished` being those of the setting INTERVALS."""
        return self.intervals or wished

    @cached_property
    def encode(self) -> Callable[[Any, int], bytes]:
        """Prints a row as REST does, from the row and its last ms. Texts are plain decimals: nothing needs escaping."""
        return self.encoder or self.encoded_by_template

    def encoded_by_template(self, row: Row, close_ms: int) -> bytes:
        """`row` formatted with `printed`."""
        names = [*(name for name, _ in self.columns), CLOSE_TIME, STAMP_TIME]
        texts = ("" if value is None else value for value in row)
        values = dict(zip(names, (*texts, close_ms, row.open_ms + self.rest.stamp_ms), strict=True))
        return (self.printed % values).encode()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"the kind {self.name} exists once in a process; send its suffix to another one")

    def print_with(self, expressions: dict[str, str]) -> tuple[str, list[str]]:
        """`printed` for a printf with positional values: the format, and an expression for each value.

        The expression of a name is taken from `expressions`, and is otherwise the name itself.
        """
        named = [match[1] for match in _FIELD.finditer(self.printed)]
        return _FIELD.sub(r"%\2", self.printed), [expressions.get(name, name) for name in named]
