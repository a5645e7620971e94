"""The file of keys is read again when it changes; a bad one leaves the former keys and is reported once."""

import asyncio
from pathlib import Path

import pytest

from app.access.api_keys import ApiKeys, line_of
from app.access.key_file import LOOK_EVERY_S, KeyFile
from app.events import ApiKeysRead, ApiKeysRefused, Event
from tests.fakes import ManualClock
from tests.patience import PATIENCE_S

A, B = line_of("alice", "a" * 64, 60), line_of("bob", "b" * 64, 60)


class Held:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.used: list[frozenset[str]] = []
        self.events: list[Event] = []
        self.clock = ManualClock()
        self.file = KeyFile(path, self.clock, self.events.append, self._use)

    def _use(self, keys: ApiKeys) -> None:
        self.used.append(keys.names)

    def write(self, text: str) -> None:
        """Replace the file as an editor does, which gives it another inode."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path / "keys")


def test_each_change_is_read_once(held: Held) -> None:
    held.write(f"{A}\n")
    for _ in range(3):
        held.file.look()
    held.write(f"{A}\n{B}\n")
    for _ in range(3):
        held.file.look()
    assert held.used == [{"alice"}, {"alice", "bob"}]
    assert held.events == [ApiKeysRead(1), ApiKeysRead(2)]


def test_a_fault_is_reported_once_with_its_line_and_the_former_keys_stay(held: Held) -> None:
    held.write(f"{A}\n")
    held.file.look()
    held.write(f"{A}\nbob\n")
    for _ in range(3):
        held.file.look()
    assert held.used == [{"alice"}]
    assert held.file.trouble == "line 2 has 1 words; write `name sha256 requests_per_minute`"
    held.path.unlink()
    for _ in range(3):
        held.file.look()
    held.write(f"{B}\n")
    held.file.look()
    assert held.used == [{"alice"}, {"bob"}]
    trouble: str | None = held.file.trouble
    assert trouble is None
    assert [type(event) for event in held.events] == [ApiKeysRead, ApiKeysRefused, ApiKeysRefused, ApiKeysRead]


async def test_a_node_looks_every_second(held: Held) -> None:
    held.write(f"{A}\n")
    held.file.look()

    async def settle() -> None:
        await asyncio.to_thread(lambda: None)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(held.file.run())
        held.write(f"{B}\n")
        while held.used[-1] != {"bob"}:
            await held.clock.advance(LOOK_EVERY_S, settle)
        watch.cancel()
    assert held.used == [{"alice"}, {"bob"}]
