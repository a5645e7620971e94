"""What the contract suite needs of each kind of lease: making it, and having another process hold it."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Final, Protocol, Self

from app.ports.coordination import Lease
from infra.postgres.lease import PostgresLease
from infra.sqlite.lease import WriterLease
from tests.postgres_server import fresh_database

ROOT: Final = Path(__file__).parents[2]
_HOLDER: Final = """
import asyncio, importlib, sys
module, name, db_url, url = sys.argv[1:]

async def main():
    lease = getattr(importlib.import_module(module), name)(db_url)
    print(await lease.try_acquire(url), flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


class Leases(Protocol):
    """The leases of one database. For a new kind, add an implementation to LEASES."""

    @property
    def db_url(self) -> str:
        """The DB_URL of the database."""
        ...

    @property
    def kind(self) -> Callable[[str], Lease]:
        """The class of the lease, which takes the DB_URL."""
        ...

    @classmethod
    async def made(cls, folder: Path) -> Self:
        """Create the database, if the lease needs one; its files, if any, are in `folder`."""
        ...


class SqliteLeases:
    """Leases of a SQLite file, which need not exist."""

    kind: Callable[[str], Lease] = WriterLease

    def __init__(self, folder: Path) -> None:
        self.db_url = f"sqlite:///{folder}/klinenode.db"

    @classmethod
    async def made(cls, folder: Path) -> Self:
        return cls(folder)


class PostgresLeases:
    """Leases of a database of a real server; the database has no schema yet."""

    kind: Callable[[str], Lease] = PostgresLease

    def __init__(self, db_url: str) -> None:
        self.db_url = db_url

    @classmethod
    async def made(cls, folder: Path) -> Self:
        return cls(await fresh_database())


@asynccontextmanager
async def another_process(leases: Leases, url: str) -> AsyncIterator[Popen[str]]:
    """A process that holds the lease as the holder at `url`."""
    with _holder(leases, url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        try:
            yield process
        finally:
            process.kill()


def _holder(leases: Leases, url: str) -> Popen[str]:
    kind = (leases.kind.__module__, leases.kind.__qualname__)
    return Popen(
        [sys.executable, "-c", _HOLDER, *kind, leases.db_url, url], stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT
    )


LEASES: dict[str, type[Leases]] = {"sqlite": SqliteLeases, "postgres": PostgresLeases}
