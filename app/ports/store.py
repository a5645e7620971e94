"""The store: rows, ledger, and the other records that a node keeps in its database."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from app.domain.interval import Interval
from app.domain.kind import Kind
from app.domain.ledger import Ledger
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.domain.verification import Verification
from app.ports.errors import StoreDamaged


class Invalidated(NamedTuple):
    """Roll-ups that were deleted because their parts changed; they are made again. `ledger` is the one afterwards."""

    series: Series
    ledger: Ledger
    spans: Spans


class Committed(NamedTuple):
    """The result of committing a batch.

    `ledger` is the ledger afterwards, `granted` the spans that the source was allowed to write, `revised` the number of
    held rows replaced or deleted. `changed` are the spans of those rows and of times that were recorded absent and
    no longer are; `unheld` are the roll-ups of `changed` that were deleted.
    """

    ledger: Ledger
    granted: Spans
    revised: int
    changed: Spans = Spans()
    unheld: tuple[Invalidated, ...] = ()


class Disagreement(NamedTuple):
    """The exchange's own intervals contradict each other: klines of `series` do not add up to one of interval `other`.

    `ours` is their roll-up, `theirs` the exchange's row of `other` that opens at `open_ms`; both as JSON.
    """

    series: Series
    open_ms: int
    other: Interval
    ours: str
    theirs: str
    seen_ms: int


class Snapshot(NamedTuple):
    """Rows and ledger of a series, read in one transaction."""

    rows: list[Any]
    ledger: Ledger


class Relisting(NamedTuple):
    """The replacement of `former`, the listing that owned a symbol, by `listing`, another coin under the same symbol.

    `firsts`: by kind, the open time of the first row of `listing`. Earlier rows belong to `former`. Later rows belong
    to `listing`: they are kept if `keeps_newer`, otherwise fetched again, because they were stored with the precision
    of `former`.
    """

    former: Listing
    listing: Listing
    firsts: Mapping[Kind, int]
    keeps_newer: bool


class Sealed(NamedTuple):
    """One step of sealing or unsealing: how many rows, the bytes of their block, and where to go on (None: done)."""

    rows: int
    body_bytes: int
    next_ms: int | None


class BlockCheck(NamedTuple):
    """Some blocks compared with their SHA-256: the id of the last one (0: none left), their number, and the damaged."""

    last: int
    blocks: int
    damaged: Sequence[StoreDamaged]


EVERYTHING: Final = Span(0, 1 << 53)
"""The changed span of a series when it is not known which open times changed."""


class StoreLibrary(NamedTuple):
    """The library by which a store accesses its database."""

    name: str
    version: str
    note: str | None
    """A known fault of this version, and what must not be done because of it."""


class RowReader(Protocol):
    """Reads of rows and ledgers, of now or of a past time (app.holding.as_of)."""

    async def read(self, series: Series, window: Span, limit: int, *, newest: bool = False) -> Snapshot:
        """At most `limit` rows that open in `window`, the oldest or the `newest`, ascending; and the ledger."""
        ...

    async def read_encoded(
        self, series: Series, window: Span, limit: int, *, newest: bool = False
    ) -> tuple[int, bytes]:
        """The rows of `read`, printed as REST does: their number, and the JSON array of them as an answer's body."""
        ...

    async def ledgers(self) -> dict[Series, Ledger]:
        """The ledgers of all series."""
        ...


