"""The schema that SQLite has come to: rows by kind and interval, blocks, ledger, journal, and what the node remembers.

Written out, not derived from the kinds: a revision describes the past and does not change with the code. Numbers are
texts, as they came: NUMERIC has no "-0.00000000", which the premium index may print, and no empty text. Texts compare
byte by byte. Tables of rows that are sealed are partitioned by open time (infra.postgres.partitions), or hypertables
(infra.postgres.hypertables).
"""

from typing import Final

from alembic import context, op

revision = "0001"
down_revision = None

_SEALED: Final = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
_NEVER_SEALED: Final = ("3d", "1w", "1mo")
_TEXT: Final = 'text COLLATE "C"'
_SERIES: Final = f"symbol {_TEXT} NOT NULL, interval {_TEXT} NOT NULL, "
_PRICES: Final = ("open", "high", "low", "close", "volume", "quote_volume")
_TAKERS: Final = ("taker_buy_volume", "taker_buy_quote_volume")
_KLINE: Final = (
    "".join(f"{name} {_TEXT} NOT NULL, " for name in _PRICES)
    + "trades bigint NOT NULL, "
    + "".join(f"{name} {_TEXT} NOT NULL, " for name in _TAKERS)
)
_FUNDING: Final = f"funding_rate {_TEXT} NOT NULL, mark_price {_TEXT}, rate_type {_TEXT}, "
_CHUNK_MS: Final = 30 * 86_400_000  # without it TimescaleDB takes 1,000,000, which are 17 minutes
_STAMP_AFTER_OPEN_MS: Final = 59 * 60_000
_METRICS: Final = {
    "open_interest": ("openInterestHist", ("sum_open_interest", "sum_open_interest_value", "cmc_circulating_supply")),
    "top_account_ratio": ("topLongShortAccountRatio", ("long_short_ratio", "long_account", "short_account")),
    "top_position_ratio": ("topLongShortPositionRatio", ("long_short_ratio", "long_account", "short_account")),
    "account_ratio": ("globalLongShortAccountRatio", ("long_short_ratio", "long_account", "short_account")),
    "taker_ratio": ("takerlongshortRatio", ("buy_sell_ratio", "sell_vol", "buy_vol")),
}
"""By table: the part of its series' names after the symbol, and its columns."""

_TABLES: Final = f"""
block (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {_SERIES}start_ms bigint NOT NULL, rows integer NOT NULL,
    first_ms bigint NOT NULL, last_ms bigint NOT NULL, sha256 bytea NOT NULL, body bytea NOT NULL,
    CONSTRAINT block_of_series UNIQUE (symbol, interval, start_ms)
);
ledger (
    {_SERIES}start_ms bigint NOT NULL, end_ms bigint NOT NULL, source {_TEXT} NOT NULL,
    PRIMARY KEY (symbol, interval, start_ms), CONSTRAINT ledger_span CHECK (start_ms < end_ms)
);
verification (
    {_SERIES}start_ms bigint NOT NULL, end_ms bigint NOT NULL, verified_at_ms bigint NOT NULL,
    PRIMARY KEY (symbol, interval, start_ms), CONSTRAINT verification_span CHECK (start_ms < end_ms)
);
disagreement (
    {_SERIES}open_time bigint NOT NULL, other {_TEXT} NOT NULL, ours {_TEXT} NOT NULL, theirs {_TEXT} NOT NULL,
    seen_ms bigint NOT NULL, PRIMARY KEY (symbol, interval, open_time, other)
);
listing (
    symbol {_TEXT} PRIMARY KEY, onboard_ms bigint NOT NULL, delivery_ms bigint NOT NULL,
    price_precision bigint NOT NULL, quantity_precision bigint NOT NULL, since_ms bigint NOT NULL,
    is_doubted bigint NOT NULL
);
former_listing (
    symbol {_TEXT} NOT NULL, until_ms bigint NOT NULL, onboard_ms bigint NOT NULL, delivery_ms bigint NOT NULL,
    price_precision bigint NOT NULL, quantity_precision bigint NOT NULL, PRIMARY KEY (symbol, until_ms)
);
former_ledger (
    symbol {_TEXT} NOT NULL, until_ms bigint NOT NULL, interval {_TEXT} NOT NULL, start_ms bigint NOT NULL,
    end_ms bigint NOT NULL, source {_TEXT} NOT NULL, PRIMARY KEY (symbol, until_ms, interval, start_ms)
);
change (seq bigint PRIMARY KEY, {_SERIES}start_ms bigint NOT NULL, end_ms bigint NOT NULL);
writer (id bigint PRIMARY KEY, epoch bigint NOT NULL, foreign_changes bigint NOT NULL DEFAULT 0);
identity (id bigint PRIMARY KEY CHECK (id = 1), token uuid NOT NULL);
stand_down (
    id bigint PRIMARY KEY, until_ms bigint NOT NULL, reason {_TEXT} NOT NULL,
    CONSTRAINT stand_down_single CHECK (id = 1)
);
document (name {_TEXT} PRIMARY KEY, body bytea NOT NULL, stored_ms bigint NOT NULL);
anchor (symbol {_TEXT} PRIMARY KEY, open_ms bigint NOT NULL);
extra_wish (
    {_SERIES}start_ms bigint NOT NULL, end_ms bigint NOT NULL, PRIMARY KEY (symbol, interval),
    CONSTRAINT extra_wish_span CHECK (start_ms < end_ms)
)"""
"""The other tables, each without CREATE TABLE."""

