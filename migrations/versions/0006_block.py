"""Sealed blocks: old rows of a series, as REST prints them, compressed. The rows are sealed later, while it serves."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make room for blocks."""
    op.execute(
        "CREATE TABLE block (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, interval TEXT NOT NULL, "
        "start_ms INTEGER NOT NULL, rows INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, "
        "sha256 BLOB NOT NULL, body BLOB NOT NULL)"
    )
    op.execute("CREATE UNIQUE INDEX block_of_series ON block (symbol, interval, start_ms)")
