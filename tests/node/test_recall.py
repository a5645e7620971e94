"""What must be known before the first request is loaded as soon as the database can be read."""

import asyncio
from pathlib import Path

import pytest

from app.node import node as node_module
from app.node.exchange_clock import KeptTime
from app.node.node import Node
from app.node.parts import KEPT_TIME, Parts
from app.ports.errors import StoreUnavailable
from app.settings import Settings
from infra.process.clock import SystemClock
from infra.sqlite.sqlite_store import SqliteWriter

BEHIND_MS = -90_000


async def test_a_clock_correction_is_loaded_once_there_is_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/klinenode.db"
    parts = Parts(Settings(_env_file=None, db_url=url))
    try:
        assert not await parts.recall(), "there is no database yet"
        assert abs(parts.clock.offset_ms) <= 1, "whole milliseconds of two clocks"
        writer = await SqliteWriter.open(url, SystemClock())
        await writer.save_document(KEPT_TIME, KeptTime(BEHIND_MS, 0, "").encoded(), SystemClock().now_ms())
        await writer.close()
        assert await parts.recall()
        assert abs(parts.clock.offset_ms - BEHIND_MS) <= 1
    finally:
        await close(parts)


@pytest.mark.parametrize("noted", [None, b"", b"one two three", b"\xff 1 x"])
async def test_this_machine_remembers_the_correction_while_its_database_is_away(
    tmp_path: Path, noted: bytes | None
) -> None:
    """Found by the simulation: with a fast clock, a ban seemed to be over before the database could be read."""
    settings = Settings(_env_file=None, db_url=f"sqlite:///{tmp_path}/klinenode.db")
    parts = Parts(settings)
    try:
        with pytest.raises(StoreUnavailable):
            await parts.keep_time(KeptTime(BEHIND_MS, 0, ""))  # a follower, which does not write to the database
    finally:
        await close(parts)
    if noted is not None:
        (tmp_path / "klinenode.db.time").write_bytes(noted)
    parts = Parts(settings)
    try:
        assert not await parts.recall()
        assert abs(parts.clock.offset_ms - (BEHIND_MS if noted is None else 0)) <= 1
    finally:
        await close(parts)


class SilentParts(Parts):
    """The parts of a node whose database takes connections and never answers."""

    async def recall(self) -> bool:
        await asyncio.Event().wait()
        return True


async def test_another_look_at_a_database_that_does_not_answer_ends_so_that_the_lease_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "RECALL_S_MAX", 0.01)
    parts = SilentParts(Settings(_env_file=None, db_url=f"sqlite:///{tmp_path}/klinenode.db"))
    node = Node(parts)
    try:
        await node._recall()
    finally:
        await node.close()


async def close(parts: Parts) -> None:
    await parts.rest.aclose()
    await parts.archive.aclose()
    await parts.reader.close()
    await parts.feed.close()
    parts.upstream.rate_state.close()
