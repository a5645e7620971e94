"""The checks of the servers beside the database: NATS with JetStream, and Redis."""

from typing import Final

from app.doctor.finding import Finding, fail, ok, warn
from app.filling.amounts import of_bytes
from app.ports.probes import NatsFacts, RedisFacts

EVICTING: Final = ("allkeys-", "volatile-")
"""The beginnings of policies by which a full Redis removes keys that have an end, as all of ours have."""


def nats(facts: NatsFacts, payload_bytes_min: int) -> Finding:
    """Whether the collector can store its records in JetStream."""
    if not facts.version:
        return fail(
            "nats",
            f"no server of NATS_URL can be used: {'; '.join(facts.failed)}",
            "start the server (nats-server -js), or correct NATS_URL: address, user and password",
        )
    named = f"NATS {facts.version} at {facts.where}"
    if facts.payload_bytes_max < payload_bytes_min:
        return fail(
            "nats",
            f"{named} takes messages of {of_bytes(facts.payload_bytes_max)}, and a large book needs more",
            f"set max_payload to {payload_bytes_min} or more in its configuration, and reload it",
        )
    if facts.refusal is not None:
        return fail("nats", f"{named} cannot store records", facts.refusal)
    if facts.room_bytes is not None and facts.missing_bytes > facts.room_bytes:
        return fail(
            "nats",
            f"{named} has room for {of_bytes(facts.room_bytes)}, and the streams to be made reserve "
            f"{of_bytes(facts.missing_bytes)}",
            "raise max_file of the account, or lower NATS_STREAM_BYTES_MAX",
        )
    if facts.failed:
        return warn(
            "nats",
            f"{named} answers, and other servers of NATS_URL do not: {'; '.join(facts.failed)}",
            "start them, or take them out of NATS_URL",
        )
    made = f"; the collector makes {', '.join(facts.missing)} at its start" if facts.missing else ""
    return ok("nats", f"{named} has JetStream{made}")


def redis(facts: RedisFacts, command_ms_max: int) -> Finding:
    """Whether the cache of CACHE_URL is of use. The node works without it, so nothing here fails."""
    if facts.failed is not None:
        return warn(
            "redis",
            f"Redis at {facts.where} cannot be used: {facts.failed}",
            "start it, or correct CACHE_URL; the node goes on without it",
        )
    named = f"Redis {facts.version}".rstrip() + f" at {facts.where}"
    if facts.is_replica:
        return warn("redis", f"{named} is a replica, which takes no writes", "let CACHE_URL name its master")
    if facts.ping_ms >= command_ms_max:
        return warn(
            "redis",
            f"{named} answers in {facts.ping_ms} ms, and the node waits {command_ms_max} ms for it",
            "move Redis nearer to the node, or empty CACHE_URL: asking it only costs time",
        )
    if facts.memory_bytes_max == 0:
        return warn(
            "redis",
            f"{named} has no limit of its memory",
            "set `maxmemory 256mb` and `maxmemory-policy allkeys-lru`",
        )
    if facts.memory_bytes_max and not facts.policy.startswith(EVICTING):
        return warn(
            "redis",
            f"{named} refuses values when it is full (maxmemory-policy {facts.policy})",
            "set `maxmemory-policy allkeys-lru`",
        )
    return ok("redis", f"{named} answers in {facts.ping_ms} ms")
