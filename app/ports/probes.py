"""What the doctor's probes report of network, machine and database; they change nothing."""

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Step(StrEnum):
    """The step of a request at which an upstream could not be reached."""

    NAME = "name"
    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "tls"
    ANSWER = "answer"


class Reached(NamedTuple):
    """The attempt to reach an upstream. `failed` is None if it answered; `reason` says why it did not."""

    url: str
    elapsed_ms: int
    failed: Step | None = None
    reason: str = ""
    proxy: str | None = None
    """The proxy on the way, without credentials."""
    status: int = 0
    clock_ahead_ms: int | None = None
    """How far this machine's clock is ahead of the exchange's; None if the answer does not say it."""


class Families(NamedTuple):
    """Which addresses a host name has, and why the first one of each family could not be connected to."""

    host: str
    v4: str | None
    v6: str | None
    v4_failed: str | None = None
    v6_failed: str | None = None
    is_v6_absent: bool = False
    """Whether this machine has no IPv6 at all, which costs nothing: attempts fail at once."""


class FolderFacts(NamedTuple):
    """A folder, or the nearest folder above it that exists, in which files are written."""

    path: Path
    exists: bool
    """Whether `path` itself exists; otherwise the other facts are of the folder in which it would be made."""
    is_writable: bool
    file_system: str
    """The type in the list of mounts, for example ext4 or nfs4; empty if it is not known."""
    lock_failed: str | None
    """Why the kernel refused a lock in it; None if it gave one."""
    free_bytes: int


class FileFacts(NamedTuple):
    """A file that the node shares or stores: whose it is, and who may open it."""

    path: Path
    owner: int
    mode: int
    is_usable: bool
    """Whether this user may read and write it."""


class Listener(NamedTuple):
    """Who listens on a port; `command` is empty if this user may not see it."""

    pid: int | None
    command: str


class PostgresFacts(NamedTuple):
    """A Postgres server, and how the user of DB_URL stands in it."""

    version: int
    """The first number of its version."""
    version_min: int
    is_pooled: bool
    """Whether the session is lent by a pooler such as PgBouncer."""
    encoding: str
    is_durable: bool
    """Whether it survives a crash: neither fsync nor full_page_writes is off."""
    owner: str | None
    """Whose the tables are, if this user may not act as that one; None: no tables yet, or this user's."""
    connections_max: int
    """For this user and database, without what is reserved for administrators."""
    connections_used: int
    """By programs other than klinenode."""
    timescale: str | None
    """The version of TimescaleDB that is installed in the database, or could be; None: the server has none."""
    timescale_min: str
    is_timescale_old: bool
    has_hypertables: bool
    """Whether the tables of rows are hypertables."""


class ReplicaFacts(NamedTuple):
    """A replica, compared with its primary server."""

    where: str
    failed: str | None = None
    """Why it cannot be read, and what to do."""
    is_replica: bool = True
    is_same: bool = True
    """Whether it has the database of the primary."""
    behind_bytes: int = 0
    behind_ms: int = 0
    """How old the newest transaction is that it has replayed, if it lacks some."""


class NatsFacts(NamedTuple):
    """The NATS servers of NATS_URL; the facts are of the first one that answers."""

    where: str
    failed: tuple[str, ...] = ()
    """For each server that is of no use, why."""
    version: str = ""
    payload_bytes_max: int = 0
    refusal: str | None = None
    """Why JetStream does not answer, or refuses one of our streams, and what to do."""
    missing: tuple[str, ...] = ()
    """Streams that the collector makes when it starts."""
    missing_bytes: int = 0
    """Their size in all."""
    room_bytes: int | None = None
    """What the account may still reserve on disk; None: it has no limit of its own, or does not say it."""


class RedisFacts(NamedTuple):
    """The Redis server of CACHE_URL."""

    where: str
    failed: str | None = None
    version: str = ""
    ping_ms: int = 0
    """The fastest of a few pings: in the others this process may have been busy with another check."""
    is_replica: bool = False
    memory_bytes_max: int | None = None
    """0: no limit; None: the user may not ask."""
    policy: str = ""
    """What it removes when it is full (maxmemory-policy)."""


class StoreFacts(NamedTuple):
    """A database, read without changing it: `schema` is None if it has none yet."""

    where: str
    exists: bool
    failed: str | None = None
    """Why it cannot be read, and what to do."""
    schema: str | None = None
    newest: str = ""
    """The schema of this version."""
    is_known: bool = True
    """Whether `schema` is one of this version's; otherwise a newer version wrote it."""
    is_read_only: bool = False
    size_bytes: int = 0
    stand_down: tuple[int, str] | None = None
    """The stored stand-down as (until_ms, reason)."""
    server: PostgresFacts | None = None
    """None: the database is a file."""
