"""Checkpoints of the write-ahead log, which keep it small also while the database is always being read.

SQLite's automatic checkpoints never wait: the log restarts only when no reader uses it, so with overlapping readers it
grows for ever. Here the writer waits for readers of old states to end when the log exceeds WAL_BYTES_MAX. New readers
then read only the database file, so the writer waits for running reads, not for a moment without any.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from infra.sqlite.library import sqlite3
from infra.sqlite.log_readers import named, reading_processes

WAL_BYTES_MAX: Final = 16 * 1024 * 1024
"""Measured with 660,000 rows in commits of 4,500, in two rounds: 219,000 and 232,000 rows/s; with SQLite's own
checkpoints every 4 MB 162,000 and 165,000. Four times as much gains a tenth, and reads search a longer log."""
WAIT_MS_MAX: Final = 100  # wait for readers; reading 1,500 rows takes 2 ms. Commits are delayed as long
RETRY_MS: Final = 1_000  # pause after a reader took longer, so that waiting uses at most a tenth of the writer's time
HELD_MS_MIN: Final = 10_000  # a reader is reported from here on: an answer takes ms, an export of a year seconds
COMPLAINT_BYTES_MIN: Final = 2 * WAL_BYTES_MAX  # a smaller log is not reported


class Checkpoints:
    """Checkpoints for the writing connection, whose automatic checkpoints are turned off."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._log = database.with_name(f"{database.name}-wal")
        self._not_before_ms = 0
        self._held_since_ms: int | None = None
        self._done_pages = -1
        self._readers: frozenset[int] = frozenset()

    def after_commit(self, connection: sqlite3.Connection, now_ms: int) -> None:
        """Checkpoint and truncate the log if it is too large; retried after a later commit if that fails."""
        is_put_back = self._not_before_ms > now_ms + RETRY_MS
        if self._bytes() < WAL_BYTES_MAX or (now_ms < self._not_before_ms and not is_put_back):
            return
        [patience_ms] = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {min(WAIT_MS_MAX, patience_ms)}")
        is_kept_waiting, done_pages = True, -1
        with suppress(sqlite3.Error):  # the commit is done; a disk error is raised again by the next commit
            [is_kept_waiting, _, done_pages] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
        self._not_before_ms = now_ms + RETRY_MS if is_kept_waiting else 0
        self._note(done_pages if is_kept_waiting else -1, now_ms)

    def complaint(self, now_ms: int) -> str | None:
        """Which reader keeps the log from being truncated, and what to do; None if none has for HELD_MS_MIN."""
        since_ms = self._held_since_ms
        if since_ms is None or now_ms - since_ms < HELD_MS_MIN or (size := self._bytes()) < COMPLAINT_BYTES_MIN:
            return None
        readers = self._readers & reading_processes(self._database)
        if self._readers and not readers:  # the reader has ended; the next commit truncates the log
            return None
        reader = named(readers) if readers else "a program (in another container, or in this process)"
        return (
            f"the write-ahead log has grown to {size >> 20} MiB: {reader} has been inside one read transaction for "
            f"{(now_ms - since_ms) // 1000} s; end it (commit, or close the connection), the log is cut then"
        )

    def _note(self, done_pages: int, now_ms: int) -> None:
        """Record since when checkpoints have stopped at the same page, `done_pages`; -1: no reader held it up.

        The oldest reader reads at that page. With short readers, each checkpoint gets further than the previous one.
        """
        if done_pages < 0:
            self._held_since_ms, self._readers = None, frozenset()
        elif self._held_since_ms is None or done_pages != self._done_pages or now_ms < self._held_since_ms:
            self._held_since_ms, self._readers = now_ms, reading_processes(self._database)
        else:
            self._readers &= reading_processes(self._database)
        self._done_pages = done_pages

    def _bytes(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0  # no log yet, or the database was moved away, which the next transaction detects
