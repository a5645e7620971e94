"""The collector as a NATS micro service: found by $SRV.PING, described by $SRV.INFO, counted by $SRV.STATS."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import nats.micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, EndpointStats, ServiceConfig

NAME: Final = "klinenode-collector"
STATUS: Final = "status"
SUBJECT: Final = "klinenode.collector.status"


class CollectorService:
    """Registers the service on each connection (see JetStreamPublisher's `greet`)."""

    def __init__(self, version: str, stats: Callable[[], Mapping[str, Any]]) -> None:
        """`version` is a semantic one. `stats` gives what is answered and shown in $SRV.STATS, ready for JSON."""
        self._version = version
        self._stats = stats

    async def greet(self, client: Client) -> None:
        """Register it on `client`, and wait until the server has it. Raises nats.errors.Error, TimeoutError."""

        async def answer(request: Request) -> None:
            await request.respond(msgspec.json.encode(self._stats()))

        def shown(_: EndpointStats) -> Mapping[str, Any]:
            return self._stats()

        service = await nats.micro.add_service(
            client,
            ServiceConfig(
                name=NAME,
                version=self._version,
                description="Trades, books, klines and states of exchanges, onto JetStream.",
                stats_handler=shown,
            ),
        )
        await service.add_endpoint(EndpointConfig(name=STATUS, subject=SUBJECT, handler=answer))
        for _ in range(2):  # the first PING may overtake the subscriptions, the second comes behind them
            await client.flush()
