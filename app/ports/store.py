"""The store: rows, ledger and what else a node keeps."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from app.domain.interval import Interval
from app.domain.kind import Kind
from app.domain.ledger import Ledger
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.domain.verification import Verification


class Invalidated(NamedTuple):
    """Rolled-up klines whose parts have changed: no longer held, to be made anew. The ledger is the one afterwards."""

    series: Series
    ledger: Ledger
    spans: Spans


class Committed(NamedTuple):
    """What became of a batch: the ledger afterwards, the spans this source was granted, and what it changed.

    `changed` are the open times of held rows that became others or vanished, and those that were recorded absent and
    are not any longer; `unheld` what was made of the klines of these times.
    """

    ledger: Ledger
    granted: Spans
    revised: int
    changed: Spans = Spans()
    unheld: tuple[Invalidated, ...] = ()


class Disagreement(NamedTuple):
    """The exchange's own intervals contradict each other: klines of `series` do not add up to its `other` one.

    `ours` is what they add up to, `theirs` the exchange's own row of `other` that opens at `open_ms`; both as JSON.
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


class Change(NamedTuple):
    """What became of a series: the span of open times that may have changed, and its ledger afterwards."""

    span: Span
    ledger: Ledger


class Changes(NamedTuple):
    """What was committed since a change number, `last` being the newest one.

    Not `is_whole`: more has happened than is remembered, or it is another database; everything is to be read anew.
    """

    last: int
    is_whole: bool
    series: Mapping[Series, Change]


class Relisting(NamedTuple):
    """A name that another listing has taken over.

    `firsts`: by kind of the name's series, where the first row of `listing` opens. Rows from
    there on are `listing`'s own; unless `keeps_newer` they are to be fetched anew, as they were taken in by the other's
    precision.
    """

    former: Listing
    listing: Listing
    firsts: Mapping[Kind, int]
    keeps_newer: bool


EVERYTHING: Final = Span(0, 1 << 53)
"""The change of a series of which nobody can tell which open times it concerns."""


class StoreReader(Protocol):
    """Reads of the store. Any number at once; they never wait for the writer."""

    async def read(self, series: Series, window: Span, limit: int, *, newest: bool = False) -> Snapshot:
        """At most `limit` rows that open in `window`, ascending: the oldest ones, or the newest; and the ledger."""
        ...

    async def read_encoded(
        self, series: Series, window: Span, limit: int, *, newest: bool = False
    ) -> tuple[int, bytes]:
        """What `read` reads, as REST prints it: how many rows, and the body of an answer made of them."""
        ...

    async def ledgers(self) -> dict[Series, Ledger]:
        """The whole ledger."""
        ...

    async def changes(self, after: int | None) -> Changes:
        """What was committed after the change number `after`; by None one learns the newest number."""
        ...

    async def read_spans(self, wanted: Mapping[Series, Span]) -> dict[Series, list[Any]]:
        """The rows that open in a span of each of many series, ascending; series without any are left out."""
        ...

    async def stand_down(self) -> tuple[int, str] | None:
        """The stored stand-down as (until_ms, reason), if one was ever recorded."""
        ...

    async def document(self, name: str) -> tuple[bytes, int] | None:
        """A stored document (exchangeInfo as the exchange sent it) and when it was stored (ms)."""
        ...

    async def anchors(self) -> dict[str, int]:
        """By the name of a series: the open time of one of its 3d klines at the exchange, which fixes its 3d grid."""
        ...

    async def extra_wishes(self) -> dict[Series, Span]:
        """Spans that an operator asked for beyond BACKFILL_DAYS."""
        ...

    async def listings(self) -> dict[str, Listing]:
        """By symbol: the listing whose klines are held under that name."""
        ...

    async def verifications(self) -> dict[Series, Verification]:
        """What was compared with the exchange, and when."""
        ...

    async def disagreements(self) -> list[Disagreement]:
        """Where the exchange contradicts itself."""
        ...

    async def revisions(self) -> dict[Series, int]:
        """By series: how many rows were replaced since the database was made."""
        ...


class OpenReader(StoreReader, Protocol):
    """A reader with its connections."""

    async def close(self) -> None:
        """Close all connections; reads that are under way end first."""
        ...


class StoreWriter(StoreReader, Protocol):
    """Writes of the store; only the holder of the writer lease has one."""

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Write rows and ledger spans of all `batches` in one transaction. Raises StoreUnavailable: nothing is written.

        A source never overwrites what a source of higher rank has said; rows that change what was held leave the old
        row in the revisions.
        """
        ...

    async def save_stand_down(self, until_ms: int, reason: str) -> None:
        """Remember that no request may leave before `until_ms`."""
        ...

    async def save_document(self, name: str, body: bytes, stored_ms: int) -> None:
        """Keep a document."""
        ...

    async def save_listings(self, listings: Sequence[Listing]) -> None:
        """Remember whose klines are held."""
        ...

    async def relist(self, relisting: Relisting) -> dict[Series, Ledger]:
        """Keep what is held from before each first kline apart, as the former listing's; returns the ledgers now."""
        ...

    async def unlist(self, listing: Listing, since_ms: int) -> dict[Series, Ledger]:
        """Take back that a name begins at `since_ms`: what lies before is unknown again; the ledgers that change."""
        ...

    async def save_anchor(self, name: str, open_ms: int) -> None:
        """Remember one open time of the 3d grid of the series of this name."""
        ...

    async def save_verified(self, series: Series, spans: Spans, at_ms: int) -> Verification:
        """Remember that `spans` were compared, beginning at `at_ms`; returns all checks of the series.

        What was changed at that time or later is left out: it is not what was compared.
        """
        ...

    async def save_disagreement(self, disagreement: Disagreement) -> None:
        """Remember where the exchange contradicts itself; a later one of the same kline takes the place."""
        ...

    async def save_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Remember spans that an operator asked for; a series' earlier one is widened."""
        ...

    async def withdraw_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Forget spans that an operator asked for. One out of the middle of a longer one cannot be: that one stays."""
        ...


class OpenWriter(StoreWriter, OpenReader, Protocol):
    """The writer with its connections: the newest one alone may commit."""

    @property
    def is_deposed(self) -> bool:
        """Whether another writer was opened since: nothing can be written any more."""
        ...

    def is_replaced(self) -> bool:
        """Whether the database was deleted or replaced behind our back: nothing can be written any more."""
        ...

    def log_complaint(self) -> str | None:
        """What keeps the database from being tidied, if anything does, and what to do."""
        ...
