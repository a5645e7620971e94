"""The NATS server of deploy/compose.yaml with its users: each may do what it needs, and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from nats.aio.client import Client
from nats.errors import TimeoutError as NoAnswer

from app.collecting.plans import StreamLimits, stream_plans
from app.ports.publishing import Message
from infra.nats.service import SUBJECT, CollectorService
from tests.nats.jetstream import MORE_S, plain, publishing, usable
from tests.nats_server import SERVER, USER, NatsServer, heard
from tests.patience import PATIENCE_S
from tests.system.processes import ROOT, free_port, until

DEPLOY: Final = ROOT / "deploy"
PASSWORDS: Final = {"nats_password": "1e9", "nats_reader_password": "2"}
"""Digits that the server would take for numbers."""
LIMITS: Final = StreamLimits()
SUBJECTS: Final = [
    f"market.okx.BTC-USDT.{each}"
    for each in ("trade", "orderbook", "kline.1m", "ticker", "funding_rate", "open_interest", "gap")
]
CHANGES: Final = [
    ("$JS.API.STREAM.DELETE.MARKET_TRADES", ""),
    ("$JS.API.STREAM.PURGE.MARKET_TRADES", ""),
    ("$JS.API.STREAM.MSG.DELETE.MARKET_TRADES", '{"seq": 1}'),
]


class ShippedServer(NatsServer):
    """Started as compose starts it, with other addresses and folders."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reader_url = self._url("reader", "nats_reader_password")
        self.url = self._url(USER, "nats_password")
        for name, password in PASSWORDS.items():
            (folder / name).write_text(password)

    def _configure(self) -> None:
        text = (DEPLOY / "nats/nats.conf").read_text()
        for found, here in (
            ("0.0.0.0:4222", f"127.0.0.1:{self.port}"),
            ("127.0.0.1:8222", f"127.0.0.1:{free_port()}"),
            ("/var/lib/nats", f"{self._folder}/store"),
        ):
            assert text.count(found) == 1
            text = text.replace(found, here)
        self._configuration.write_text(text)

    def _command(self) -> list[str]:
        *shell, script = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["nats"]["entrypoint"]
        script = script.replace("$$", "$").replace("/run/secrets", str(self._folder))
        script = script.replace("/etc/nats/klinenode.conf", str(self._configuration))
        return [*shell, script.replace("exec nats-server", f"exec {SERVER}")]

    def _url(self, user: str, password: str) -> str:
        return f"nats://{user}:{PASSWORDS[password]}@127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShippedServer]:
    with ShippedServer(tmp_path_factory.mktemp("nats")) as found:
        yield found


def message(subject: str, number: int) -> Message:
    return Message(subject, b"{}", f"{subject}/{number}", ())


async def is_refused(client: Client, subject: str, body: str = "") -> bool:
    """Whether the server answers nothing on `subject`, as it does when it forbids it."""
    try:
        await client.request(subject, body.encode(), MORE_S)
    except NoAnswer:
        return True
    return False


async def test_the_collector_makes_and_changes_its_streams_and_publishes_every_type(server: ShippedServer) -> None:
    plans = stream_plans(LIMITS)
    async with publishing(server.url, plans) as publisher:
        await usable(publisher)
        for subject in SUBJECTS:
            await publisher.publish(message(subject, 1))
        assert publisher.connection.errors == 0, "the server has forbidden something"
    shorter = stream_plans(StreamLimits(bytes_max=LIMITS.bytes_max // 2))
    async with publishing(server.url, shorter) as publisher:
        await usable(publisher)
        assert publisher.connection.errors == 0
    async with plain(server.reader_url) as reader:
        context = reader.jetstream(timeout=PATIENCE_S)
        for plan in shorter:
            assert (await context.stream_info(plan.name)).config.max_bytes == plan.bytes_max


async def test_the_collector_is_found_as_a_service(server: ShippedServer) -> None:
    service = CollectorService("1.0.0", lambda: {"waiting": 0})
    async with (
        publishing(server.url, stream_plans(LIMITS), service.greet) as publisher,
        plain(server.reader_url) as reader,
    ):
        await usable(publisher)
        for subject in ("$SRV.PING", "$SRV.INFO", "$SRV.STATS"):
            answer = json.loads((await reader.request(subject, b"", PATIENCE_S)).data)
            assert answer["name"] == "klinenode-collector"
        assert json.loads((await reader.request(SUBJECT, b"", PATIENCE_S)).data) == {"waiting": 0}
        assert publisher.connection.errors == 0


async def test_a_reader_reads_by_a_durable_consumer_and_by_a_plain_subscription(server: ShippedServer) -> None:
    async with publishing(server.url, stream_plans(LIMITS)) as publisher, plain(server.reader_url) as reader:
        await usable(publisher)
        live = await reader.subscribe("market.>")
        await heard(reader)
        await publisher.publish(message(SUBJECTS[0], 2))
        assert (await live.next_msg(PATIENCE_S)).subject == SUBJECTS[0]
        durable = await reader.jetstream(timeout=PATIENCE_S).pull_subscribe(SUBJECTS[0], durable="mine")
        [found, *_] = await durable.fetch(1, timeout=PATIENCE_S)
        await found.ack_sync(timeout=int(PATIENCE_S))


async def test_nobody_discards_messages_and_a_reader_publishes_none(server: ShippedServer) -> None:
    async with publishing(server.url, stream_plans(LIMITS)) as publisher:
        await usable(publisher)
        await publisher.publish(message(SUBJECTS[0], 3))
        for url in (server.url, server.reader_url):
            async with plain(url) as client:
                for subject, body in CHANGES:
                    assert await is_refused(client, subject, body), subject
        async with plain(server.reader_url) as reader:
            assert await is_refused(reader, SUBJECTS[0]), "it would be stored"
            assert (await reader.jetstream(timeout=PATIENCE_S).stream_info("MARKET_TRADES")).state.messages > 0


async def test_the_collector_reads_nothing(server: ShippedServer) -> None:
    refused: list[str] = []
    client = Client()

    async def told(error: Exception) -> None:
        refused.append(str(error))

    async def is_told() -> bool:
        return bool(refused)

    await client.connect(server.url, error_cb=told)
    try:
        await client.subscribe("market.>")
        await until(is_told, "the subscription is refused", every_s=0.01)
    finally:
        await client.close()
    assert 'permissions violation for subscription to "market.>"' in refused[0]


def test_the_documented_permissions_are_those_of_the_shipped_user() -> None:
    [section] = re.findall(r"\n## The NATS server\n(.*?)\n## ", (ROOT / "docs/collector.md").read_text(), re.DOTALL)
    [user] = re.findall(rf"user: {USER}\n(.*?)\n        \}}", (DEPLOY / "nats/nats.conf").read_text(), re.DOTALL)
    permitted: dict[str, Any] = dict(re.findall(r"(publish|subscribe): \[(.*?)\]", user))
    for subject in re.findall(r'"([^"]+)"', " ".join(permitted.values())):
        assert f"`{subject}`" in section, subject
    assert "allow_responses: true" in user
    assert "`allow_responses`" in section
