"""What must be known before the first request is loaded as soon as the database can be read."""

from pathlib import Path

from app.node.exchange_clock import KeptTime
from app.node.parts import KEPT_TIME, Parts
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
        await parts.rest.aclose()
        await parts.archive.aclose()
        await parts.reader.close()
        await parts.feed.close()
        parts.upstream.rate_state.close()
