"""DB_URL names a file; otherwise the error says how to write it."""

from pathlib import Path

import pytest

from infra.sqlite.url import sqlite_path


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///./data/klinenode.db") == tmp_path / "data" / "klinenode.db"
    assert sqlite_path("sqlite:////var/lib/k n/100%.db") == Path("/var/lib/k n/100%.db")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://user:secret@db/klinenode", "postgresql: klinenode stores in SQLite or Postgres"),
        ("mysql://db/x", "stores in SQLite or Postgres"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///x.db?cache=shared", "must name a file and nothing else"),
        ("sqlite://data/klinenode.db", "must name a file and nothing else"),
        ("data/klinenode.db", "is no URL; write it as sqlite:///"),
        ("", "is no URL"),
    ],
)
def test_anything_else_is_refused_without_telling_secrets(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        sqlite_path(url)
    assert "secret" not in str(caught.value)
