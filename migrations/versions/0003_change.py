"""The newest changes in the order of their commits: how processes that do not write keep up with the one that does."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make room for the newest changes."""
    op.execute(
        """CREATE TABLE change (
    seq INTEGER NOT NULL PRIMARY KEY,
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL
)"""
    )
