"""What a process may do: write to the database, or read what another process writes there.

A process has one role at a time and keeps it in `Parts.role`. Services read the role at the moment of use:
a role is swapped as one value, and no service is changed when that happens.
"""

from collections.abc import Sequence
from typing import Protocol

from app.domain.interval import Grid
from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span
from app.node.exchange_clock import KeptTime
from app.ports.errors import StoreDamaged
from app.ports.store import OpenWriter
from app.verifying.verify import Auditors


class Role(Protocol):
    """The operations that depend on a process's role: `Writer` or `Follower`."""

    # --- whether it may write -----------------------------------------------------------------------------------

    @property
    def is_writer(self) -> bool:
        """Whether this process ingests, backfills and may write."""
        ...

    @property
    def store(self) -> OpenWriter:
        """The store, open for writing. Raises StoreUnavailable in a process that does not write."""
        ...

    @property
    def auditors(self) -> Auditors:
        """What compares klines with the exchange. Raises StoreUnavailable in a process that does not write."""
        ...

    # --- how current this process's memory is -------------------------------------------------------------------

    def are_copies_current(self) -> bool:
        """Whether the tails in memory match the store."""
        ...

    def ledger_as_of_ms(self) -> int:
        """The moment that the ledger in memory describes, ms since the Unix epoch."""
        ...

    def last_seen_ms(self, series: Series) -> int | None:
        """When the socket that carries `series` last delivered anything; None when no socket of this process does."""
        ...

    # --- what a writer keeps; a follower leaves it to the writer ------------------------------------------------

    async def keep_read(self, series: Series, grid: Grid, span: Span, rows: Sequence[Row]) -> None:
        """Commit rows of `span` that were read through, where they are wished."""
        ...

    async def keep_symbols(self, body: bytes, received_ms: int) -> None:
        """Store exchangeInfo as received. Raises StoreUnavailable."""
        ...

    async def keep_time(self, kept: KeptTime) -> None:
        """Store the clock correction. Raises StoreUnavailable."""
        ...

    async def keep_stand_down(self, until_ms: int, reason: str) -> None:
        """Store a stand-down. Raises StoreUnavailable."""
        ...

    # --- what has happened --------------------------------------------------------------------------------------

    def repair(self, error: StoreDamaged) -> None:
        """A read found a damaged block: it is deleted, and its rows are fetched again."""
        ...

    def wake(self) -> None:
        """Plan again: wishes or held klines have changed."""
        ...

    def symbols_changed(self) -> None:
        """The exchange's list of symbols was read."""
        ...

    def store_recovered(self) -> None:
        """The database accepts writes again."""
        ...

    def exists(self, series: Series, closed_ms: int) -> None:
        """REST has a closed kline of `series` that ends at `closed_ms`."""
        ...

    # --- what health and metrics report -------------------------------------------------------------------------

    @property
    def missing_klines(self) -> int | None:
        """Klines that are wished and not held; None in a process that does not plan."""
        ...

    @property
    def paused(self) -> str | None:
        """Why history is not being filled; None when it is."""
        ...

    @property
    def fetch_error(self) -> str | None:
        """The last failed fetch of the reconciler."""
        ...

    @property
    def write_queue_depth(self) -> int:
        """Closed klines that wait to be written."""
        ...

    @property
    def intake_depth(self) -> int:
        """Socket events that wait to be processed."""
        ...

    def log_complaint(self) -> str | None:
        """What is wrong with the database's write-ahead log; None when nothing is."""
        ...

    def sockets_status(self) -> dict[str, object]:
        """The sockets that ingest klines."""
        ...

    def streams_status(self) -> dict[str, object]:
        """The sockets that are open for streams that clients subscribe to."""
        ...
