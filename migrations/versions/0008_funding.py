"""Funding rates: their tables, and a view that shows the symbol and the time as the exchange states them."""

from typing import Final

from alembic import op

revision = "0008"
down_revision = "0007"

_COLUMNS: Final = "funding_rate TEXT NOT NULL, mark_price TEXT, rate_type TEXT, "
_STAMP_AFTER_OPEN_MS: Final = 59 * 60_000


def upgrade() -> None:
    """Make the tables and the view."""
    op.execute(
        f"CREATE TABLE funding_1h (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, {_COLUMNS}"
        "PRIMARY KEY (symbol, open_time)) WITHOUT ROWID"
    )
    op.execute(
        "CREATE TABLE funding_revision (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, "
        f"interval TEXT NOT NULL, open_time INTEGER NOT NULL, {_COLUMNS}old_source TEXT NOT NULL, "
        "new_source TEXT NOT NULL, replaced_at_ms INTEGER NOT NULL)"
    )
    op.execute("CREATE INDEX funding_revision_by_series ON funding_revision (symbol, interval, open_time)")
    op.execute(
        "CREATE TABLE former_funding (symbol TEXT NOT NULL, until_ms INTEGER NOT NULL, interval TEXT NOT NULL, "
        f"open_time INTEGER NOT NULL, {_COLUMNS}PRIMARY KEY (symbol, until_ms, interval, open_time)) WITHOUT ROWID"
    )
    op.execute(
        "CREATE VIEW funding_rate AS SELECT substr(symbol, 1, instr(symbol, '@') - 1) AS symbol, "  # noqa: S608  constant
        f"open_time + {_STAMP_AFTER_OPEN_MS} AS funding_time, funding_rate, mark_price, rate_type FROM funding_1h"
    )
