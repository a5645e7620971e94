"""What the writer knows it holds: the ledger of every series and the anchors of the 3d grids, in memory."""

from collections.abc import Mapping

from app.domain.interval import Grid
from app.domain.ledger import Ledger
from app.domain.span import Span
from app.ports import Series

_EMPTY = Ledger()


class Holdings:
    """A copy of the store's ledger that is changed only after a commit succeeded."""

    def __init__(self) -> None:
        self._ledgers: dict[Series, Ledger] = {}
        self._anchors: dict[str, int] = {}
        self._symbols: set[str] = set()
        self.extra_wishes: dict[Series, Span] = {}

    def load(
        self, ledgers: Mapping[Series, Ledger], anchors: Mapping[str, int], extra_wishes: Mapping[Series, Span]
    ) -> None:
        """Take over what the store says."""
        self._ledgers = dict(ledgers)
        self._anchors = dict(anchors)
        self._symbols = {series.symbol for series in ledgers}
        self.extra_wishes = dict(extra_wishes)

    def ledger(self, series: Series) -> Ledger:
        """The ledger of a series; empty when nothing was ever asked."""
        return self._ledgers.get(series, _EMPTY)

    def set_ledger(self, series: Series, ledger: Ledger) -> None:
        """Take over the ledger as it was committed."""
        self._ledgers[series] = ledger
        self._symbols.add(series.symbol)

    def all(self) -> Mapping[Series, Ledger]:
        """Every ledger."""
        return self._ledgers

    def symbols(self) -> set[str]:
        """Every symbol that something is known of."""
        return self._symbols

    def grid(self, series: Series) -> Grid:
        """The grid of a series, anchored when its anchor is known."""
        return series.interval.anchored(self._anchors.get(series.symbol))

    def is_anchored(self, series: Series) -> bool:
        """Whether the grid of a series says which rows must exist."""
        return not series.interval.needs_anchor or series.symbol in self._anchors

    def set_anchor(self, symbol: str, open_ms: int) -> None:
        """Take over an anchor that was saved."""
        self._anchors[symbol] = open_ms