_NOTE_FOREIGN_CHANGE: Final = """
CREATE FUNCTION note_foreign_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE writer SET foreign_changes = foreign_changes + 1;
    RETURN NULL;
END $$
"""
"""So that the writer, which caches ledgers, learns of statements that are not its own."""

_NOW_MS: Final = (
    "CREATE FUNCTION klinenode_now_ms() RETURNS bigint LANGUAGE sql STABLE "
    "AS 'SELECT (extract(epoch FROM now()) * 1000)::bigint'"
)
"""For TimescaleDB, whose policies need to know what time it is in the unit of the open times."""


def upgrade() -> None:
    """Create all tables, and views of numbers for programs that calculate."""
    if _timescale_schema() is not None:
        op.execute(_NOW_MS)
    for interval in (*_SEALED, *_NEVER_SEALED):
        _create_rows(f"kline_{interval}", _KLINE, is_sealed=interval in _SEALED)
        numbers = [f"{name}::numeric(38, 16) AS {name}" for name in (*_PRICES, *_TAKERS)]
        numbers.insert(len(_PRICES), "trades")
        op.execute(
            f"CREATE VIEW kline_{interval}_numeric AS "  # noqa: S608
            f"SELECT symbol, open_time, {', '.join(numbers)} FROM kline_{interval}"
        )
    _create_kept("kline", "revision", _KLINE)
    for table, (_, names) in _METRICS.items():
        columns = "".join(f"{name} {_TEXT}, " for name in names)
        _create_rows(f"{table}_5m", columns, is_sealed=True)
        _create_kept(table, f"{table}_revision", columns)
    op.execute(f"CREATE VIEW futures_metrics_5m AS {_metrics_view()}")
    _create_rows("funding_1h", _FUNDING, is_sealed=False)
    _create_kept("funding", "funding_revision", _FUNDING)
    op.execute(
        "CREATE VIEW funding_rate AS SELECT split_part(symbol, '@', 1) AS symbol, "  # noqa: S608
        f"open_time + {_STAMP_AFTER_OPEN_MS} AS funding_time, funding_rate, mark_price, rate_type FROM funding_1h"
    )
    for table in _TABLES.split(";"):
        op.execute(f"CREATE TABLE {table}")
    op.execute(_NOTE_FOREIGN_CHANGE)
    for table in ("ledger", "block"):
        op.execute(
            f"CREATE TRIGGER foreign_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT "
            "WHEN (coalesce(current_setting('klinenode.writer', true), '') = '') EXECUTE FUNCTION note_foreign_change()"
        )
    op.execute("ALTER TABLE block ALTER COLUMN body SET STORAGE EXTERNAL")  # it is compressed already
    op.execute("INSERT INTO identity VALUES (1, gen_random_uuid())")


def _create_rows(table: str, columns: str, *, is_sealed: bool) -> None:
    schema = _timescale_schema()
    is_partitioned = is_sealed and schema is None
    op.execute(
        f"CREATE TABLE {table} (symbol {_TEXT} NOT NULL, open_time bigint NOT NULL, {columns}"
        f"PRIMARY KEY (symbol, open_time)){' PARTITION BY RANGE (open_time)' if is_partitioned else ''}"
    )
    if is_sealed and schema is not None:
        op.execute(
            f"SELECT {schema}.create_hypertable('{table}', {schema}.by_range('open_time', {_CHUNK_MS}::bigint), "
            "create_default_indexes => false)"
        )
        op.execute(f"SELECT {schema}.set_integer_now_func('{table}', 'klinenode_now_ms')")


def _timescale_schema() -> str | None:
    """The schema of TimescaleDB's functions if hypertables are to be made."""
    found: str | None = context.config.attributes["timescale_schema"]
    return found


def _create_kept(kind: str, revision_table: str, columns: str) -> None:
    """The tables of replaced rows, and of rows of former listings."""
    op.execute(
        f"CREATE TABLE {revision_table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {_SERIES}"
        f"open_time bigint NOT NULL, {columns}old_source {_TEXT} NOT NULL, new_source {_TEXT} NOT NULL, "
        "replaced_at_ms bigint NOT NULL)"
    )
    op.execute(f"CREATE INDEX {revision_table}_by_series ON {revision_table} (symbol, interval, open_time)")
    op.execute(
        f"CREATE TABLE former_{kind} (symbol {_TEXT} NOT NULL, until_ms bigint NOT NULL, interval {_TEXT} NOT NULL, "
        f"open_time bigint NOT NULL, {columns}PRIMARY KEY (symbol, until_ms, interval, open_time))"
    )


def _metrics_view() -> str:
    times = " UNION ".join(
        f"SELECT split_part(symbol, '@', 1) AS symbol, open_time FROM {table}_5m"  # noqa: S608
        for table in _METRICS
    )
    columns = ", ".join(
        f"{table}_5m.{name} AS {name if table in {'open_interest', 'taker_ratio'} else f'{table}_{name}'}"
        for table, (_, names) in _METRICS.items()
        for name in names
    )
    joins = " ".join(
        f"LEFT JOIN {table}_5m ON {table}_5m.symbol = times.symbol || '@{name}' "
        f"AND {table}_5m.open_time = times.open_time"
        for table, (name, _) in _METRICS.items()
    )
    return f"SELECT times.symbol AS symbol, times.open_time AS open_time, {columns} FROM ({times}) AS times {joins}"  # noqa: S608
