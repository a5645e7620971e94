"""A look at the Redis server of a CACHE_URL that changes nothing: a few pings, and what INFO says."""

import asyncio
from time import monotonic_ns
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from app.ports.probes import RedisFacts
from infra.redis.redis_cache import CONNECT_S_MAX

PINGS: Final = 5
ANSWER_S_MAX: Final = 2.0
_NS: Final = 1_000_000


async def examine(url: str, shown: str) -> RedisFacts:
    """The facts of the server at `url`; `shown`: the same without its password, for sentences."""
    client = Redis.from_url(
        url, protocol=2, socket_connect_timeout=CONNECT_S_MAX, socket_timeout=ANSWER_S_MAX, retry=None
    )
    try:
        async with asyncio.timeout(CONNECT_S_MAX + ANSWER_S_MAX):
            ping_ms = min([await _ping_ms(client) for _ in range(PINGS)])
            return await _told(client, RedisFacts(shown, ping_ms=ping_ms))
    except AuthenticationError:
        return RedisFacts(shown, "it refuses this user or password")
    except TimeoutError:
        return RedisFacts(shown, "it does not answer")
    except (RedisError, OSError) as error:
        return RedisFacts(shown, str(error) or type(error).__name__)
    finally:
        await client.aclose()


async def _told(client: Redis, facts: RedisFacts) -> RedisFacts:
    """The facts with what INFO says, if this user may ask."""
    try:
        info: dict[str, Any] = await client.info()
    except ResponseError:
        return facts
    return facts._replace(
        version=str(info.get("redis_version", "")),
        is_replica=info.get("role") == "slave",
        memory_bytes_max=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "")),
    )


async def _ping_ms(client: Redis) -> int:
    began_ns = monotonic_ns()
    await client.ping()
    return (monotonic_ns() - began_ns) // _NS
