"""What is wrong with the servers that the settings name is found on real ones, which are left as they were."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.doctor import postgres
from app.doctor.finding import Finding, State
from app.operate_doctor_servers import of_database, of_nats, of_redis
from app.ports.probes import PostgresFacts, ReplicaFacts
from app.settings import load
from tests.nats.jetstream import call
from tests.nats_server import NatsServer
from tests.postgres.bouncer import answering, bouncer
from tests.postgres_server import execute, fresh_database, shared_server
from tests.redis_server import RedisServer
from tests.stores.databases import migrated_template
from tests.system.processes import free_port

GIVEN = {"exchanges": ("okx",), "collect_symbols": ("BTC-USDT",), "log_level": "ERROR"}
FACTS = PostgresFacts(18, 14, False, "UTF8", True, None, 97, 0, None, "2.13", False, False)


async def of(server: NatsServer, **given: object) -> Finding:
    settings = load(GIVEN | {"nats_url": server.url} | given, env_file=None)
    [finding] = await of_nats(settings)
    return finding


async def test_a_nats_server_that_cannot_take_records_says_what_to_change(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        healthy = await of(server)
        assert healthy.state is State.OK
        assert "has JetStream; the collector makes MARKET_TRADES" in healthy.sentence
        assert (await call(server.url, "STREAM.NAMES"))["streams"] is None, "the look made no stream"

        one_away = f"{server.url},nats://127.0.0.1:{free_port()}"
        partly = await of(server, nats_url=one_away)
        assert (partly.state, "other servers of NATS_URL do not" in partly.sentence) == (State.WARN, True)

        wrong = await of(server, nats_url=server.url.replace("first", "geheim"))
        assert "refuses this user or password" in wrong.sentence
        assert "geheim" not in str(wrong)

        config = {"name": "MARKET_TRADES", "subjects": ["market.*.*.trade"], "storage": "memory", "max_bytes": 1000}
        assert "error" not in await call(server.url, "STREAM.CREATE.MARKET_TRADES", config)
        assert "with storage memory instead of file" in (await of(server)).advice

        server.denied = ("$JS.API.>",)
        server.reload()
        assert "docs/collector.md" in (await of(server)).advice
        server.denied = ()

        server.restart(max_payload=65_536)
        small = await of(server)
        assert (small.state, "max_payload" in small.advice) == (State.FAIL, True)
    away = await of(server)
    assert (away.state, "no server of NATS_URL can be used" in away.sentence) == (State.FAIL, True)


async def test_a_nats_server_without_jetstream_is_found(tmp_path: Path) -> None:
    class Without(NatsServer):
        def _configure(self) -> None:
            super()._configure()
            lines = self._configuration.read_text().splitlines()
            self._configuration.write_text("\n".join(line for line in lines if "jetstream" not in line))

    with Without(tmp_path) as server:
        assert "it has no JetStream" in (await of(server)).advice
    assert await of_nats(load({"log_level": "ERROR"}, env_file=None)) == [], "without a collector nobody asks"


async def test_a_redis_that_is_of_no_use_says_what_to_change(tmp_path: Path) -> None:
    async def found(url: str) -> Finding:
        [finding] = await of_redis(load({"cache_url": url, "log_level": "ERROR"}, env_file=None))
        return finding

    with RedisServer(tmp_path) as server:
        assert "no limit of its memory" in (await found(server.url)).sentence
        server.command("CONFIG", "SET", "maxmemory", "64mb")
        assert "maxmemory-policy noeviction" in (await found(server.url)).sentence
        server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert (await found(server.url)).state is State.OK
        assert server.command("DBSIZE") == 0
        server.command("ACL", "SETUSER", "blind", "on", ">geheim", "~*", "+ping", "+get", "+set")
        assert (await found(server.url.replace("//", "//blind:geheim@"))).state is State.OK, "it may not ask INFO"
        refused = await found(server.url.replace("//", "//blind:falsch@"))
        assert (refused.state, "refuses this user or password" in refused.sentence) == (State.WARN, True)
        assert "falsch" not in str(refused)
        server.command("REPLICAOF", "127.0.0.1", free_port())
        assert "is a replica" in (await found(server.url)).sentence
    assert "cannot be used" in (await found(server.url)).sentence


async def test_a_database_of_another_user_and_one_behind_a_pooler_are_found() -> None:
    async def found(url: str) -> dict[str, Finding]:
        settings = load({"db_url": url, "timescale": True, "log_level": "ERROR"}, env_file=None)
        return {each.check: each for each in await of_database(settings)}

    server = shared_server()
    url = await fresh_database(server.url, template=await migrated_template())
    own = await found(url)
    assert own["connections"].state is State.OK
    assert "is not converted" in own["timescale"].sentence
    assert "fsync" in own["postgres"].sentence, "the tests' server survives no crash"
    assert "has no TimescaleDB" in (await found(await fresh_database(server.url)))["timescale"].sentence

    await execute(url, "CREATE ROLE stranger LOGIN", "GRANT ALL ON SCHEMA public TO stranger")
    try:
        await execute(url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO stranger")
        strange = await found(url.replace("postgres@", "stranger@"))
    finally:
        await execute(url, "DROP OWNED BY stranger", "DROP ROLE stranger")
    assert strange["postgres"].state is State.FAIL
    assert "belong to postgres" in strange["postgres"].sentence

    with bouncer(server, "transaction") as port:
        pooled_url = server.tcp_url(urlsplit(url).path.removeprefix("/"), port=port)
        await answering(pooled_url)
        pooled = await found(pooled_url)
    assert pooled["database"].state is State.OK
    assert "through a pooler" in pooled["postgres"].sentence


@pytest.mark.parametrize(
    ("facts", "workers", "state"),
    [
        (FACTS, 13, State.OK),
        (FACTS, 14, State.WARN),
        (FACTS._replace(connections_used=90), 1, State.OK),
        (FACTS._replace(connections_used=91), 1, State.WARN),
    ],
)
def test_connections_that_the_workers_need_are_counted(facts: PostgresFacts, workers: int, state: State) -> None:
    assert postgres.connections(facts, workers).state is state


def test_an_old_server_an_old_timescale_and_a_late_replica_are_told() -> None:
    assert "14 or newer" in postgres.postgres("it", FACTS._replace(version=13)).sentence
    assert "UTF8" in postgres.postgres("it", FACTS._replace(encoding="LATIN1")).advice
    old = FACTS._replace(timescale="2.11", is_timescale_old=True, has_hypertables=True)
    assert "2.13 or newer" in postgres.timescale("it", old, has_tables=True).sentence
    late = postgres.replica(ReplicaFacts("it", behind_bytes=2_000_000, behind_ms=90_000))
    assert "2 min and 2.0 MB behind" in late.sentence
