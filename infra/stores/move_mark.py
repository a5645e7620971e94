"""The mark of a database into which everything of another one is being moved; no node starts on it."""

from typing import Final

CREATE_MARK: Final = "CREATE TABLE migrate_store (source TEXT NOT NULL)"
"""Makes the mark's table, whose one row names the database that is moved."""
