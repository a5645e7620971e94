"""Every command that prints a result prints it as one JSON document with --json."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from app.cli import app
from infra.sqlite.migrate import upgrade
from tests.project.documents import commands

ENDLESS = {"serve", "demo", "collect", "demo-collector", "sandbox", "replay"}
A_SCRIPT = {"completion"}


def test_every_command_that_prints_a_result_has_json() -> None:
    having = {name for name, command in commands().items() if any("--json" in each.opts for each in command.params)}
    assert set(commands()) - having == ENDLESS | A_SCRIPT


@pytest.fixture(autouse=True)
def in_a_folder_with_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DB_URL", "sqlite:///./k.db")
    monkeypatch.setenv("BACKFILL_DAYS", "1")
    monkeypatch.setenv("INTERVALS", "1d")
    monkeypatch.setenv("AUTO_SYNC_SYMBOLS", "false")
    monkeypatch.setenv("ADMIN_TOKEN", "geheim")
    monkeypatch.setenv("SEAL_AFTER_DAYS", "0")
    upgrade("sqlite:///./k.db")


def document(*words: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(app, [*words, "--json"])
    found: dict[str, object] = orjson.loads(done.stdout)
    return done.exit_code, found


def test_settings_are_a_document_with_secrets_masked() -> None:
    status, found = document("config")
    assert status == 0
    assert found["BACKFILL_DAYS"] == "1"
    assert "geheim" not in str(found)


def test_a_key_is_a_document() -> None:
    status, found = document("key", "new", "alice")
    assert status == 0
    assert str(found["line"]).startswith("alice ")
    assert str(found["key"]) not in str(found["line"])


def test_a_fault_is_said_on_stderr_and_stdout_stays_empty() -> None:
    done = CliRunner().invoke(app, ["gaps", "--json", "--interval", "7m"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "unknown interval 7m" in done.stderr


def test_sealed_blocks_that_are_none_are_a_document() -> None:
    assert document("unseal") == (0, {"rows": 0, "damaged_blocks": 0})
