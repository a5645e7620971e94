"""The migrations create exactly the schema that the metadata describes."""

from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from app.domain.interval import INTERVALS
from app.kinds.klines import KLINES
from app.ports.errors import SchemaTooNew, StoreUnavailable
from infra.sqlite.library import sqlite3
from infra.sqlite.migrate import HEAD_SQL, upgrade
from infra.sqlite.schema import METADATA
from infra.stores.row_tables import row_table
from tests.sqlite.head_schema import head_schema


def layout(file: Path) -> dict[str, tuple[list[tuple[object, ...]], bool]]:
    """By table: its columns (name, type, not null, default, key) and whether it is WITHOUT ROWID."""
    with closing(sqlite3.connect(file)) as connection:
        listed = connection.execute("PRAGMA table_list").fetchall()
        return {
            name: (connection.execute(f"SELECT * FROM pragma_table_info('{name}')").fetchall(), bool(without_rowid))
            for _, name, type_, _, without_rowid, _ in listed
            if type_ == "table" and not name.startswith(("sqlite_", "alembic_"))
        }


def test_the_migrations_lead_to_the_metadata(
    url: str, db_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the revisions are found from any working directory
    db_file.parent.mkdir()
    assert HEAD_SQL.read_text() == head_schema(db_file), "run make docs"
    upgrade(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()
    created = tmp_path / "created.db"
    engine = create_engine(f"sqlite:///{created}")
    METADATA.create_all(engine)
    engine.dispose()
    assert layout(db_file) == layout(created)
    assert {row_table(KLINES, interval) for interval in INTERVALS.values()} <= set(layout(db_file))
    assert row_table(KLINES, INTERVALS["1M"]) == "kline_1mo"


def test_a_new_file_gets_the_schema_of_all_revisions_and_older_files_only_what_they_lack(
    url: str, db_file: Path, tmp_path: Path
) -> None:
    upgrade(url)
    upgrade(url)
    with closing(sqlite3.connect(db_file)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0009",)]
        connection.execute("DROP TABLE relisting")
        connection.execute("DROP TABLE ledger_log")
        connection.execute("UPDATE alembic_version SET version_num = '0008'")
        connection.commit()
    upgrade(url)
    head_schema(tmp_path / "revised.db")
    assert layout(db_file) == layout(tmp_path / "revised.db")


def test_the_log_mode_stays_with_the_file(url: str, db_file: Path) -> None:
    upgrade(url)
    with closing(sqlite3.connect(db_file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_database_of_a_newer_version_is_left_alone_with_a_clear_error(url: str, db_file: Path) -> None:
    upgrade(url)
    with closing(sqlite3.connect(db_file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = layout(db_file)
    with pytest.raises(SchemaTooNew, match="revision 9999, which this version of klinenode does not know") as caught:
        upgrade(url)
    assert "Start that version, or put back a copy" in str(caught.value)
    assert layout(db_file) == before


def test_a_database_of_another_program_is_left_alone(url: str, db_file: Path) -> None:
    db_file.parent.mkdir()
    with closing(sqlite3.connect(db_file)) as connection:
        connection.execute("CREATE TABLE ledger (amount REAL)")
    before = layout(db_file)
    with pytest.raises(StoreUnavailable, match="belongs to another program; point DB_URL at another file"):
        upgrade(url)
    assert layout(db_file) == before, "a failed migration changes nothing"
