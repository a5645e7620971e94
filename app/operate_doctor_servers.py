"""What the doctor asks of the servers that the settings name: the database, its replica, NATS, Redis."""

from typing import Final

from app.collecting.plans import StreamLimits, stream_plans
from app.doctor import postgres, servers, store
from app.doctor.finding import Finding
from app.node.stores import store_of
from app.outbound import masked
from app.setting_values import is_server
from app.settings import Settings

HOUR_S: Final = 3_600


async def of_database(settings: Settings) -> list[Finding]:
    """The findings of the database, whatever keeps it."""
    facts = await store_of(settings.db_url, timescale=settings.timescale).examine(settings.db_url)
    is_file = not is_server(settings.db_url)
    library = store_of("sqlite:").library()
    found = [store.database(facts), store.schema(facts), store.sqlite(library, is_used=is_file)]
    if facts.server is not None:
        found += [
            postgres.postgres(facts.where, facts.server),
            postgres.connections(facts.server, settings.workers),
        ]
        if settings.timescale:
            found.append(postgres.timescale(facts.where, facts.server, has_tables=facts.schema is not None))
    return found


async def of_replica(settings: Settings) -> list[Finding]:
    """The finding of the replica; none without DB_READ_URL."""
    look = store_of(settings.db_url).examine_replica
    if look is None or settings.db_read_url is None:
        return []
    return [postgres.replica(await look(settings.db_url, settings.db_read_url))]


async def of_nats(settings: Settings) -> list[Finding]:
    """The finding of NATS; none without a collector."""
    if not settings.exchanges:
        return []
    from infra.nats.examine import examine  # here: only a collector needs the client library
    from infra.nats.publisher import PAYLOAD_BYTES_MIN

    urls = settings.nats_url.split(",")
    limits = StreamLimits(
        settings.nats_stream_bytes_max, settings.nats_max_age_hours * HOUR_S, settings.nats_duplicate_window_sec
    )
    facts = await examine(urls, [masked(url) for url in urls], stream_plans(limits))
    return [servers.nats(facts, PAYLOAD_BYTES_MIN)]


async def of_redis(settings: Settings) -> list[Finding]:
    """The finding of Redis; none without CACHE_URL."""
    if not settings.cache_url:
        return []
    from infra.redis.examine import examine  # here: only a node with CACHE_URL needs the client library
    from infra.redis.redis_cache import COMMAND_S_MAX

    facts = await examine(settings.cache_url, masked(settings.cache_url))
    return [servers.redis(facts, int(COMMAND_S_MAX * 1000))]
