"""The tables of klinenode's database, as SQLAlchemy metadata; migrations/ brings a database to this state.

`1m` and `1M` differ only by case. SQLite ignores the case of table names, so these contain the interval's slug. Columns
compare byte by byte (BINARY collation, never NOCASE), so the `interval` column contains Binance's own code.
"""

from typing import Final

from sqlalchemy import CheckConstraint, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

from app.domain.interval import INTERVALS
from app.domain.kind import Kind
from app.kinds.registry import KINDS
from infra.stores.row_tables import former_table, revision_table, row_table

METADATA: Final = MetaData()


def _row_columns(kind: Kind) -> list[Column[int] | Column[str]]:
    return [
        _integer(name) if of_type is int else _text(name, or_null=of_type == str | None)
        for name, of_type in kind.columns
    ]


def _text(name: str, *, key: bool = False, or_null: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=or_null)


def _integer(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, Integer, primary_key=key, nullable=False, autoincrement=False)


def tables_of(kind: Kind, metadata: MetaData) -> list[Table]:
    """The tables of a kind: one for each interval, one of replaced rows, and one of rows of former listings."""
    rows = [
        Table(
            row_table(kind, interval),
            metadata,
            _text("symbol", key=True),
            _integer("open_time", key=True),
            *_row_columns(kind)[1:],
            sqlite_with_rowid=False,
        )
        for interval in kind.intervals or INTERVALS.values()
    ]
    revision = revision_table(kind)
    replaced = Table(
        revision,
        metadata,
        Column("id", Integer, primary_key=True),
        _text("symbol"),
        _text("interval"),
        *_row_columns(kind),
        _text("old_source"),
        _text("new_source"),
        _integer("replaced_at_ms"),
        Index(f"{revision}_by_series", "symbol", "interval", "open_time"),
    )
    former = Table(
        former_table(kind),
        metadata,
        _text("symbol", key=True),
        _integer("until_ms", key=True),
        _text("interval", key=True),
        _integer("open_time", key=True),
        *_row_columns(kind)[1:],
        sqlite_with_rowid=False,
    )
    return [*rows, replaced, former]


for _kind in {kind.table: kind for kind in KINDS.values()}.values():
    tables_of(_kind, METADATA)

BLOCK: Final = Table(
    "block",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("symbol"),
    _text("interval"),
    _integer("start_ms"),
    _integer("rows"),
    _integer("first_ms"),
    _integer("last_ms"),
    Column("sha256", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("block_of_series", "symbol", "interval", "start_ms", unique=True),
)
"""The rows of a series in one span (infra.blocks), instead of rows in its table. A table of rows without rowid would
keep 1,000 bytes of each body in its inner pages, and be nine levels deep."""

LEDGER: Final = Table(
    "ledger",
    METADATA,
    _text("symbol", key=True),
    _text("interval", key=True),
    _integer("start_ms", key=True),
    _integer("end_ms"),
    _text("source"),
    CheckConstraint("start_ms < end_ms", name="ledger_span"),
    sqlite_with_rowid=False,
)

LEDGER_LOG: Final = Table(
    "ledger_log",
    METADATA,
    Column("seq", Integer, primary_key=True),
    _integer("at_ms"),
    _integer("is_whole"),
    Column("body", LargeBinary, nullable=False),
    Index("ledger_log_whole", "seq", sqlite_where=text("is_whole = 1")),
)
"""What each transaction changed in ledgers (infra.stores.ledger_log)."""

VERIFICATION: Final = Table(
    "verification",
    METADATA,
    _text("symbol", key=True),
    _text("interval", key=True),
    _integer("start_ms", key=True),
    _integer("end_ms"),
    _integer("verified_at_ms"),
    CheckConstraint("start_ms < end_ms", name="verification_span"),
    sqlite_with_rowid=False,
)

DISAGREEMENT: Final = Table(
    "disagreement",
    METADATA,
    _text("symbol", key=True),
    _text("interval", key=True),
    _integer("open_time", key=True),
    _text("other", key=True),
    _text("ours"),
    _text("theirs"),
    _integer("seen_ms"),
    sqlite_with_rowid=False,
)

LISTING: Final = Table(
    "listing",
    METADATA,
    _text("symbol", key=True),
    _integer("onboard_ms"),
    _integer("delivery_ms"),
    _integer("price_precision"),
    _integer("quantity_precision"),
    _integer("since_ms"),
    _integer("is_doubted"),
    sqlite_with_rowid=False,
)

FORMER_LISTING: Final = Table(
    "former_listing",
    METADATA,
    _text("symbol", key=True),
    _integer("until_ms", key=True),
    _integer("onboard_ms"),
    _integer("delivery_ms"),
    _integer("price_precision"),
    _integer("quantity_precision"),
    sqlite_with_rowid=False,
)

RELISTING: Final = Table(
    "relisting", METADATA, _text("symbol", key=True), _integer("at_ms", key=True), sqlite_with_rowid=False
)
"""When the rows of a symbol were moved to its former listing."""

FORMER_LEDGER: Final = Table(
    "former_ledger",
    METADATA,
    _text("symbol", key=True),
    _integer("until_ms", key=True),
    _text("interval", key=True),
    _integer("start_ms", key=True),
    _integer("end_ms"),
    _text("source"),
    sqlite_with_rowid=False,
)

CHANGE: Final = Table(
    "change",
    METADATA,
    Column("seq", Integer, primary_key=True),
    _text("symbol"),
    _text("interval"),
    _integer("start_ms"),
    _integer("end_ms"),
)

WRITER: Final = Table(
    "writer",
    METADATA,
    Column("id", Integer, primary_key=True),
    _integer("epoch"),
)

STAND_DOWN: Final = Table(
    "stand_down",
    METADATA,
    _integer("id", key=True),
    _integer("until_ms"),
    _text("reason"),
    CheckConstraint("id = 1", name="stand_down_single"),
)

DOCUMENT: Final = Table(
    "document",
    METADATA,
    _text("name", key=True),
    Column("body", LargeBinary, nullable=False),
    _integer("stored_ms"),
)

ANCHOR: Final = Table("anchor", METADATA, _text("symbol", key=True), _integer("open_ms"), sqlite_with_rowid=False)

EXTRA_WISH: Final = Table(
    "extra_wish",
    METADATA,
    _text("symbol", key=True),
    _text("interval", key=True),
    _integer("start_ms"),
    _integer("end_ms"),
    CheckConstraint("start_ms < end_ms", name="extra_wish_span"),
    sqlite_with_rowid=False,
)
