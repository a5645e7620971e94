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
