import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.sandbox.grid import utc_ms
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S

START_MS = utc_ms(2026, 11, 21, 4, 29) + 5_000  # the closing frames of 04:28 were sent


class ManualClock:
    """A clock that only the test moves."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Event]] = []

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep(self, delay_s: float) -> None:
        awake = asyncio.Event()
        self._sleepers.append((self._now_ms + round(delay_s * 1000), awake))
        await awake.wait()

    def advance(self, delta_ms: int) -> None:
        self._now_ms += delta_ms
        for due_ms, awake in self._sleepers:
            if due_ms <= self._now_ms:
                awake.set()
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].is_set()]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def sandbox(clock: ManualClock) -> AsyncIterator[SandboxServer]:
    async with SandboxServer(clock, seed=1, symbols=10) as server:
        yield server


@pytest.fixture
async def http(sandbox: SandboxServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=PATIENCE_S, verify=trusting_nobody()) as client:
        yield client
