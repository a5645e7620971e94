"""The checks of the database: reachable, schema, SQLite's version."""

from app.doctor.finding import Finding, fail, ok, warn
from app.ports.probes import StoreFacts
from app.ports.store import StoreLibrary


def database(facts: StoreFacts) -> Finding:
    """Whether the database can be read, and is not a standby."""
    if facts.failed is not None:
        return fail("database", facts.failed, "the node starts, but serves nothing until this is repaired")
    if facts.is_read_only:
        return fail("database", f"{facts.where} takes no writes", "let DB_URL name the primary server")
    if not facts.exists:
        return ok("database", f"{facts.where} does not exist yet; the first start makes it")
    return ok("database", f"{facts.where} can be read")


def schema(facts: StoreFacts) -> Finding:
    """Whether the database has the schema of this version."""
    if facts.failed is not None:
        return warn("schema", "the database cannot be read", "see the finding `database`")
    if facts.schema is None:
        return ok("schema", "the first start makes the tables")
    if not facts.is_known:
        return fail(
            "schema",
            f"{facts.where} has schema {facts.schema}, which a newer version of klinenode wrote",
            "start that version, or restore a copy from before its upgrade, or point DB_URL at another database",
        )
    if facts.schema != facts.newest:
        return warn(
            "schema",
            f"{facts.where} has the old schema {facts.schema}, and this version's is {facts.newest}",
            "the next start upgrades it, which an older version cannot read: make a backup first",
        )
    return ok("schema", f"{facts.where} has this version's schema, {facts.schema}")


def sqlite(library: StoreLibrary, *, is_used: bool) -> Finding:
    """Whether the SQLite library of this Python has no known fault."""
    named = f"{library.name} {library.version}"
    if not is_used:
        return ok("sqlite", "not used: a server keeps the database")
    if library.note is not None:
        return warn("sqlite", library.note, "install the wheel pysqlite3 into .venv (pip install pysqlite3)")
    return ok("sqlite", f"{named} has no known fault")
