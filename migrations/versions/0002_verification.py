"""Verification: which spans were compared with the exchange, and where the exchange contradicts itself.

Checks have lines of their own: a ledger line grows with every kline, and would lose its check each time.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    "ALTER TABLE ledger DROP COLUMN verified_at_ms",
    """CREATE TABLE verification (
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    verified_at_ms INTEGER NOT NULL,
    PRIMARY KEY (symbol, interval, start_ms),
    CONSTRAINT verification_span CHECK (start_ms < end_ms)
) WITHOUT ROWID""",
    """CREATE TABLE disagreement (
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    other TEXT NOT NULL,
    ours TEXT NOT NULL,
    theirs TEXT NOT NULL,
    seen_ms INTEGER NOT NULL,
    PRIMARY KEY (symbol, interval, open_time, other)
) WITHOUT ROWID""",
)


def upgrade() -> None:
    """Move checks out of the ledger."""
    for statement in _STATEMENTS:
        op.execute(statement)
