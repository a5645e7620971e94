"""Unpatched clients live through a replayed day by URL alone, and decide as a loop over the stored rows does."""

import asyncio
import json
from pathlib import Path
from typing import Final

import pytest

from app.domain.interval import HOUR_MS, MINUTE_MS
from app.domain.span import Span
from tests.programs.clients.bot_rule import WINDOW, Bot
from tests.programs.clients.test_clients import CLIENTS, carry_out
from tests.replaying.material import DAY, filled, minutes
from tests.system.processes import Place, Programs, until

SPAN: Final = Span(DAY, DAY + 24 * HOUR_MS)
CLOSES: Final = 60
DEADLINE_S: Final = 120.0  # for two interpreters to import their client on a busy machine
PAGES: Final = ("ccxt-pro", "python-binance")


async def test_a_bot_decides_as_a_loop_over_the_stored_rows(tmp_path: Path) -> None:
    python = CLIENTS / "python/bin/python"
    if not python.exists():
        pytest.skip("no client is installed; install them with: make clients")
    await filled(tmp_path / "klinenode.db", SPAN)
    bounds = ("--start", str(SPAN.start_ms + HOUR_MS), "--end", str(SPAN.end_ms), "--speed", "600", "--loop")
    async with Programs(tmp_path) as programs:
        place = Place(programs, upstream_port=9)
        programs.start("replay", *bounds, "--port", str(place.port), env=place.env)
        await until(place.is_up, "the replay answers")
        program = (str(python), "-m", "tests.programs.clients.replay_bot")
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            address = f"127.0.0.1:{place.port}"
            bots = {
                page: tasks.create_task(carry_out((*program, page, address, str(CLOSES)), {}, tmp_path))
                for page in PAGES
            }
    for page, bot in bots.items():
        status, said = bot.result()
        assert status == 0, f"{page}: {said[-4_000:]}"
        decisions = [(open_ms, decision) for open_ms, decision in json.loads(said.splitlines()[-1])]
        assert decisions == decided(decisions[0][0]), page
        assert len({decision for _, decision in decisions}) > 1, f"{page}: a rule that never changes shows nothing"


def decided(first_ms: int) -> list[tuple[int, str]]:
    """What the rule decides at CLOSES stored closes from `first_ms` on, which end a window each."""
    rows = minutes(SPAN)
    first = (first_ms - SPAN.start_ms) // MINUTE_MS
    bot, closes = Bot(), rows[first - WINDOW + 1 : first + CLOSES]
    found = [(row.open_ms, bot.closed(float(row.close))) for row in closes]
    return [(open_ms, decision) for open_ms, decision in found if decision is not None]
