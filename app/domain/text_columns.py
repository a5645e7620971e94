"""Klines as columns of the texts that the exchange printed, which need not be printed again."""

from collections.abc import Sequence
from typing import Any, Final

from app.domain.columns import Columns, LazyColumns
from app.domain.integers import integers

_CLOSE_MS: Final = 6
_TRADES: Final = 8


class TextColumns(LazyColumns):
    """Klines whose times and trades are converted only when their rows are used."""

    __slots__ = ("texts",)

    def __init__(self, texts: Sequence[list[str]], opens_ms: Sequence[int]) -> None:
        """`texts`: a column for each value of REST's rows but the last, in its form; `opens_ms`: the first of them."""
        super().__init__(opens_ms)
        self.texts = texts

    def _all_columns(self) -> tuple[list[Any], ...]:
        made: list[list[Any]] = [*self.texts]
        made[0] = list(self._opens_ms)
        made[_TRADES] = integers(",".join(self.texts[_TRADES]))
        del made[_CLOSE_MS]
        return tuple(made)

    def _run(self, index: slice) -> Columns:
        return TextColumns([column[index] for column in self.texts], self._opens_ms[index])
