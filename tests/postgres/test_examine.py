"""The doctor's look at a Postgres database: schema, rights and a stand-down, without lease and without any change."""

from urllib.parse import urlsplit, urlunsplit

from infra.postgres.examine import examine
from infra.postgres.lease import PostgresLease
from tests.postgres_server import execute, fresh_database


async def test_a_database_beside_its_writer_is_seen_as_it_is(url: str) -> None:
    lease = PostgresLease(url)
    assert await lease.try_acquire("http://127.0.0.1:1")
    await execute(url, "INSERT INTO stand_down (id, until_ms, reason) VALUES (1, 1800000000000, 'banned')")
    found = await examine(url)
    assert lease.is_held()
    await lease.release()
    assert (found.exists, found.failed, found.is_known, found.is_read_only) == (True, None, True, False)
    assert found.schema == found.newest
    assert found.stand_down == (1_800_000_000_000, "banned")
    assert found.size_bytes > 0


async def test_schemas_of_other_versions_are_told_apart(url: str) -> None:
    await execute(url, "UPDATE alembic_version SET version_num = '9999_from_the_future'")
    assert not (await examine(url)).is_known
    empty = await examine(await fresh_database())
    assert (empty.schema, empty.is_known, empty.failed) == (None, True, None)


async def test_a_database_that_does_not_exist_is_named_without_its_password(url: str) -> None:
    parts = urlsplit(url)
    found = await examine(urlunsplit(parts._replace(path="/missing")))
    assert found.failed is not None
    assert "does not exist; create it" in found.failed
    assert parts.password is None or parts.password not in found.failed
