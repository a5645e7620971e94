"""The shared cache on a real Redis server that is away, slow, full or restarted: nothing fails, no answer shifts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from app.events import Event, SharedCacheAnswers, SharedCacheLost
from infra.redis import redis_cache
from infra.redis.redis_cache import VALUE_BYTES_MAX, RedisCache
from tests.fakes import DAY0_MS, turn
from tests.fast_clock import ScaledClock
from tests.patience import PATIENCE_S
from tests.redis_server import RedisServer
from tests.system.processes import until
from tests.tcp_proxy import TcpProxy

TTL_MS = 600_000
HASTY_S = 0.05  # how long a command may take that gets no answer; those that get one have PATIENCE_S


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as found:
        yield found


@asynccontextmanager
async def caching(
    url: str, seen: list[Event] | None = None, *, command_s_max: float = PATIENCE_S
) -> AsyncIterator[RedisCache]:
    """A cache that runs; it need not be usable yet."""
    observe = (lambda event: None) if seen is None else seen.append
    cache = RedisCache(url, ScaledClock(DAY0_MS, 50), observe, command_s_max=command_s_max)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(cache.run())
        try:
            yield cache
        finally:
            running.cancel()
            await asyncio.wait([running])  # it may have a connection just made, which only a later close closes
            await cache.close()


async def usable(cache: RedisCache) -> None:
    async def is_usable() -> bool:
        return cache.is_usable

    await until(is_usable, "Redis answers", every_s=0.005)


async def away(cache: RedisCache) -> None:
    """Ask until Redis counts as away."""

    async def is_away() -> bool:
        await cache.get(b"k")
        return not cache.is_usable

    await until(is_away, "Redis counts as away", every_s=0.005)


async def found(cache: RedisCache, key: bytes) -> bytes:
    """The value of `key`, as soon as it is there."""
    value = await until(lambda: cache.get(key), f"{key!r} is there", every_s=0.005)
    assert value is not None
    return value


def connections(server: RedisServer) -> set[int]:
    """The server's numbers of the connections that have read values."""
    lines = server.command("CLIENT", "LIST").decode().splitlines()
    clients = [dict(word.split("=", 1) for word in line.split()) for line in lines]
    return {int(client["id"]) for client in clients if client["cmd"] == "getrange"}


async def test_what_is_put_is_found_by_another_node_and_has_an_end(server: RedisServer) -> None:
    async with caching(server.url) as one, caching(server.url) as other:
        await usable(one)
        await usable(other)
        assert await other.get(b"k") is None
        one.put(b"k", b"rows", TTL_MS)
        assert await found(other, b"k") == b"rows"
        assert 0 < server.command("PTTL", "k") <= TTL_MS
        assert one.errors == other.errors == 0


async def test_another_programs_values_are_none(server: RedisServer) -> None:
    async with caching(server.url) as cache:
        await usable(cache)
        server.command("RPUSH", "list", "x")
        server.command("SET", "large", b"x" * (VALUE_BYTES_MAX + 1))
        server.command("SET", "ours", b"y" * VALUE_BYTES_MAX)
        assert await cache.get(b"list") is None
        assert await cache.get(b"large") is None
        assert await found(cache, b"ours") == b"y" * VALUE_BYTES_MAX
        assert cache.is_usable


async def test_a_cancelled_command_does_not_shift_the_answers_of_the_following_ones(server: RedisServer) -> None:
    async with caching(server.url) as cache:
        await usable(cache)
        for name in (b"first", b"second"):
            server.command("SET", name, b"the value of " + name)
        assert await cache.get(b"first")
        [connection] = connections(server)
        server.suspend()
        asking = asyncio.get_running_loop().create_task(cache.get(b"first"))
        await turn(5)
        assert not cache._idle, "the command is under way"
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        assert asking.cancelled()
        server.resume()
        assert [await found(cache, b"second") for _ in range(3)] == [b"the value of second"] * 3
        assert await found(cache, b"first") == b"the value of first"
        assert connection not in connections(server), "the connection that owes an answer is closed"


