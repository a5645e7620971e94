"""Klines by interval, ledger, revisions, and what the node remembers across restarts.

Written out, not derived from infra.sqlite.schema: a revision describes the past and does not change with the code.
"""

from alembic import op

revision = "0001"
down_revision = None

_INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1mo")

_KLINE_COLUMNS = """
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL"""

_TABLES = (
    """CREATE TABLE ledger (
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    verified_at_ms INTEGER,
    PRIMARY KEY (symbol, interval, start_ms),
    CONSTRAINT ledger_span CHECK (start_ms < end_ms)
) WITHOUT ROWID""",
    f"""CREATE TABLE revision (
    id INTEGER NOT NULL PRIMARY KEY,
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,{_KLINE_COLUMNS},
    old_source TEXT NOT NULL,
    new_source TEXT NOT NULL,
    replaced_at_ms INTEGER NOT NULL
)""",
    "CREATE INDEX revision_by_series ON revision (symbol, interval, open_time)",
    """CREATE TABLE stand_down (
    id INTEGER NOT NULL PRIMARY KEY,
    until_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT stand_down_single CHECK (id = 1)
)""",
    """CREATE TABLE document (
    name TEXT NOT NULL PRIMARY KEY,
    body BLOB NOT NULL,
    stored_ms INTEGER NOT NULL
)""",
    """CREATE TABLE anchor (
    symbol TEXT NOT NULL PRIMARY KEY,
    open_ms INTEGER NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE extra_wish (
    symbol TEXT NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    PRIMARY KEY (symbol, interval),
    CONSTRAINT extra_wish_span CHECK (start_ms < end_ms)
) WITHOUT ROWID""",
)


def upgrade() -> None:
    """Create all tables."""
    for interval in _INTERVALS:
        op.execute(
            f"CREATE TABLE kline_{interval} (\n    symbol TEXT NOT NULL,{_KLINE_COLUMNS},\n"
            "    PRIMARY KEY (symbol, open_time)\n) WITHOUT ROWID"
        )
    for statement in _TABLES:
        op.execute(statement)
