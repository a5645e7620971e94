"""Klines as columns of the texts that the exchange printed, which need not be printed again."""

from collections.abc import Sequence
from typing import Any, Final

from app.domain.columns import Columns
from app.domain.integers import integers

_CLOSE_MS: Final = 6
_TRADES: Final = 8


class TextColumns(Columns):
    """Klines whose times and trades are converted only when their rows are used."""

    __slots__ = ("_opens_ms", "texts")

    def __init__(self, texts: Sequence[list[str]], opens_ms: Sequence[int]) -> None:
        """`texts`: a column for each value of REST's rows but the last, in its form; `opens_ms`: the first of them."""
        super().__init__(())
        self.texts = texts
        self._opens_ms = opens_ms

    @property
    def opens_ms(self) -> Sequence[int]:
        """The open times of the klines in ms, ascending; a range if none is missing between the first and the last."""
        return self._opens_ms

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """The columns in the order of Kline's fields, made at the first use."""
        if not self._columns:
            made: list[list[Any]] = [*self.texts]
            made[0] = list(self._opens_ms)
            made[_TRADES] = integers(",".join(self.texts[_TRADES]))
            del made[_CLOSE_MS]
            self._columns = tuple(made)
        return self._columns

    def _run(self, index: slice) -> Columns:
        return TextColumns([column[index] for column in self.texts], self._opens_ms[index])
