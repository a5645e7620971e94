"""The writer's epoch: a writer that lost its lease without knowing cannot commit any more."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make room for the epoch of the newest writer."""
    op.execute("CREATE TABLE writer (id INTEGER NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL)")