class StoreReader(RowReader, Protocol):
    """Reads of the store. Any number may run at once; they never wait for the writer."""

    async def read_spans(self, wanted: Mapping[Series, Span]) -> dict[Series, list[Any]]:
        """By series: its rows, ascending, that open in its span of `wanted`. Series without rows are left out."""
        ...

    async def ledgers_as_of(self, at_ms: int, wanted: Collection[Series] | None = None) -> dict[Series, Ledger]:
        """The ledgers, of `wanted` series or all, after every commit up to `at_ms`, inclusive. Raises NotRecorded.

        The time of a commit is the clock's, and never before that of the commit before it.
        """
        ...

    async def rows_as_of(
        self, series: Series, held: Spans, limit: int, at_ms: int, *, newest: bool = False
    ) -> list[Any]:
        """At most `limit` rows that opened in `held` after every commit up to `at_ms`, ascending. Raises NotRecorded.

        They are the oldest or the `newest`. `held` are spans that were held then, by `ledgers_as_of`.
        """
        ...

    async def stand_down(self) -> tuple[int, str] | None:
        """The stored stand-down as (until_ms, reason); None when none was ever recorded."""
        ...

    async def document(self, name: str) -> tuple[bytes, int] | None:
        """A stored document, such as exchangeInfo, as the exchange sent it, and when it was stored (ms)."""
        ...

    async def anchors(self) -> dict[str, int]:
        """By series name: the open time (ms) of one of its 3d klines at the exchange, which fixes its 3d grid."""
        ...

    async def extra_wishes(self) -> dict[Series, Span]:
        """By series: the span that an operator wished for beyond BACKFILL_DAYS (`klinenode backfill`)."""
        ...

    async def listings(self) -> dict[str, Listing]:
        """By symbol: the listing whose klines are held under it."""
        ...

    async def verifications(self) -> dict[Series, Verification]:
        """By series: which spans were compared with the exchange, and when."""
        ...

    async def disagreements(self) -> list[Disagreement]:
        """The recorded klines in which the exchange contradicts itself."""
        ...

    async def revisions(self) -> dict[Series, int]:
        """By series: how many rows were replaced or deleted since the database was created."""
        ...

    async def revised(self, series: Series, window: Span, limit: int) -> list[int]:
        """The first `limit` open times (ms) in `window` of which a held row was ever replaced or deleted, ascending."""
        ...

    async def check_blocks(self, after: int, number: int) -> BlockCheck:
        """Compare the next `number` sealed blocks after the one with id `after` with their SHA-256."""
        ...


class OpenReader(StoreReader, Protocol):
    """A reader that owns its database connections."""

    async def close(self) -> None:
        """Close all connections after the running reads have finished."""
        ...


class StoreWriter(StoreReader, Protocol):
    """Writes of the store. Only the holder of the writer lease has one."""

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Write rows and ledger spans of all `batches` in one transaction. Raises StoreUnavailable: nothing is written.

        A source never overwrites a source of higher rank. The old row of a replaced one is kept in the revisions.
        """
        ...

    async def seal(self, series: Series, window: Span) -> Sealed:
        """Seal the oldest unsealed rows of `window` that form a whole block; `window.end_ms`: the block ends by then.

        Whole means that every open time is held or proven absent. Rows, ledger and answers stay what they are.
        """
        ...

    async def unseal(self, series: Series, window: Span) -> Sealed:
        """Turn the oldest block of `window` into rows. Raises StoreDamaged."""
        ...

    async def give_up(self, series: Series, span: Span) -> Ledger | None:
        """Delete the block of `span` if it is damaged, and make its rows unknown; returns the ledger afterwards.

        Returns None if there is no such block, or nothing is wrong with it.
        """
        ...

    async def save_stand_down(self, until_ms: int, reason: str) -> None:
        """Store that no request may be sent before `until_ms`."""
        ...

    async def save_document(self, name: str, body: bytes, stored_ms: int) -> None:
        """Store a document under `name`, replacing the earlier one."""
        ...

    async def save_listings(self, listings: Sequence[Listing]) -> None:
        """Store which listing the klines held under each symbol belong to."""
        ...

    async def relist(self, relisting: Relisting) -> dict[Series, Ledger]:
        """Move rows older than `relisting.firsts` to the former listing; returns the ledgers that changed."""
        ...

    async def unlist(self, listing: Listing, since_ms: int) -> dict[Series, Ledger]:
        """Make absent times before `since_ms` unknown, since the listing began earlier; returns changed ledgers."""
        ...

    async def save_anchor(self, name: str, open_ms: int) -> None:
        """Store one open time of the 3d grid of the series called `name`."""
        ...

    async def save_verified(self, series: Series, spans: Spans, at_ms: int) -> Verification:
        """Store that the comparison of `spans` began at `at_ms`; returns all checks of the series.

        Rows that changed at `at_ms` or later are left out, because the comparison may have read the old ones.
        """
        ...

    async def save_disagreement(self, disagreement: Disagreement) -> None:
        """Store where the exchange contradicts itself, replacing an earlier record of the same kline."""
        ...

    async def save_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Store spans that an operator wished for; an earlier span of a series is widened to include the new one."""
        ...

    async def withdraw_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Delete spans that an operator wished for. One in the middle of a wish cannot be cut out: that wish stays."""
        ...


class OpenWriter(StoreWriter, OpenReader, Protocol):
    """A writer that owns its database connections. Only the writer opened last may commit."""

    @property
    def is_deposed(self) -> bool:
        """Whether another writer was opened later, so that this one can no longer write."""
        ...

    def is_replaced(self) -> bool:
        """Whether the database was deleted or replaced, so that this writer can no longer write."""
        ...

    def log_complaint(self) -> str | None:
        """Why the write-ahead log cannot be truncated, and what to do about it; None when it can."""
        ...
