"""The shared cache that a CACHE_URL names; none if it is empty."""

from app.events import Observe
from app.ports.cache import SharedCache
from app.ports.clock import Clock
from infra.local.no_cache import NoCache


def cache_of(url: str, clock: Clock, observe: Observe, seed: int) -> SharedCache:
    """The SharedCache of a CACHE_URL; app.settings has checked it."""
    if not url:
        return NoCache()
    from infra.redis.redis_cache import RedisCache  # 8 MB and 0.2 s, of nodes that use it

    return RedisCache(url, clock, observe, seed)
