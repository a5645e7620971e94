"""Publishing to a real JetStream server that is full, strict, restarted, suspended or set up in another way."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.ports.publishing import NotAccepted, PublishError, StreamPlan, TooLarge, Unconfirmed
from infra.nats.publisher import JetStreamPublisher
from tests.nats.jetstream import PLAN, SUBJECT, call, faulty, numbered, plain, publishing, read, usable
from tests.nats_server import NatsServer
from tests.patience import PATIENCE_S
from tests.system.processes import free_port, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as found:
        yield found


@pytest.fixture
async def server(shared: NatsServer) -> NatsServer:
    """A server without any stream."""
    for name in (await call(shared.url, "STREAM.NAMES"))["streams"] or ():
        await call(shared.url, f"STREAM.DELETE.{name}")
    return shared


async def stored(publisher: JetStreamPublisher, number: int) -> None:
    """Publish until it is stored, as an outbox does."""

    async def is_stored() -> bool:
        try:
            await publisher.publish(numbered(number))
        except PublishError:
            return False
        return True

    await until(is_stored, f"{number} is stored", every_s=0.01)


def numbers(found: list[tuple[str, dict[str, str], Any]]) -> list[int]:
    return [int(headers["Nats-Msg-Id"].rpartition("/")[2]) for _, headers, _ in found]


async def test_a_message_is_stored_once_with_its_headers(server: NatsServer) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
        for number in (1, 1, 2, 1):
            await publisher.publish(numbered(number))
    found = await read(server.url)
    assert numbers(found) == [1, 2]
    assert found[0] == (SUBJECT, {"Nats-Msg-Id": "x/swap/BTC-USDT/trade/1", "Klinenode-Market": "swap"}, {})


async def test_any_server_of_a_list_will_do(server: NatsServer) -> None:
    async with publishing(f"nats://127.0.0.1:{free_port()},{server.url}") as publisher:
        await usable(publisher)
        await publisher.publish(numbered(1))
    assert numbers(await read(server.url)) == [1]


async def test_many_publishes_wait_at_once(server: NatsServer) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
        async with asyncio.TaskGroup() as tasks:
            for number in range(500):
                tasks.create_task(publisher.publish(numbered(number)))
    assert numbers(await read(server.url)) == list(range(500))


async def test_a_stream_is_made_as_planned_and_changed_as_a_whole(server: NatsServer) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
    config = (await call(server.url, "STREAM.INFO.T"))["config"]
    assert (config["max_bytes"], config["max_age"], config["duplicate_window"]) == (10**6, 3_600 * 10**9, 600 * 10**9)
    config |= {"description": "the operator's", "max_msgs_per_subject": 77, "allow_direct": True, "max_bytes": 5_000}
    await call(server.url, "STREAM.UPDATE.T", config)
    async with publishing(server.url, [PLAN._replace(age_s=7_200)]) as publisher:
        await usable(publisher)
    changed = (await call(server.url, "STREAM.INFO.T"))["config"]
    assert changed["max_age"] == 7_200 * 10**9
    assert changed["max_bytes"] == 10**6
    assert changed["description"] == "the operator's"
    assert changed["max_msgs_per_subject"] == 77
    assert changed["allow_direct"] is True
    assert changed["duplicate_window"] == 600 * 10**9, "a partial update would have reset it"


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("T", {"storage": "memory", "subjects": ["market.*.*.trade"]}, "nats stream rm T"),
        ("T", {"retention": "interest", "subjects": ["market.*.*.trade"]}, "retention interest instead of limits"),
        ("OTHER", {"subjects": ["market.>"]}, "another stream has subjects of market.*.*.trade"),
    ],
)
async def test_a_stream_in_the_way_is_named_and_publishing_begins_when_it_is_gone(
    server: NatsServer, name: str, config: dict[str, object], words: str
) -> None:
    await call(server.url, f"STREAM.CREATE.{name}", {"name": name, **config})
    async with publishing(server.url) as publisher:
        await faulty(publisher, words)
        with pytest.raises(Unconfirmed, match="stream"):
            await publisher.publish(numbered(1))
        await call(server.url, f"STREAM.DELETE.{name}")
        await usable(publisher)
        await publisher.publish(numbered(1))
    assert numbers(await read(server.url)) == [1]


async def test_limits_that_the_server_does_not_take_are_named(server: NatsServer) -> None:
    async with publishing(server.url, [PLAN._replace(window_s=PLAN.age_s + 1)]) as publisher:
        assert "NATS_DUPLICATE_WINDOW_SEC" in await faulty(publisher, "does not take the stream T")


async def test_a_full_stream_is_an_error_until_there_is_room(server: NatsServer) -> None:
    async with publishing(server.url, [PLAN._replace(bytes_max=2_000, is_refusing=True)]) as publisher:
        await usable(publisher)
        await publisher.publish(numbered(1))
        with pytest.raises(
            NotAccepted, match=r"is full: maximum bytes exceeded \(503/10077\); raise NATS_STREAM_BYTES"
        ):
            await publisher.publish(numbered(2, b'"' + b"x" * 1_900 + b'"'))
        assert "is full" in (publisher.fault() or "")
        await call(server.url, "STREAM.PURGE.T")
        await publisher.publish(numbered(2, b'"' + b"x" * 1_500 + b'"'))
        assert publisher.fault() is None
    assert numbers(await read(server.url)) == [2]


async def test_a_message_too_large_with_its_headers_is_not_sent(server: NatsServer) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
        with pytest.raises(TooLarge, match="raise its max_payload"):
            await publisher.publish(numbered(1, b"x" * (1024 * 1024 - 20)))
        await publisher.publish(numbered(2))
        assert publisher.connection.closings == 0
        large = 1024 * 1024 - 12 - len("Nats-Msg-Id: x/swap/BTC-USDT/trade/3\r\nKlinenode-Market: swap\r\n")
        await publisher.publish(numbered(3, b'"' + b"x" * (large - 2) + b'"'))  # as large as may be
        with pytest.raises(TooLarge):
            await publisher.publish(numbered(4, b"x" * (large + 1)))
    assert (await call(server.url, "STREAM.INFO.T"))["state"]["messages"] <= 2


async def test_a_stream_that_is_deleted_is_made_again(server: NatsServer) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
        await publisher.publish(numbered(1))
        await call(server.url, "STREAM.DELETE.T")
        with pytest.raises(Unconfirmed, match=f"nothing answers on {SUBJECT}"):
            await publisher.publish(numbered(2))
        await stored(publisher, 3)
        assert publisher.fault() is None
    assert numbers(await read(server.url)) == [3]


async def test_a_server_that_does_not_answer_leaves_it_unknown_and_the_same_id_is_stored_once(
    server: NatsServer,
) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
        publisher.ack_s_max = 0.05
        server.suspend()
        with pytest.raises(Unconfirmed, match=r"has not answered on .* within 0.05 s"):
            await publisher.publish(numbered(1))
        server.resume()
        publisher.ack_s_max = 5.0
        await publisher.publish(numbered(1))
    assert numbers(await read(server.url)) == [1]


async def test_a_server_that_reads_nothing_holds_no_publish_longer_than_its_time(server: NatsServer) -> None:
    large = b'"' + b"x" * 500_000 + b'"'
    outcomes: list[str] = []

    async def publish(publisher: JetStreamPublisher, number: int) -> None:
        try:
            await publisher.publish(numbered(number, large))
        except Unconfirmed:
            outcomes.append("unconfirmed")

    async with publishing(server.url, [PLAN._replace(bytes_max=100_000_000)]) as publisher:
        await usable(publisher)
        publisher.ack_s_max = 0.3
        server.suspend()
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            for number in range(40):
                tasks.create_task(publish(publisher, number))
        assert outcomes == ["unconfirmed"] * 40
        server.resume()
        publisher.ack_s_max = 5.0
        for number in range(40):
            await publisher.publish(numbered(number, large))
    assert (await call(server.url, "STREAM.INFO.T"))["state"]["messages"] == 40


async def test_a_killed_server_comes_back_with_what_it_had_confirmed(server: NatsServer) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
        await publisher.publish(numbered(1))
        server.kill()
        with pytest.raises(Unconfirmed):
            await publisher.publish(numbered(2))
        assert publisher.fault() is not None
        server.start()
        await stored(publisher, 1)
        await stored(publisher, 2)
        assert publisher.fault() is None
        assert publisher.connection.closings == 0
    assert numbers(await read(server.url)) == [1, 2]


async def test_a_permission_that_is_revoked_is_named_at_once(server: NatsServer) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
        try:
            server.denied = ("market.>",)
            server.reload()
            with pytest.raises(NotAccepted, match=f"must not publish to {SUBJECT}: give it the permission"):
                await publisher.publish(numbered(1))
            assert "must not publish" in (publisher.fault() or "")
        finally:
            server.denied = ()
            server.reload()
        await stored(publisher, 1)
        assert publisher.fault() is None


async def test_a_connection_that_the_library_closed_for_good_is_made_again(server: NatsServer) -> None:
    async with publishing(server.url) as publisher:
        await usable(publisher)
        try:
            server.password = "second"
            server.reload()
            assert "it is tried again" in await faulty(publisher, "Authorization")
            with pytest.raises(Unconfirmed, match="Authorization"):
                await publisher.publish(numbered(1))
        finally:
            server.password = "first"
            server.reload()
        await stored(publisher, 1)
        assert publisher.connection.closings == 1
        assert publisher.fault() is None


async def test_a_server_that_takes_only_small_messages_is_named(tmp_path: Path) -> None:
    with NatsServer(tmp_path, max_payload=4_096) as small:
        async with publishing(small.url) as publisher:
            await faulty(publisher, "takes messages of 4096 bytes: raise its max_payload to 1048576")


async def test_a_server_without_room_is_named(tmp_path: Path) -> None:
    plans = [PLAN, StreamPlan("U", ("market.*.*.ticker",), 4_000_000, 3_600, 60)]
    with NatsServer(tmp_path, store_bytes_max=3_000_000) as small:
        async with publishing(small.url, plans) as publisher:
            assert "NATS_STREAM_BYTES_MAX" in await faulty(publisher, "does not take the stream U")


async def test_the_library_makes_no_more_than_one_connection(server: NatsServer) -> None:
    async with publishing(server.url) as publisher, plain(server.url):
        await usable(publisher)
        first = publisher.connection.client
        await stored(publisher, 1)
        assert publisher.connection.client is first
