from pathlib import Path

import pytest

from app.node.prepare import CannotStart, prepare
from app.node.shared_path import shared_path
from app.settings import load
from infra.process.runtime_dir import beside, make_runtime_dir, shared_by


def test_what_is_shared_lies_beside_the_database_unless_a_folder_is_named(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    assert shared_by(database, "") == database
    assert beside(shared_by(database, ""), "token") == tmp_path / "k.db.token"
    assert beside(shared_by(database, "/run/klinenode"), "token").parent == Path("/run/klinenode")


def test_the_settings_decide_it_for_server_and_workers_alike(tmp_path: Path) -> None:
    settings = load({"db_url": f"sqlite:///{tmp_path}/k.db"}, env_file=None)
    assert shared_path(settings) == tmp_path / "k.db"
    elsewhere = shared_path(settings.model_copy(update={"runtime_dir": "/run/klinenode"}))
    assert elsewhere == shared_by(tmp_path / "k.db", "/run/klinenode")


def test_databases_of_one_name_share_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (shared_by(tmp_path / folder / "k.db", "/run/klinenode") for folder in "ab")
    assert first != second
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    assert shared_by(Path("k.db"), "/run/klinenode") == first, "however the database is named"


def test_the_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    make_runtime_dir("")
    make_runtime_dir(str(tmp_path / "run" / "klinenode"))
    assert (tmp_path / "run" / "klinenode").stat().st_mode & 0o777 == 0o700
    make_runtime_dir(str(tmp_path / "run" / "klinenode"))


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def test_a_folder_that_cannot_be_used_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = load({"runtime_dir": str(tmp_path / "file"), "db_url": f"sqlite:///{tmp_path}/k.db"}, env_file=None)
    with pytest.raises(CannotStart, match=r"RUNTIME_DIR=.*/file: File exists; give this user"):
        await prepare(settings)
    assert names_in(tmp_path) == ["file"]
