"""The store on Postgres, which implements app.ports.store."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import asyncpg

from app.domain.columns import newest_open_ms
from app.domain.ledger import Ledger
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.domain.verification import Verification
from app.ports.clock import Clock
from app.ports.errors import StoreDamaged
from app.ports.store import BlockCheck, Committed, Disagreement, Relisting, Sealed, Snapshot
from infra.postgres.as_of import rows_as_of
from infra.postgres.commit import Commits, Transaction
from infra.postgres.connections import Connections, Report
from infra.postgres.fence import Fence, reading
from infra.postgres.history import read_encoded, read_rows, read_spans
from infra.postgres.ledger_log import ledgers_as_of
from infra.postgres.ledgers import read_ledger, read_ledgers
from infra.postgres.listings import read_listings, relist, save_listings, unlist
from infra.postgres.migrate import upgrade
from infra.postgres.partitions import make_partitions, needs_partitions
from infra.postgres.seal import check_blocks, give_up, seal, unseal
from infra.postgres.statements import overwrite, put
from infra.postgres.verification import (
    read_disagreements,
    read_revised,
    read_revisions,
    read_verifications,
    save_disagreement,
    save_verified,
)
from infra.postgres.wishes import read_wishes, save_wishes, withdraw_wishes
from infra.stores.deposed import Deposed

T = TypeVar("T")

READ_CONNECTIONS_MAX: Final = 4  # each is a process of the server; those of one machine share its cores


class PostgresReader:
    """Reads of one database (app.ports.store.StoreReader), to which it connects at the first read."""

    def __init__(self, url: str, *, damage: Callable[[StoreDamaged], None] = lambda error: None) -> None:
        """`url` as in DB_URL; `damage` is called with each damaged block that a read meets.

        Raises ValueError when it is no Postgres URL.
        """
        self._damage = damage
        self._reads = Connections(url, size=READ_CONNECTIONS_MAX, is_read_only=True)

    async def close(self) -> None:
        """Close all connections after the running reads have finished."""
        await self._reads.close()

    async def read(self, series: Series, window: Span, limit: int, *, newest: bool = False) -> Snapshot:
        """At most `limit` rows that open in `window`, the oldest or the `newest`, ascending; and the ledger.

        Raises StoreUnavailable. Rows outside the held spans occur only if somebody deleted ledger lines.
        """
        assert limit >= 0, "a read without limit is not offered"

        async def work(connection: asyncpg.Connection) -> Snapshot:
            async with reading(connection):
                rows = await read_rows(connection, series, window, limit=limit, newest=newest)
                return Snapshot(rows, await read_ledger(connection, series))

        return await self._read(work)

    async def read_encoded(
        self, series: Series, window: Span, limit: int, *, newest: bool = False
    ) -> tuple[int, bytes]:
        """The rows of `read`, printed as REST does: their number, and the body. Raises StoreUnavailable."""
        return await self._read(lambda connection: read_encoded(connection, series, window, limit=limit, newest=newest))

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

        async def work(connection: asyncpg.Connection) -> list[Any]:
            return await rows_as_of(connection, series, held, limit, at_ms, newest=newest)

        return await PostgresReader._read(self, work)  # by the primary, whose log says that `held` was held

    async def stand_down(self) -> tuple[int, str] | None:
        """The stored stand-down as (until_ms, reason); None when there is none. Raises StoreUnavailable."""
        row = await self._reads.run(lambda connection: connection.fetchrow("SELECT until_ms, reason FROM stand_down"))
        return None if row is None else (row[0], row[1])

    async def document(self, name: str) -> tuple[bytes, int] | None:
        """A stored document and when it was stored (ms). Raises StoreUnavailable."""
        select = "SELECT body, stored_ms FROM document WHERE name = $1"
        row = await self._reads.run(lambda connection: connection.fetchrow(select, name))
        return None if row is None else (row[0], row[1])

    async def anchors(self) -> dict[str, int]:
        """By series name: the open time (ms) of one 3d kline of the exchange. Raises StoreUnavailable."""
        return dict(await self._reads.run(lambda connection: connection.fetch("SELECT symbol, open_ms FROM anchor")))

    async def extra_wishes(self) -> dict[Series, Span]:
        """By series: the span that an operator wished for beyond BACKFILL_DAYS. Raises StoreUnavailable."""
        return await self._reads.run(read_wishes)

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

    async def check_blocks(self, after: int, number: int) -> BlockCheck:
        """Compare the next `number` sealed blocks with their SHA-256. Raises StoreUnavailable."""
        return await self._reads.run(lambda connection: check_blocks(connection, after, number))

    async def _read(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        try:
            return await self._reads.run(work)
        except StoreDamaged as error:
            self._damage(error)
            raise


class PostgresWriter(PostgresReader):
    """Reads and writes of one database. Only the holder of the writer lease opens one."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        report: Report = lambda reason: None,
        damage: Callable[[StoreDamaged], None] = lambda error: None,
    ) -> None:
        """Called by `open`, which migrates the database and takes it over."""
        super().__init__(url, damage=damage)
        self._clock = clock
        self.is_deposed = False
        """Whether another writer was opened later, so that this one can no longer write."""
        self._partitions_end_ms = 0
        self._commits = Commits()
        self._fence = Fence(self._commits.forget)
        self._writes = Connections(url, size=1, is_read_only=False, report=report)

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Clock,
        *,
        timescale: bool = False,
        report: Report = lambda reason: None,
        damage: Callable[[StoreDamaged], None] = lambda error: None,
    ) -> Self:
        """Open the writer of the database of `url`, which must exist; its tables are created or migrated.

        `timescale`: tables of rows are created as hypertables. `report` is called after every write with the reason it
        failed, or None. Raises ValueError (not a Postgres URL), StoreUnavailable, StoreUnusable or SchemaTooNew.
        """
        writer = cls(url, clock, report=report, damage=damage)
        await upgrade(url, timescale=timescale)
        try:
            await writer._writes.run(writer._fence.take_over)
            await writer._write(lambda connection: writer._make_partitions(connection, clock.now_ms()))
        except BaseException:
            await writer.close()
            raise
        return writer

    def is_replaced(self) -> bool:
        """Whether the database was dropped or replaced, so that this writer can no longer write.

        This is known after the first write that has failed because of it.
        """
        return self._writes.is_replaced

    def log_complaint(self) -> str | None:
        """None: Postgres recycles its write-ahead log whatever readers do."""
        return None

    async def close(self) -> None:
        """Close all connections after the running transactions have finished."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writes.close())
            group.create_task(super().close())

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Write rows and ledger spans of all `batches` in one transaction. Raises StoreUnavailable.

        Nothing is written then, except that it is unknown if the connection was lost in the moment of the commit. The
        same batches may be committed again in any case: rows that are held already are no revision. If the caller is
        cancelled, the transaction still runs to its end.
        """
        now_ms = self._clock.now_ms()
        newest_ms = max((newest_open_ms(batch.rows) for batch in batches if len(batch.rows)), default=0)

        async def work(connection: asyncpg.Connection) -> tuple[list[Committed], Transaction]:
            if newest_ms and needs_partitions(self._partitions_end_ms, newest_ms):
                await self._make_partitions(connection, newest_ms)
            return await self._commits.commit(connection, batches, now_ms)

        committed, _ = await self._write(work, lambda found: self._commits.keep(found[1]))
        return committed

    async def seal(self, series: Series, window: Span) -> Sealed:
        """Seal the oldest unsealed rows of `window` that form a whole block. Raises StoreUnavailable."""

        def keep(found: tuple[Sealed, Span | None]) -> None:
            if found[1] is not None:
                self._commits.sealed(series, found[1])

        step, _ = await self._write(lambda connection: seal(connection, series, window), keep)
        return step

    async def unseal(self, series: Series, window: Span) -> Sealed:
        """Turn the oldest block of `window` into rows. Raises StoreDamaged, StoreUnavailable."""
        return await self._write(lambda connection: unseal(connection, series, window))

    async def give_up(self, series: Series, span: Span) -> Ledger | None:
        """Delete the block of `span` if it is damaged, and make its rows unknown. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()
        return await self._write(lambda connection: give_up(connection, series, span, now_ms), self._forget)

    async def save_stand_down(self, until_ms: int, reason: str) -> None:
        """Store that no request may be sent before `until_ms`. Raises StoreUnavailable."""
        text = reason.encode(errors="replace").decode().replace("\0", "?")  # as the exchange wrote it; no NUL
        await self._save("stand_down", ("id",), ("until_ms", "reason"), [(1, until_ms, text)])

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
        return await self._write(lambda connection: relist(connection, relisting, now_ms), self._forget)

    async def unlist(self, listing: Listing, since_ms: int) -> dict[Series, Ledger]:
        """Make absent times before `since_ms` unknown; returns the changed ledgers. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()
        return await self._write(lambda connection: unlist(connection, listing, since_ms, now_ms), self._forget)

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
        await self._write(lambda connection: save_wishes(connection, wishes))

    async def withdraw_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Delete spans that an operator wished for. One in the middle of a wish cannot be cut out: that wish stays.

        Raises StoreUnavailable.
        """
        await self._write(lambda connection: withdraw_wishes(connection, wishes))

    async def _make_partitions(self, connection: asyncpg.Connection, newest_ms: int) -> None:
        self._partitions_end_ms = await make_partitions(connection, newest_ms)

    def _forget(self, _result: object) -> None:
        self._commits.forget()

    async def _write(
        self,
        work: Callable[[asyncpg.Connection], Awaitable[T]],
        after: Callable[[T], None] = lambda result: None,
    ) -> T:
        """Await `work` inside a write transaction, and call `after` with its result once it is committed."""

        async def transaction(connection: asyncpg.Connection) -> T:
            async with self._fence.writing(connection):
                result = await work(connection)
            after(result)
            return result

        try:
            return await self._writes.run(transaction)
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
    ) -> None:
        await self._write(lambda connection: put(connection, table, (*key, *names), rows, overwrite(key, names)))
