"""A connection to NATS that is made again for ever, also after the client library has closed it for good."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from app.domain.backoff import spread_s
from app.ports.clock import Clock

CONNECT_S_MAX: Final = 5
RECONNECT_S: Final = 0.5
"""Between attempts of the client library to reach one server."""
CLOSE_S_MAX: Final = 2.0
PING_S: Final = 5
PINGS_MAX: Final = 2
"""A server that answers no ping for PING_S × PINGS_MAX is dead, and the connection is made again."""
PAUSE_S_FIRST: Final = 0.2
PAUSE_S_MAX: Final = 10.0
REASON_CHARS_MAX: Final = 300


class Connection:
    """One connection at a time. `client` is None while there is none.

    `ready` is called after each connecting, `lost` called at each loss, `failed` with each error that the library
    reports (a permission that lacks, a server that cannot be reached).
    """

    def __init__(
        self,
        urls: str,
        clock: Clock,
        chance: Random,
        ready: Callable[[], None],
        lost: Callable[[str], None],
        failed: Callable[[str], None],
    ) -> None:
        """`urls`: of one server or several of a cluster, separated by commas; user and password may be in them."""
        self._urls = [url.strip() for url in urls.split(",")]
        self._clock = clock
        self._chance = chance
        self._ready = ready
        self._lost = lost
        self._failed = failed
        self.client: Client | None = None
        self.errors = 0
        self.closings = 0
        """How often the library has closed a connection for good."""

    async def run(self) -> None:
        """Keep connected for ever."""
        failures = 0
        while True:
            closed = asyncio.Event()
            client = Client()
            try:
                async with asyncio.TaskGroup() as tasks:
                    connecting = tasks.create_task(self._connect(client, closed))
                    await closed.wait()
                    connecting.cancel()
                failures = 0 if client.stats["in_msgs"] else failures + 1
            finally:
                self._gone(_sentence(client.last_error) if client.last_error else "the connection was closed")
                await _close(client)
            self.closings += 1
            await self._clock.sleep(spread_s(self._chance, failures, PAUSE_S_FIRST, PAUSE_S_MAX))

    async def _connect(self, client: Client, closed: asyncio.Event) -> None:
        async def on_closed() -> None:
            closed.set()

        async def on_disconnected() -> None:
            self._gone("the connection to NATS was lost; it is being made again")

        async def on_reconnected() -> None:
            self._made(client)

        async def on_error(error: Exception) -> None:
            self.errors += 1
            self._failed(_sentence(error))

        try:
            await client.connect(
                self._urls,
                name="klinenode",
                error_cb=on_error,
                closed_cb=on_closed,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
                connect_timeout=CONNECT_S_MAX,
                reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # it sleeps so long
                max_reconnect_attempts=-1,
                ping_interval=PING_S,
                max_outstanding_pings=PINGS_MAX,
                pending_size=0,  # nothing is buffered while disconnected; a full buffer's flush would swallow time-outs
            )
        except (OSError, NatsError, TimeoutError) as error:
            self._failed(_sentence(error))
            closed.set()
        else:
            self._made(client)

    def _made(self, client: Client) -> None:
        self.client = client
        self._ready()

    def _gone(self, reason: str) -> None:
        if self.client is not None:
            self.client = None
            self._lost(reason)
        else:
            self._failed(reason)


def _sentence(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:REASON_CHARS_MAX]


async def _close(client: Client) -> None:
    with suppress(OSError, NatsError, TimeoutError):
        async with asyncio.timeout(CLOSE_S_MAX):
            await client.close()
