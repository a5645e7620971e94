"""The store on SQLite, which implements app.ports.store."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

from app.domain.interval import INTERVALS
from app.domain.ledger import Ledger
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.domain.verification import Verification
from app.kinds.registry import named
from app.ports.clock import Clock
from app.ports.errors import StoreDamaged
from app.ports.store import BlockCheck, Committed, Disagreement, Relisting, Sealed, Snapshot
from infra.sqlite.as_of import rows_as_of
from infra.sqlite.changes import read_spans
from infra.sqlite.checkpoint import Checkpoints
from infra.sqlite.commit import Commits
from infra.sqlite.connections import BUSY_TIMEOUT_MS, Connections, Report
from infra.sqlite.failure import unavailable
from infra.sqlite.fence import fenced, take_over
from infra.sqlite.history import read_encoded, read_rows
from infra.sqlite.ledger_log import ledgers_as_of
from infra.sqlite.ledgers import read_ledger, read_ledgers
from infra.sqlite.library import sqlite3
from infra.sqlite.listings import read_listings, relist, save_listings, unlist
from infra.sqlite.migrate import upgrade
from infra.sqlite.seal import check_blocks, give_up, seal, unseal
from infra.sqlite.statements import columns, overwrite, put, reading, writing
from infra.sqlite.url import sqlite_path
from infra.sqlite.verification import (
    read_disagreements,
    read_revised,
    read_revisions,
    read_verifications,
    save_disagreement,
    save_verified,
)
from infra.stores.deposed import Deposed

T = TypeVar("T")

READ_CONNECTIONS_MAX: Final = 4  # each is a thread of this process; more threads than cores do not read faster

_WITHDRAW: Final = (
    "DELETE FROM extra_wish WHERE symbol = :symbol AND interval = :interval AND start_ms >= :start AND end_ms <= :end",
    (
        "UPDATE extra_wish SET end_ms = :start WHERE symbol = :symbol AND interval = :interval "
        "AND start_ms < :start AND :start < end_ms AND end_ms <= :end"
    ),
    (
        "UPDATE extra_wish SET start_ms = :end WHERE symbol = :symbol AND interval = :interval "
        "AND :start <= start_ms AND start_ms < :end AND :end < end_ms"
    ),
)
"""For wishes inside the withdrawn span: delete; for those that overlap it at their end or start: shorten."""


class SqliteReader:
    """Reads of one database file (app.ports.store.StoreReader), which is opened at the first read."""

    def __init__(
        self,
        url: str,
        *,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        damage: Callable[[StoreDamaged], None] = lambda error: None,
    ) -> None:
        """`url` as in DB_URL; `damage` is called with each damaged block that a read meets.

        Raises ValueError when it is not an SQLite URL.
        """
        self._damage = damage
        self._reads = Connections(
            sqlite_path(url), size=READ_CONNECTIONS_MAX, read_only=True, busy_timeout_ms=busy_timeout_ms
        )

    async def close(self) -> None:
        """Close all connections after the running reads have finished."""
        await self._reads.close()

    async def read(self, series: Series, window: Span, limit: int, *, newest: bool = False) -> Snapshot:
        """At most `limit` rows that open in `window`, the oldest or the `newest`, ascending; and the ledger.

        Raises StoreUnavailable. Rows outside the held spans occur only if somebody deleted ledger lines.
        """
        assert limit >= 0, "a read without limit is not offered"

        def work(connection: sqlite3.Connection) -> Snapshot:
            with reading(connection):
                rows = read_rows(connection, series, window, limit=limit, newest=newest)
                return Snapshot(rows, read_ledger(connection, series.name, series.interval.code))

        return await self._read(work)

    async def read_encoded(
        self, series: Series, window: Span, limit: int, *, newest: bool = False
    ) -> tuple[int, bytes]:
        """The rows of `read`, printed as REST does: their number, and the body. Raises StoreUnavailable."""

        def work(connection: sqlite3.Connection) -> tuple[int, bytes]:
            return read_encoded(connection, series, window, limit=limit, newest=newest)

        return await self._read(work)

    async def ledgers(self) -> dict[Series, Ledger]:
        """The ledgers of all series. Raises StoreUnavailable."""
        return await self._reads.run(read_ledgers)

    async def read_spans(self, wanted: Mapping[Series, Span]) -> dict[Series, list[Any]]:
        """By series: its rows, ascending, that open in its span of `wanted`. Raises StoreUnavailable."""
        return await self._read(lambda connection: read_spans(connection, wanted))

    async def ledgers_as_of(self, at_ms: int, wanted: Collection[Series] | None = None) -> dict[Series, Ledger]:
        """The ledgers after every commit up to `at_ms`. Raises NotRecorded, StoreUnavailable."""
        return await self._reads.run(lambda connection: ledgers_as_of(connection, at_ms, wanted))

    async def rows_as_of(
        self, series: Series, held: Spans, limit: int, at_ms: int, *, newest: bool = False
    ) -> list[Any]:
        """The rows of `held` after every commit up to `at_ms`. Raises NotRecorded, StoreUnavailable."""
        return await self._read(lambda connection: rows_as_of(connection, series, held, limit, at_ms, newest=newest))

    async def stand_down(self) -> tuple[int, str] | None:
        """The stored stand-down as (until_ms, reason); None when there is none. Raises StoreUnavailable."""
        row: tuple[int, str] | None = await self._reads.run(
            lambda connection: connection.execute("SELECT until_ms, reason FROM stand_down").fetchone()
        )
        return row

    async def document(self, name: str) -> tuple[bytes, int] | None:
        """A stored document and when it was stored (ms). Raises StoreUnavailable."""
        select = "SELECT body, stored_ms FROM document WHERE name = ?"
        row: tuple[bytes, int] | None = await self._reads.run(
            lambda connection: connection.execute(select, (name,)).fetchone()
        )
        return row

    async def anchors(self) -> dict[str, int]:
        """By series name: the open time (ms) of one 3d kline of the exchange. Raises StoreUnavailable."""
        symbols, opens_ms = await self._reads.run(
            lambda connection: columns(connection, ("symbol", "open_ms"), "SELECT symbol, open_ms FROM anchor")
        )
        return dict(zip(symbols, map(int, opens_ms), strict=True))

    async def extra_wishes(self) -> dict[Series, Span]:
        """By series: the span that an operator wished for beyond BACKFILL_DAYS. Raises StoreUnavailable."""
        names = ("symbol", "interval", "start_ms", "end_ms")
        texts = await self._reads.run(lambda connection: columns(connection, names, "SELECT * FROM extra_wish"))
        return {
            named(symbol, INTERVALS[code]): Span(int(start_ms), int(end_ms))
            for symbol, code, start_ms, end_ms in zip(*texts, strict=True)
        }

    async def listings(self) -> dict[str, Listing]:
        """By symbol: the listing whose klines are held under it. Raises StoreUnavailable."""
        return await self._reads.run(read_listings)

    async def verifications(self) -> dict[Series, Verification]:
        """By series: which spans were compared with the exchange, and when. Raises StoreUnavailable."""
        return await self._reads.run(read_verifications)

    async def disagreements(self) -> list[Disagreement]:
        """The recorded klines in which the exchange contradicts itself. Raises StoreUnavailable."""
        return await self._reads.run(read_disagreements)

    async def revisions(self) -> dict[Series, int]:
        """By series: how many rows were replaced or deleted since the database was created. Raises StoreUnavailable."""
        return await self._reads.run(read_revisions)

    async def revised(self, series: Series, window: Span, limit: int) -> list[int]:
        """The first open times in `window` of which a row was ever replaced. Raises StoreUnavailable."""
        return await self._reads.run(lambda connection: read_revised(connection, series, window, limit))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._reads.run(work)
        except StoreDamaged as error:
            self._damage(error)
            raise

    async def check_blocks(self, after: int, number: int) -> BlockCheck:
        """Compare the next `number` sealed blocks with their SHA-256. Raises StoreUnavailable."""
        return await self._reads.run(lambda connection: check_blocks(connection, after, number))


class SqliteWriter(SqliteReader):
    """Reads and writes of one database file. Only the holder of the writer lease opens one."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        epoch: int,
        *,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        report: Report = lambda reason: None,
        damage: Callable[[StoreDamaged], None] = lambda error: None,
    ) -> None:
        """Called by `open`, which first migrates the database and gets `epoch` for this writer."""
        super().__init__(url, busy_timeout_ms=busy_timeout_ms, damage=damage)
        self._clock = clock
        self.is_deposed = False
        """Whether another writer was opened later, so that this one can no longer write."""
        self._commits = Commits()
        self._checkpoints = Checkpoints(sqlite_path(url))
        self._writes = Connections(
            sqlite_path(url),
            size=1,
            read_only=False,
            busy_timeout_ms=busy_timeout_ms,
            report=report,
            carries=(fenced(epoch),),
        )

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Clock,
        *,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        report: Report = lambda reason: None,
        damage: Callable[[StoreDamaged], None] = lambda error: None,
    ) -> Self:
        """Open the writer of the database of `url`, which is created or migrated if necessary.

        `report` is called after every write with the reason it failed, or None. Raises ValueError (not an SQLite URL),
        OSError, StoreUnavailable or SchemaTooNew.
        """
        epoch = await asyncio.to_thread(_taken_over, url, busy_timeout_ms)
        writer = cls(url, clock, epoch, busy_timeout_ms=busy_timeout_ms, report=report, damage=damage)
        try:
            await writer._writes.run(lambda connection: None)  # connects, to detect a replaced file from now on
        except BaseException:
            await writer.close()
            raise
        return writer

    def is_replaced(self) -> bool:
        """Whether the database file was deleted or replaced, so that this writer can no longer write."""
        return self._writes.is_replaced()

    def log_complaint(self) -> str | None:
        """Which long read keeps the write-ahead log from being truncated, and what to do; None if none does."""
        return self._checkpoints.complaint(self._clock.now_ms())

    async def close(self) -> None:
        """Close all connections after the running transactions have finished."""
        await self._writes.close()
        await super().close()

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Write rows and ledger spans of all `batches` in one transaction. Raises StoreUnavailable: nothing is written.

        If the caller is cancelled, the transaction still runs to its end.
        """
        now_ms = self._clock.now_ms()

        def work(connection: sqlite3.Connection) -> list[Committed]:
            committed = self._commits.commit(connection, batches, now_ms)
            self._checkpoints.after_commit(connection, now_ms)
            return committed

        return await self._write(work)

    async def seal(self, series: Series, window: Span) -> Sealed:
        """Seal the oldest unsealed rows of `window` that form a whole block. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()

        def work(connection: sqlite3.Connection) -> Sealed:
            step, span = seal(connection, series, window)
            if span is not None:
                self._commits.sealed(series, span)
                self._checkpoints.after_commit(connection, now_ms)
            return step

        return await self._write(work)

    async def unseal(self, series: Series, window: Span) -> Sealed:
        """Turn the oldest block of `window` into rows. Raises StoreDamaged, StoreUnavailable."""
        now_ms = self._clock.now_ms()

        def work(connection: sqlite3.Connection) -> Sealed:
            step = unseal(connection, series, window)
            self._checkpoints.after_commit(connection, now_ms)
            return step

        return await self._write(work)

    async def give_up(self, series: Series, span: Span) -> Ledger | None:
        """Delete the block of `span` if it is damaged, and make its rows unknown. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()
        return await self._write(lambda connection: give_up(connection, series, span, now_ms, self._commits.forget))

    async def save_stand_down(self, until_ms: int, reason: str) -> None:
        """Store that no request may be sent before `until_ms`. Raises StoreUnavailable."""
        await self._save("stand_down", ("id",), ("until_ms", "reason"), [(1, until_ms, reason)])

    async def save_document(self, name: str, body: bytes, stored_ms: int) -> None:
        """Store a document under `name`, replacing the earlier one. Raises StoreUnavailable."""
        await self._save("document", ("name",), ("body", "stored_ms"), [(name, body, stored_ms)])

    async def save_listings(self, listings: Sequence[Listing]) -> None:
        """Store which listing the klines held under each symbol belong to. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()
        await self._write(lambda connection: save_listings(connection, listings, now_ms))

    async def relist(self, relisting: Relisting) -> dict[Series, Ledger]:
        """Move the former listing's rows; returns the ledgers that changed. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()

        def work(connection: sqlite3.Connection) -> dict[Series, Ledger]:
            ledgers = relist(connection, relisting, now_ms)
            self._commits.forget()
            self._checkpoints.after_commit(connection, now_ms)
            return ledgers

        return await self._write(work)

    async def unlist(self, listing: Listing, since_ms: int) -> dict[Series, Ledger]:
        """Make absent times before `since_ms` unknown; returns the changed ledgers. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()

        def work(connection: sqlite3.Connection) -> dict[Series, Ledger]:
            ledgers = unlist(connection, listing, since_ms, now_ms)
            self._commits.forget()
            return ledgers

        return await self._write(work)

    async def save_anchor(self, name: str, open_ms: int) -> None:
        """Store one open time of the 3d grid of the series called `name`. Raises StoreUnavailable."""
        await self._save("anchor", ("symbol",), ("open_ms",), [(name, open_ms)])

    async def save_verified(self, series: Series, spans: Spans, at_ms: int) -> Verification:
        """Store that the comparison of `spans` began at `at_ms`; returns all checks of the series.

        Rows that changed since then are left out. Raises StoreUnavailable.
        """
        return await self._write(lambda connection: save_verified(connection, series, spans, at_ms))

    async def save_disagreement(self, disagreement: Disagreement) -> None:
        """Store where the exchange contradicts itself. Raises StoreUnavailable."""
        await self._write(lambda connection: save_disagreement(connection, disagreement))

    async def save_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Store spans that an operator wished for; an earlier one of a series is widened. Raises StoreUnavailable."""
        rows = [(series.name, series.interval.code, *span) for series, span in wishes.items() if span]
        widen = (
            "ON CONFLICT (symbol, interval) DO UPDATE SET "
            "start_ms = min(start_ms, excluded.start_ms), end_ms = max(end_ms, excluded.end_ms)"
        )
        await self._save("extra_wish", ("symbol", "interval"), ("start_ms", "end_ms"), rows, widen)

    async def withdraw_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Delete spans that an operator wished for. One in the middle of a wish cannot be cut out: that wish stays.

        Raises StoreUnavailable.
        """
        rows = [
            {"symbol": series.name, "interval": series.interval.code, "start": span.start_ms, "end": span.end_ms}
            for series, span in wishes.items()
        ]

        def work(connection: sqlite3.Connection) -> None:
            with writing(connection):
                for statement in _WITHDRAW:
                    connection.executemany(statement, rows)

        await self._write(work)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._writes.run(work)
        except Deposed:
            self.is_deposed = True
            raise
        except StoreDamaged as error:
            self._damage(error)
            raise

    async def _save(
        self,
        table: str,
        key: Sequence[str],
        names: Sequence[str],
        rows: Sequence[Sequence[object]],
        on_conflict: str | None = None,
    ) -> None:
        def work(connection: sqlite3.Connection) -> None:
            with writing(connection):
                put(connection, table, (*key, *names), rows, on_conflict or overwrite(key, names))

        await self._write(work)


def _taken_over(url: str, busy_timeout_ms: int) -> int:
    """Migrate the database and make this process its newest writer; returns the writer's epoch."""
    upgrade(url, busy_timeout_ms=busy_timeout_ms)
    path = sqlite_path(url)
    try:
        return take_over(path, busy_timeout_ms)
    except sqlite3.Error as error:
        raise unavailable(error, path) or error from error
