"""At most one process holds the writer lease, and a dead process holds none."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from subprocess import Popen

import pytest

from app.ports.coordination import Lease
from tests.patience import PATIENCE_S
from tests.stores.leases import LEASES, Leases, another_process
from tests.system.processes import until


@pytest.fixture(params=LEASES.values(), ids=list(LEASES))
async def leases(request: pytest.FixtureRequest, tmp_path: Path) -> Leases:
    kind: type[Leases] = request.param
    return await kind.made(tmp_path)


class Made:
    """Makes leases, which are released at the end of the test."""

    def __init__(self, leases: Leases, at_the_end: AsyncExitStack) -> None:
        self._leases = leases
        self._at_the_end = at_the_end

    def __call__(self) -> Lease:
        made = self._leases.kind(self._leases.db_url)
        self._at_the_end.push_async_callback(made.release)
        return made


@pytest.fixture
async def lease(leases: Leases) -> AsyncIterator[Made]:
    async with AsyncExitStack() as at_the_end:
        yield Made(leases, at_the_end)


async def test_a_second_process_cannot_take_it_and_kill_9_frees_it(leases: Leases, lease: Made) -> None:
    mine, other = lease(), lease()
    assert await mine.holder() is None
    async with another_process(leases, "http://127.0.0.1:8000") as process:
        assert await mine.holder() == "http://127.0.0.1:8000"
        assert not await mine.try_acquire("http://127.0.0.1:9000")
        assert not mine.is_held()
        assert await mine.holder() == "http://127.0.0.1:8000"
        _kill(process)

        async def is_free() -> bool:
            return await mine.holder() is None

        await until(is_free, "the note of the dead holder is not believed", PATIENCE_S)
        assert await mine.try_acquire("http://127.0.0.1:9000")
        assert await mine.holder() == await other.holder() == "http://127.0.0.1:9000"
    await mine.release()
    await mine.release()
    assert await mine.holder() is None


def _kill(process: Popen[str]) -> None:
    process.kill()
    process.wait()


async def test_two_leases_of_one_process_exclude_each_other(lease: Made) -> None:
    first, second = lease(), lease()
    assert await first.try_acquire("http://first")
    assert await first.try_acquire("http://first:8001"), "the holder may say its address again"
    assert not await second.try_acquire("http://second")
    assert await second.holder() == "http://first:8001"
    assert (first.is_held(), second.is_held()) == (True, False)
    await first.release()
    assert not first.is_held()
    assert await second.try_acquire("http://second")
    assert await first.holder() == "http://second"


async def test_what_another_process_has_is_not_renewed(lease: Made) -> None:
    first, second = lease(), lease()
    assert await second.try_acquire("http://second")
    assert not await first.renew("http://first")
    assert await first.holder() == "http://second"


async def test_a_lease_that_was_released_can_be_taken_again(lease: Made) -> None:
    mine = lease()
    for url in ("http://one", "http://two"):
        assert await mine.try_acquire(url)
        assert mine.is_held()
        assert await mine.holder() == url
        await mine.release()
