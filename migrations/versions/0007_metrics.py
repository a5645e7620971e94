"""Metrics: tables of five kinds of series, and a view that shows them as one row a symbol and time."""

from typing import Final

from alembic import op

revision = "0007"
down_revision = "0006"

_TABLES: Final = {
    "open_interest": ("openInterestHist", ("sum_open_interest", "sum_open_interest_value", "cmc_circulating_supply")),
    "top_account_ratio": ("topLongShortAccountRatio", ("long_short_ratio", "long_account", "short_account")),
    "top_position_ratio": ("topLongShortPositionRatio", ("long_short_ratio", "long_account", "short_account")),
    "account_ratio": ("globalLongShortAccountRatio", ("long_short_ratio", "long_account", "short_account")),
    "taker_ratio": ("takerlongshortRatio", ("buy_sell_ratio", "sell_vol", "buy_vol")),
}
"""By table: the part of its series' names after the symbol, and its columns."""


def upgrade() -> None:
    """Make the tables and the view."""
    for table, (_, names) in _TABLES.items():
        columns = "".join(f"{name} TEXT, " for name in names)
        op.execute(
            f"CREATE TABLE {table}_5m (symbol TEXT NOT NULL, open_time INTEGER NOT NULL, {columns}"
            "PRIMARY KEY (symbol, open_time)) WITHOUT ROWID"
        )
        op.execute(
            f"CREATE TABLE {table}_revision (id INTEGER NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, "
            f"interval TEXT NOT NULL, open_time INTEGER NOT NULL, {columns}old_source TEXT NOT NULL, "
            "new_source TEXT NOT NULL, replaced_at_ms INTEGER NOT NULL)"
        )
        op.execute(f"CREATE INDEX {table}_revision_by_series ON {table}_revision (symbol, interval, open_time)")
        op.execute(
            f"CREATE TABLE former_{table} (symbol TEXT NOT NULL, until_ms INTEGER NOT NULL, interval TEXT NOT NULL, "
            f"open_time INTEGER NOT NULL, {columns}PRIMARY KEY (symbol, until_ms, interval, open_time)) WITHOUT ROWID"
        )
    op.execute(f"CREATE VIEW futures_metrics_5m AS {_view()}")


def _view() -> str:
    times = " UNION ".join(
        f"SELECT substr(symbol, 1, instr(symbol, '@') - 1) AS symbol, open_time FROM {table}_5m"  # noqa: S608  constants
        for table in _TABLES
    )
    columns = ", ".join(
        f"{table}_5m.{name} AS {name if table in {'open_interest', 'taker_ratio'} else f'{table}_{name}'}"
        for table, (_, names) in _TABLES.items()
        for name in names
    )
    joins = " ".join(
        f"LEFT JOIN {table}_5m ON {table}_5m.symbol = times.symbol || '@{name}' "
        f"AND {table}_5m.open_time = times.open_time"
        for table, (name, _) in _TABLES.items()
    )
    return f"SELECT times.symbol AS symbol, times.open_time AS open_time, {columns} FROM ({times}) AS times {joins}"  # noqa: S608
