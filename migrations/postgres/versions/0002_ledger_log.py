"""The log of ledger changes, from which it is known what was held at any time since; and when names changed hands."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables. The log begins, with all ledgers, in the next transaction that changes one."""
    op.execute(
        "CREATE TABLE ledger_log (seq bigint PRIMARY KEY, at_ms bigint NOT NULL, is_whole bigint NOT NULL, "
        "body bytea NOT NULL)"
    )
    op.execute("CREATE INDEX ledger_log_whole ON ledger_log (seq) WHERE is_whole = 1")
    op.execute("ALTER TABLE ledger_log ALTER COLUMN body SET STORAGE EXTERNAL")  # it is compressed already
    op.execute(
        'CREATE TABLE relisting (symbol text COLLATE "C" NOT NULL, at_ms bigint NOT NULL, PRIMARY KEY (symbol, at_ms))'
    )
