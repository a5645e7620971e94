"""The driver by which a Postgres database is accessed."""

import asyncpg

from app.ports.store import StoreLibrary


def postgres_driver() -> StoreLibrary:
    """The library by which the database is accessed."""
    return StoreLibrary("asyncpg", asyncpg.__version__, None)
