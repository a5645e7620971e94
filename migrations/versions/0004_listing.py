"""Listings: whose klines are held under a name, and what was held of those that had the name before."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make room for the identity of each listing, and for rows and ledger of former ones."""
    op.execute(
        """CREATE TABLE listing (
    symbol TEXT NOT NULL PRIMARY KEY,
    onboard_ms INTEGER NOT NULL,
    delivery_ms INTEGER NOT NULL,
    price_precision INTEGER NOT NULL,
    quantity_precision INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    is_doubted INTEGER NOT NULL
) WITHOUT ROWID"""
    )
    op.execute(
        """CREATE TABLE former_listing (
    symbol TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    onboard_ms INTEGER NOT NULL,
    delivery_ms INTEGER NOT NULL,
    price_precision INTEGER NOT NULL,
    quantity_precision INTEGER NOT NULL,
    PRIMARY KEY (symbol, until_ms)
) WITHOUT ROWID"""
    )
    op.execute(
        """CREATE TABLE former_kline (
    symbol TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    interval TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    open TEXT NOT NULL,
    high TEXT NOT NULL,
    low TEXT NOT NULL,
    close TEXT NOT NULL,
    volume TEXT NOT NULL,
    quote_volume TEXT NOT NULL,
    trades INTEGER NOT NULL,
    taker_buy_volume TEXT NOT NULL,
    taker_buy_quote_volume TEXT NOT NULL,
    PRIMARY KEY (symbol, until_ms, interval, open_time)
) WITHOUT ROWID"""
    )
    op.execute(
        """CREATE TABLE former_ledger (
    symbol TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    interval TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (symbol, until_ms, interval, start_ms)
) WITHOUT ROWID"""
    )
