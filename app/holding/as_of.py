"""The store as it was at a past time: the same reads, of the ledgers and rows of then."""

from typing import Final

from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span
from app.ports.store import Snapshot, StoreReader

SINGLES_MAX: Final = 8
"""So many ledgers are read one by one, each from the whole log of up to a day; the next one asks for all at once."""

_EMPTY: Final = Ledger()


class AsOfReader:
    """Reads rows and ledgers as they were at `at_ms` (app.ports.store.RowReader).

    The ledgers that it has read are kept, because those of a past time do not change. Every read raises NotRecorded
    when it is not known what was held, and StoreUnavailable.
    """

    def __init__(self, store: StoreReader, at_ms: int) -> None:
        """`at_ms` must be past: a commit that is under way may still get this time."""
        self._store = store
        self._ledgers: dict[Series, Ledger] = {}
        self._has_all = False
        self.at_ms = at_ms

    async def ledger(self, series: Series) -> Ledger:
        """The ledger of one series."""
        if series not in self._ledgers and not self._has_all:
            if len(self._ledgers) == SINGLES_MAX:
                return (await self.ledgers()).get(series, _EMPTY)
            found = await self._store.ledgers_as_of(self.at_ms, [series])
            self._ledgers[series] = found.get(series, _EMPTY)
        return self._ledgers.get(series, _EMPTY)

    async def ledgers(self) -> dict[Series, Ledger]:
        """The ledgers of all series."""
        if not self._has_all:
            self._ledgers = await self._store.ledgers_as_of(self.at_ms)
            self._has_all = True
        return self._ledgers

    async def read(self, series: Series, window: Span, limit: int, *, newest: bool = False) -> Snapshot:
        """At most `limit` rows that opened in `window`, the oldest or the `newest`, ascending; and the ledger."""
        ledger = await self.ledger(series)
        held = ledger.held.clip(window)
        rows = await self._store.rows_as_of(series, held, limit, self.at_ms, newest=newest)
        return Snapshot(rows, ledger)

    async def read_encoded(
        self, series: Series, window: Span, limit: int, *, newest: bool = False
    ) -> tuple[int, bytes]:
        """The rows of `read`, printed as REST does: their number, and the JSON array of them as an answer's body."""
        rows, _ = await self.read(series, window, limit, newest=newest)
        shift, encode = series.interval.grid.shift, series.kind.encode
        return len(rows), b"[" + b",".join([encode(row, shift(row.open_ms, 1) - 1) for row in rows]) + b"]"
