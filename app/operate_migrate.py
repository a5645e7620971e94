"""What the command migrate-store does: everything a database holds is moved to another kind of store, and compared."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.node.prepare import CannotStart, require_database
from app.node.stores import store_of
from app.operate import OperateError
from app.outbound import masked
from app.ports.contents import Contents, ContentsTable, RowOfTable
from app.ports.errors import SchemaTooNew, StoreUnavailable, StoreUnusable
from app.setting_values import is_server

ROWS_A_STEP: Final = 20_000  # in one transaction; 4 MB of klines
BLOCKS_A_STEP: Final = 200  # of up to 100 kB
_COLUMNS: Final = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
_LAST: Final = "ledger"
"""The table that is moved last: without its line, a row counts as not held."""


class Moved(NamedTuple):
    """What was moved: rows of all tables, blocks among them, and the SHA-256 over all, the same in both databases."""

    rows: int
    blocks: int
    sha256: str


async def migrate(source_url: str, target_url: str, out: Console, *, timescale: bool = False) -> Moved:
    """Copy every table of one database into another one that is empty, and compare both. Raises OperateError.

    `timescale`: the target's tables of rows are made hypertables. Stopped in the middle, it goes on from there when it
    is called again.
    """
    if source_url == target_url:
        raise OperateError("both URLs name the same database")
    if timescale and not is_server(target_url):
        raise OperateError(f"--timescale needs a Postgres database as target, and {masked(target_url)} is a file")
    try:
        require_database(source_url)
    except CannotStart as error:
        raise OperateError(str(error)) from error
    try:
        async with AsyncExitStack() as opened:
            source, name = await opened.enter_async_context(_opened(source_url)), masked(source_url)
            await _check_source(source, name)
            target = await opened.enter_async_context(_opened(target_url, timescale=timescale, moved_from=name))
            tables = await _matching(source, target)
            await _begin(target, tables, name, masked(target_url))
            counts = {table: await source.count(table) for table in tables}
            with Progress(*_COLUMNS, console=out) as progress:
                task = progress.add_task("moved", total=sum(counts.values()))
                for table in tables:
                    await _copy(source, target, table, lambda rows: progress.advance(task, rows))
                task = progress.add_task("compared", total=2 * sum(counts.values()))
                total = hashlib.sha256()
                for table in tables:
                    total.update(await _compared(source, target, table, lambda rows: progress.advance(task, rows)))
            await target.finish()
    except StoreUnavailable as error:
        raise OperateError(f"{error}; the same command goes on from here") from error
    blocks = sum(count for table, count in counts.items() if table.name == "block")
    return Moved(sum(counts.values()), blocks, total.hexdigest())


@asynccontextmanager
async def _opened(url: str, *, timescale: bool = False, moved_from: str | None = None) -> AsyncIterator[Contents]:
    """The contents of the database of `url`, brought to this version's schema, while this process holds the lease.

    `moved_from`: the database is the target of a move from there. An empty one has the mark as soon as it has tables.
    """
    store = store_of(url, timescale=timescale)
    lease = store.lease(url)
    try:
        if not await lease.try_acquire(""):
            holder = await lease.holder() or "starting"
            raise OperateError(f"a node ({holder}) has the database {masked(url)} open: stop it first")
    except OSError as error:
        raise OperateError(f"the database {masked(url)} cannot be locked: {error}") from error
    try:
        try:
            if moved_from is None:
                await store.prepare(url)
            else:
                await store.prepare_target(url, moved_from)
        except (SchemaTooNew, StoreUnusable, OSError) as error:
            raise OperateError(str(error)) from error
        contents = await store.contents(url)
        try:
            yield contents
        finally:
            await contents.close()
    finally:
        await lease.release()


async def _check_source(source: Contents, name: str) -> None:
    """Raise OperateError if there is nothing to move. Called before the target has its mark, which a refusal leaves."""
    if await source.begun() is not None:
        raise OperateError(f"{name} is itself the unfinished target of migrate-store")
    if all([await source.last_key(table) is None for table in await source.tables()]):
        raise OperateError(f"{name} is empty: there is nothing to move")


async def _matching(source: Contents, target: Contents) -> list[ContentsTable]:
    """The tables of `source`, in the order in which they are moved; `target` has the same ones."""
    tables = {table.name: table for table in await source.tables()}
    others = {table.name: table for table in await target.tables()}
    for name in sorted(tables.keys() | others.keys()):
        one, two = tables.get(name), others.get(name)
        assert one is not None, f"the schema of {name} is of one store alone"
        assert two is not None, f"the schema of {name} is of one store alone"
        assert set(one.columns) == set(two.columns), f"the schemas of {name} differ"
        assert set(one.key) == set(two.key), f"the keys of {name} differ"
    return sorted(tables.values(), key=lambda table: (table.name == _LAST, table.name))


async def _begin(target: Contents, tables: Sequence[ContentsTable], source_name: str, target_name: str) -> None:
    """Note in `target` that the move is under way, unless its schema was made with that mark.

    Raises OperateError if it is not empty, nor half of this move.
    """
    begun = await target.begun()
    if begun == source_name:
        return
    if begun is not None:
        raise OperateError(f"{target_name} holds a part of {begun}: finish that first, or take an empty database")
    for table in tables:
        if await target.last_key(table) is not None:
            raise OperateError(f"{target_name} is not empty (table {table.name}): take an empty database")
    await target.begin(source_name)


async def _copy(source: Contents, target: Contents, table: ContentsTable, advance: Callable[[int], None]) -> None:
    """Add the rows of `source` that `target` lacks; the next step is read while one is written."""
    after = await target.last_key(table)
    if after is not None:
        advance(await target.count(table))
    rows = await source.rows(table, after, _step(table))
    while rows:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(target.add(table, rows))
            following = tasks.create_task(source.rows(table, _key(table, rows[-1]), _step(table)))
        advance(len(rows))
        rows = following.result()


async def _compared(source: Contents, target: Contents, table: ContentsTable, advance: Callable[[int], None]) -> bytes:
    """The SHA-256 of the table in both databases. Raises OperateError if they differ."""
    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(_digest(source, table, advance))
        two = tasks.create_task(_digest(target, table, advance))
    if one.result() != two.result():
        raise OperateError(
            f"the table {table.name} differs from that of the source: somebody has written to the new database "
            "meanwhile; delete it and begin again"
        )
    return one.result()


async def _digest(contents: Contents, table: ContentsTable, advance: Callable[[int], None]) -> bytes:
    digest, encode = hashlib.sha256(table.name.encode()), msgspec.msgpack.encode
    after: RowOfTable | None = None
    while rows := await contents.rows(table, after, _step(table)):
        digest.update(encode(rows))
        after = _key(table, rows[-1])
        advance(len(rows))
    return digest.digest()


def _step(table: ContentsTable) -> int:
    return BLOCKS_A_STEP if table.name == "block" else ROWS_A_STEP


def _key(table: ContentsTable, row: RowOfTable) -> RowOfTable:
    return tuple(row[table.columns.index(name)] for name in table.key)
