"""The identity of the database that a connection has opened."""

from typing import NamedTuple
from uuid import UUID

import asyncpg


class Identity(NamedTuple):
    """What differs when another database is found under the same URL.

    `system` is the number that initdb gave the server's files, `database` the object id, and `token` was drawn when the
    tables were created. A restored dump has the token of the original, and another object id or system.
    """

    system: int
    database: int
    token: UUID


async def read_identity(connection: asyncpg.Connection) -> Identity:
    """The identity of the database of `connection`."""
    row = await connection.fetchrow(
        "SELECT (SELECT system_identifier FROM pg_control_system()), "
        "(SELECT oid::bigint FROM pg_database WHERE datname = current_database()), (SELECT token FROM identity)"
    )
    return Identity(*row)
