"""The log of ledger changes, from which it is known what was held at any time since; and when names changed hands."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables. The log begins, with all ledgers, in the next transaction that changes one."""
    op.execute(
        "CREATE TABLE ledger_log (seq INTEGER NOT NULL PRIMARY KEY, at_ms INTEGER NOT NULL, "
        "is_whole INTEGER NOT NULL, body BLOB NOT NULL)"
    )
    op.execute("CREATE INDEX ledger_log_whole ON ledger_log (seq) WHERE is_whole = 1")
    op.execute(
        "CREATE TABLE relisting (symbol TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (symbol, at_ms)) "
        "WITHOUT ROWID"
    )
