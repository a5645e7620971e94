"""A node says which SQLite it uses, and a faulty one is a note in health and no reason to be degraded."""

from pathlib import Path

import pytest

from app.events import StoreLibraryFaulty, StoreLinked
from app.node import stores
from app.ports.store import StoreLibrary
from infra.sqlite.library import linked
from tests.system.world import Watched, world

FAULTY = StoreLibrary("sqlite3", "3.40.1", "SQLite 3.40.1 may lose commits")


@pytest.fixture(params=[linked()._replace(note=None), FAULTY], ids=["sound", "faulty"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StoreLibrary:
    found: StoreLibrary = request.param
    monkeypatch.setattr(stores, "_SQLITE", stores._SQLITE._replace(library=lambda: found))
    return found


async def test_the_library_is_told_at_start_and_in_health(tmp_path: Path, library: StoreLibrary) -> None:
    notes = [] if library.note is None else [library.note]
    async with world(tmp_path, symbols=1) as here, here.node(intervals="1m") as watched:
        assert of_kind(watched, StoreLinked) == [StoreLinked(library.name, library.version)]
        assert of_kind(watched, StoreLibraryFaulty) == [StoreLibraryFaulty(note) for note in notes]
        await watched.until_whole()
        async with watched.http() as client:
            health = (await client.get("/v1/health")).json()
    assert health["notes"] == notes
    assert not any("SQLite" in reason for reason in health["reasons"])


def of_kind(watched: Watched, kind: type[StoreLinked | StoreLibraryFaulty]) -> list[object]:
    return [event for event in watched.events if isinstance(event, kind)]