async def test_a_command_that_is_late_does_not_either_and_a_dead_server_costs_nothing(server: RedisServer) -> None:
    seen: list[Event] = []
    async with caching(server.url, seen, command_s_max=HASTY_S) as cache:
        await usable(cache)
        for name in (b"k", b"second"):
            server.command("SET", name, b"the value of " + name)
        server.suspend()
        await away(cache)
        assert cache.errors > 0
        assert [type(event) for event in seen if isinstance(event, SharedCacheLost)] == [SharedCacheLost]
        asked = cache.get(b"k")
        with pytest.raises(StopIteration):  # it ends without having waited for anything
            asked.send(None)
        cache.put(b"third", b"dropped", TTL_MS)
        server.resume()
        assert await found(cache, b"second") == b"the value of second"
        assert await found(cache, b"k") == b"the value of k"
        assert await cache.get(b"third") is None


async def test_a_restart_is_one_event_each_way(server: RedisServer) -> None:
    seen: list[Event] = []
    async with caching(server.url, seen) as cache:
        await usable(cache)
        cache.put(b"k", b"rows", TTL_MS)
        assert await found(cache, b"k") == b"rows"
        server.kill()
        await away(cache)
        server.start()
        await usable(cache)
        assert await cache.get(b"k") is None
        cache.put(b"k", b"new rows", TTL_MS)
        assert await found(cache, b"k") == b"new rows"
    assert [type(event) for event in seen] == [SharedCacheLost, SharedCacheAnswers]


async def test_a_network_that_lets_nothing_through_is_noticed(server: RedisServer) -> None:
    seen: list[Event] = []
    async with TcpProxy(server.port) as network:
        url = f"redis://127.0.0.1:{network.port}"
        async with caching(url, seen, command_s_max=HASTY_S) as cache:
            await usable(cache)
            server.command("SET", "k", "rows")
            network.cut()
            await away(cache)
            assert await cache.get(b"k") is None
            network.mend()
            assert await found(cache, b"k") == b"rows"
        network.disconnect()
    assert isinstance(seen[0], SharedCacheLost)


async def test_a_wrong_password_is_told_without_it_and_a_right_one_is_enough(tmp_path: Path) -> None:
    seen: list[Event] = []
    with RedisServer(tmp_path, "--requirepass", "right-secret") as server:
        url = f"redis://:wrong-secret@127.0.0.1:{server.port}"
        async with caching(url, seen) as cache:

            async def is_reported() -> bool:
                return bool(seen)

            await until(is_reported, "the refusal is told")
            assert await cache.get(b"k") is None
            assert not cache.is_usable
            [event] = seen
            assert isinstance(event, SharedCacheLost)
            assert "WRONGPASS" in event.reason or "invalid" in event.reason
            assert "secret" not in repr(event)
        async with caching(url.replace("wrong", "right")) as cache:
            await usable(cache)
            cache.put(b"k", b"rows", TTL_MS)
            assert await found(cache, b"k") == b"rows"


async def test_a_full_server_takes_nothing_and_still_answers(tmp_path: Path) -> None:
    seen: list[Event] = []
    with RedisServer(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        async with caching(server.url, seen) as cache:
            await usable(cache)
            cache.put(b"k", b"rows", TTL_MS)
            assert await found(cache, b"k") == b"rows"

            async def is_refused() -> bool:
                cache.put(b"more %d" % server.command("DBSIZE"), b"x" * 200_000, TTL_MS)
                return cache.errors > 0

            await until(is_refused, "Redis refuses a value", every_s=0.005)
            assert await cache.get(b"k") == b"rows"
            assert cache.is_usable
    assert seen == []


async def test_what_waits_to_be_put_is_bounded(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_cache, "WAITING_BYTES_MAX", 1_000)
    async with caching(server.url) as cache:
        await usable(cache)
        for number in range(20):
            cache.put(b"%02d" % number, b"x" * 98, TTL_MS)
        cache.put(b"large", b"x" * (VALUE_BYTES_MAX + 1), TTL_MS)
        assert await found(cache, b"09")
        assert server.command("DBSIZE") == 10
