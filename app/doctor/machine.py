"""The checks of this machine: disk, file system, permissions, open files, port."""

import stat
from collections.abc import Sequence
from typing import Final

from app.doctor.finding import Finding, fail, ok, warn
from app.filling.amounts import of_bytes
from app.filling.room import shortage
from app.ports.probes import FileFacts, FolderFacts, Listener

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "afs", "ceph", "lustre"}
)
"""What SQLite's write-ahead log cannot be kept on: it needs memory that all processes of the file share."""
STRANGERS: Final = 0o007


def disk(folder: FolderFacts, free_bytes_min: int, needed_bytes: int | None) -> Finding:
    """Whether there is room for history; `needed_bytes` of None: it depends on the exchange's list of symbols."""
    free = folder.free_bytes
    if free < free_bytes_min:
        return fail(
            "disk",
            f"{of_bytes(free)} are free in {folder.path}, less than DISK_FREE_BYTES_MIN={free_bytes_min}: "
            "no history is fetched",
            "make room, name a folder on a larger disk in DB_URL, or lower DISK_FREE_BYTES_MIN",
        )
    if needed_bytes is None:
        return ok("disk", f"{of_bytes(free)} are free in {folder.path}; the first start logs what the wish needs")
    if (short := shortage(needed_bytes, free, free_bytes_min)) is not None:
        return warn("disk", short, "lower BACKFILL_DAYS, name fewer symbols or intervals, or make room")
    return ok("disk", f"{of_bytes(free)} are free in {folder.path}, and the wish needs about {of_bytes(needed_bytes)}")


def file_system(folders: Sequence[FolderFacts], *, holds_database: bool) -> Finding:
    """Whether files can be locked where the node shares them, and, beside a SQLite file, memory be shared."""
    for folder in folders:
        advice = "keep the database and RUNTIME_DIR on a local disk, or use Postgres (DB_URL=postgresql://…)"
        if folder.lock_failed is not None:
            return fail("file-system", f"no file can be locked in {folder.path}: {folder.lock_failed}", advice)
        if folder.file_system in NETWORK_FILE_SYSTEMS:
            why = "SQLite loses data there" if holds_database else "locks and sockets of processes do not work there"
            return fail("file-system", f"{folder.path} is on the network ({folder.file_system}): {why}", advice)
    kinds = ", ".join(sorted({folder.file_system or "of unknown type" for folder in folders}))
    return ok("file-system", f"files can be locked where the node writes ({kinds})")


def permissions(folders: Sequence[FolderFacts], files: Sequence[FileFacts], user: int) -> Finding:
    """Whether this user may write what the node writes, and others may not open it."""
    advice = "run this as the user that the node runs as (systemctl show -p User klinenode); "
    for folder in folders:
        if not folder.is_writable:
            there = "nothing can be written in" if folder.exists else "no folder can be made for"
            return fail(
                "permissions",
                f"{there} {folder.path} by user {user}",
                f"{advice}give it the folder (chown), or name another folder in DB_URL or RUNTIME_DIR",
            )
    for file in files:
        if not file.is_usable:
            return fail(
                "permissions",
                f"{file.path} belongs to user {file.owner} (mode {stat.filemode(file.mode)}), and user {user} "
                "may not write it",
                f"{advice}give it the file (chown)",
            )
    for file in files:
        if file.mode & STRANGERS:
            return warn(
                "permissions",
                f"{file.path} is open to every user of this machine (mode {stat.filemode(file.mode)})",
                f"chmod o-rwx {file.path}: whoever may open it can stop the writer by a lock",
            )
    return ok("permissions", f"user {user} may write what the node writes, and others may not open it")


def open_files(hard_limit: int | None, needed: int, least: int) -> Finding:
    """Whether a process may open as many files as CONNECTIONS_MAX and STREAM_CLIENTS_MAX need.

    `hard_limit` of None: there is none. `least`: with fewer the node cannot serve at all.
    """
    advice = "raise the limit (LimitNOFILE= of the unit, ulimit -Hn in a shell), or lower CONNECTIONS_MAX"
    if hard_limit is None or hard_limit >= needed:
        return ok(
            "open-files", f"{'any number of' if hard_limit is None else f'{hard_limit:,}'} open files are allowed"
        )
    sentence = f"{hard_limit:,} open files are allowed, and the settings need {needed:,}"
    if hard_limit < least:
        return fail("open-files", f"{sentence}, {least:,} at least", advice)
    return warn("open-files", f"{sentence}: fewer clients are admitted", advice)


def port(host: str, number: int, listener: Listener | None, node: str | None) -> Finding:
    """Whether the port is free, or taken by a node, whose state is `node`."""
    if listener is None:
        return ok("port", f"HOST {host}, PORT {number} is free")
    if node is not None:
        return ok("port", f"a node of klinenode answers on HOST {host}, PORT {number}: {node}")
    whose = "another program" if listener.pid is None else f"process {listener.pid} ({listener.command})"
    return fail(
        "port",
        f"HOST {host}, PORT {number} is taken by {whose}",
        "end that program, or choose another port with PORT or --port"
        + ("" if listener.pid else "; as root, ss -ltnp shows whose it is"),
    )


def no_address(host: str, reason: str) -> Finding:
    """HOST is no address of this machine."""
    return fail(
        "port",
        f"HOST={host} is not an address of this machine: {reason}",
        "set HOST to 127.0.0.1 (this machine alone) or 0.0.0.0 (every address it has)",
    )
