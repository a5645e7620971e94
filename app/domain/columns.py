"""Klines side by side: many of them as ten columns, in which they are parsed, travel and are stored."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, overload

from app.domain.interval import FixedGrid, Grid
from app.domain.kline import Kline
from app.domain.span import Span, Spans

_to_kline = partial(tuple.__new__, Kline)  # Kline._make without its length check: the columns are counted by their type


_OPEN_MS: Final = Kline._fields.index("open_ms")
_INTEGERS: Final = frozenset({_OPEN_MS, Kline._fields.index("trades")})


class Columns(Sequence[Kline]):
    """An immutable run of klines in ascending order. Each becomes a Kline only when it is looked at.

    Ten lists instead of a tuple for each kline: 40,000 rows are sliced, checked and handed to the database in a tenth
    of the time, and cross to another process as ten texts.
    """

    __slots__ = ("_columns",)

    def __init__(self, columns: Iterable[list[Any]]) -> None:
        """The columns in the order of Kline's fields, all of one length."""
        self._columns: tuple[list[Any], ...] = tuple(columns)
        assert len(set(map(len, self._columns))) <= 1, "columns of different length"

    @classmethod
    def of(cls, klines: Sequence[Kline]) -> "Columns":
        """`klines`, which must be ascending, side by side."""
        if isinstance(klines, Columns):
            return klines
        return cls(map(list, zip(*klines, strict=True))) if klines else EMPTY

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """`parts`, each of which begins after the one before it, as one run."""
        if len(parts) < 2:
            return parts[0] if parts else EMPTY
        return Columns(list(chain.from_iterable(each)) for each in zip(*(part.columns for part in parts), strict=True))

    @property
    def opens_ms(self) -> Sequence[int]:
        """When the klines open."""
        return self._columns[_OPEN_MS]

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """The columns in the order of Kline's fields. Not to be changed."""
        return self._columns

    def __len__(self) -> int:
        return len(self.opens_ms)

    @overload
    def __getitem__(self, index: int) -> Kline: ...

    @overload
    def __getitem__(self, index: slice) -> "Columns": ...

    def __getitem__(self, index: int | slice) -> "Kline | Columns":
        if isinstance(index, slice):
            return self._run(index)
        return _to_kline([column[index] for column in self.columns])

    def _run(self, index: slice) -> "Columns":
        return Columns(column[index] for column in self.columns)

    def __iter__(self) -> Iterator[Kline]:
        return map(_to_kline, zip(*self.columns, strict=True))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Columns):
            return self.columns == other.columns
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # like the list that it stands for

    def __repr__(self) -> str:
        return f"Columns of {len(self)} klines from {self.opens_ms[:1]}"

    def __reduce__(self) -> tuple[object, ...]:
        texts = [
            "\n".join(map(str, column) if number in _INTEGERS else column) for number, column in enumerate(self.columns)
        ]  # a fifth of the cost of pickling each text
        return _unfold, (len(self), texts)

    def between(self, start_ms: int, end_ms: int) -> "Columns":
        """The klines that open in `[start_ms, end_ms)`."""
        opens_ms = self.opens_ms
        if not opens_ms or (start_ms <= opens_ms[0] and opens_ms[-1] < end_ms):
            return self
        return self[bisect_left(opens_ms, start_ms) : bisect_left(opens_ms, end_ms)]

    def within(self, spans: Spans) -> "Columns":
        """The klines that open inside `spans`."""
        if len(spans) == 1:
            return self.between(*spans.hull)
        return Columns.joined([part for span in spans if (part := self.between(*span))] or [self[:0]])

    def closed_by(self, time_ms: int, grid: Grid) -> "Columns":
        """The klines that have ended at `time_ms`."""
        return self[: bisect_right(self.opens_ms, time_ms, key=lambda open_ms: grid.shift(open_ms, 1))]

    def spans(self, grid: Grid) -> Spans:
        """The times that the klines, which open on `grid`, fill."""
        opens_ms = self.opens_ms
        if not opens_ms:
            return Spans()
        if isinstance(grid, FixedGrid) and opens_ms[-1] - opens_ms[0] == (len(opens_ms) - 1) * grid.step_ms:
            return Spans([Span(opens_ms[0], opens_ms[-1] + grid.step_ms)])
        return Spans(Span(open_ms, grid.shift(open_ms, 1)) for open_ms in opens_ms)

    def values(self, symbol: str) -> list[Any]:
        """Row after row in one list, each led by `symbol`: what a statement for many rows binds."""
        width = len(self.columns) + 1
        values: list[Any] = [symbol] * (width * len(self))
        for number, column in enumerate(self.columns, start=1):
            values[number::width] = column
        return values


def newest_open_ms(klines: Sequence[Kline]) -> int:
    """When the last of `klines` opens, without making a kline of it."""
    return klines.opens_ms[-1] if isinstance(klines, Columns) else klines[-1].open_ms


def _unfold(count: int, texts: list[str]) -> Columns:
    if not count:
        return EMPTY
    split = (text.split("\n") for text in texts)
    return Columns(list(map(int, column)) if number in _INTEGERS else column for number, column in enumerate(split))


EMPTY: Final = Columns([[] for _ in Kline._fields])
