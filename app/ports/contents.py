"""Everything that a database holds, table by table, to move it to another kind of store."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

Value = int | str | bytes | None
RowOfTable = tuple[Value, ...]

OF_THE_DATABASE: Final = frozenset({"alembic_version", "writer", "identity", "change", "lease_holder", "migrate_store"})
"""Tables that describe the database itself; another one has its own."""


class ContentsTable(NamedTuple):
    """A table: its columns, and those of them, in order, by which its rows are sorted."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


class Contents(Protocol):
    """The tables of a database that no node has open. Every method raises StoreUnavailable."""

    async def begun(self) -> str | None:
        """From where an unfinished move into this database comes; None when there is none."""
        ...

    async def begin(self, source: str) -> None:
        """Note that a move from `source` is under way; no node opens the database until `finish`."""
        ...

    async def finish(self) -> None:
        """Note that the move has ended."""
        ...

    async def tables(self) -> list[ContentsTable]:
        """All tables but those in OF_THE_DATABASE, sorted by name."""
        ...

    async def count(self, table: ContentsTable) -> int:
        """The number of rows."""
        ...

    async def last_key(self, table: ContentsTable) -> RowOfTable | None:
        """The key of the last row; None in an empty table."""
        ...

    async def rows(self, table: ContentsTable, after: RowOfTable | None, number: int) -> Sequence[RowOfTable]:
        """The next `number` rows behind the key `after`, in the order of the key; texts sort by their bytes."""
        ...

    async def add(self, table: ContentsTable, rows: Sequence[RowOfTable]) -> None:
        """Insert rows in one transaction."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
