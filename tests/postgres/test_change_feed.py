"""The feed on a real server: when it looks, and that cut connections lose nothing (contract: tests/stores)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.domain.interval import M1
from app.domain.ledger import Source
from app.domain.series import Series
from app.holding.follow import POLL_S
from app.kinds.klines import KLINES
from app.ports.coordination import LOOK_S_MAX
from app.ports.errors import StoreUnavailable
from infra.postgres.change_feed import PostgresChangeFeed
from infra.postgres.postgres_store import PostgresWriter
from tests.patience import PATIENCE_S
from tests.postgres_server import execute, fresh_database, shared_server
from tests.sqlite.material import BTC_1M, FixedClock, batch, minutes
from tests.system.processes import until
from tests.tcp_proxy import TcpProxy

ETH_1M = Series(KLINES, "ETHUSDT", M1)
END_THEM = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'klinenode feed'"


class ForEver(FixedClock):
    """A clock on which the pause between two looks passes at once, and nothing longer ever ends."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        if delay_s > POLL_S:
            await asyncio.Event().wait()


@pytest.fixture
async def url() -> str:
    return await fresh_database(shared_server().tcp_url)


@pytest.fixture
async def writer(url: str) -> AsyncIterator[PostgresWriter]:
    store = await PostgresWriter.open(url, FixedClock())
    await store.commit([batch(ETH_1M, Source.WS, minutes((0, 1)))])
    yield store
    await store.close()


@pytest.fixture
async def feed(writer: PostgresWriter, url: str) -> AsyncIterator[PostgresChangeFeed]:
    found = PostgresChangeFeed(url)
    yield found
    await found.close()


async def test_it_waits_for_a_commit_and_no_longer(writer: PostgresWriter, feed: PostgresChangeFeed) -> None:
    clock, last = ForEver(), (await feed.changes(None)).last
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        waiting = group.create_task(feed.wait(clock, POLL_S))
        for _ in range(10):
            await asyncio.wait([waiting], timeout=0.01)
        assert not waiting.done(), "nothing was committed"
        await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 1)))])
    assert set((await feed.changes(last)).series) == {BTC_1M}
    assert clock.slept[-1] <= LOOK_S_MAX, "without a commit it looks in time for what is kept in memory to stay valid"


async def test_a_commit_during_a_look_ends_the_next_wait_at_once(
    writer: PostgresWriter, feed: PostgresChangeFeed
) -> None:
    last = (await feed.changes(None)).last
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 1)))])
    async with asyncio.timeout(PATIENCE_S):
        await feed.wait(ForEver(), POLL_S)
    assert set((await feed.changes(last)).series) == {BTC_1M}


async def test_while_nobody_listens_it_polls(url: str) -> None:
    clock = ForEver()
    await PostgresChangeFeed(url).wait(clock, POLL_S)
    assert clock.slept == [POLL_S]


async def test_what_is_committed_while_it_is_disconnected_is_not_missed(
    writer: PostgresWriter, feed: PostgresChangeFeed, url: str
) -> None:
    last = (await feed.changes(None)).last
    await execute(url, END_THEM)
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 2)))])
    found = []

    async def looks() -> bool:
        try:
            found.append(await feed.changes(last))
        except StoreUnavailable:
            return False
        return True

    await until(looks, "it connects again")
    assert found[0].is_whole
    assert found[0].series[BTC_1M].span == minutes((0, 2)).hull
    await writer.commit([batch(BTC_1M, Source.WS, minutes((2, 3)))])
    async with asyncio.timeout(PATIENCE_S):
        await feed.wait(ForEver(), POLL_S)
    assert set((await feed.changes(found[0].last)).series) == {BTC_1M}, "and listens again"


async def test_a_cut_network_is_noticed_and_nothing_is_missed_after_it(writer: PostgresWriter, url: str) -> None:
    async with TcpProxy(shared_server().port) as network:
        feed = PostgresChangeFeed(url.replace(f":{shared_server().port}/", f":{network.port}/"))
        last = (await feed.changes(None)).last
        network.cut()
        await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 1)))])
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await feed.changes(last)
        network.mend()
        assert set((await feed.changes(last)).series) == {BTC_1M}
        await feed.close()


async def test_a_cancelled_look_does_not_shift_the_answers(writer: PostgresWriter, feed: PostgresChangeFeed) -> None:
    last = (await feed.changes(None)).last
    for _ in range(20):
        looking = asyncio.Event()

        async def look(begun: asyncio.Event = looking) -> None:
            begun.set()
            await feed.changes(None)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(look())
            await looking.wait()
            task.cancel()
    assert await feed.changes(last) == (last, True, {})
