"""Publishing to JetStream: every message is acknowledged by the stream, or the caller hears why it was not.

The acknowledgements of all messages come to one inbox. The library's own `publish_async` is not used: some of its
futures never settle after an error. Sizes are checked here with the headers, because a server ends the connection over
a message that is too large by its headers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from app.domain.backoff import spread_s
from app.domain.letters import lower
from app.ports.clock import Clock
from app.ports.publishing import Message, NotAccepted, PublishError, StreamPlan, TooLarge, Unconfirmed
from infra.nats.acknowledgement import LATER_S, Acknowledgement, refusal
from infra.nats.connection import Connection
from infra.nats.streams import ensure

ACK_S_MAX: Final = 5.0
"""JetStream acknowledges within milliseconds; after this time nobody knows whether the message was stored."""
PAYLOAD_BYTES_MIN: Final = 1024 * 1024
"""The least `max_payload` of a server: the default of NATS, and more than the largest book that is published."""
REFUSALS_MAX: Final = 32
"""Subjects whose refusal is remembered for `fault`."""
PAUSE_S_FIRST: Final = 0.2
PAUSE_S_MAX: Final = 5.0

ID_HEADER: Final = "Nats-Msg-Id"
_STATUS: Final = "Status"
_NO_RESPONDERS: Final = "503"
_HEADER_LINE_BYTES: Final = len(": \r\n")
_HEADERS_BYTES: Final = len("NATS/1.0\r\n\r\n")
_read: Final = msgspec.json.Decoder(Acknowledgement).decode

Greet = Callable[[Client], Awaitable[None]]
"""What is done once on each new connection of the library, such as to register a service."""


class _Asked(NamedTuple):
    subject: str
    answer: asyncio.Future[bytes]


class JetStreamPublisher:
    """A `Publisher` that keeps a connection and its streams while `run` runs."""

    def __init__(
        self, urls: str, plans: Sequence[StreamPlan], clock: Clock, chance: Random, *, greet: Greet | None = None
    ) -> None:
        self._plans = plans
        self._clock = clock
        self._chance = chance
        self._greet = greet
        self.connection = Connection(urls, clock, chance, self._connected, self._disconnected, self._failed)
        self.payload_bytes_min = PAYLOAD_BYTES_MIN
        self.ack_s_max = ACK_S_MAX
        self._usable: Client | None = None
        self._greeted: Client | None = None
        self._must_prepare = asyncio.Event()
        self._inbox = ""
        self._number = 0
        self._asked: dict[str, _Asked] = {}  # bounded by the outboxes' windows
        self._fault: str | None = "NATS is not connected yet"
        self._refusals: dict[str, str] = {}

    def fault(self) -> str | None:
        """What is wrong, and what to do about it; None: nothing."""
        return self._fault or next(iter(self._refusals.values()), None)

    async def run(self) -> None:
        """Keep connected, and the streams as planned, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.connection.run())
            tasks.create_task(self._keep_prepared())

    async def publish(self, message: Message) -> None:
        """Return when the stream has acknowledged `message`."""
        client = self._usable
        if client is None:
            raise Unconfirmed(self._fault or "NATS is not connected")
        headers = {ID_HEADER: message.message_id}
        headers.update(message.headers)
        size = len(message.body) + _HEADERS_BYTES
        size += sum(len(name) + len(value.encode()) + _HEADER_LINE_BYTES for name, value in headers.items())
        if size > client.max_payload:
            raise TooLarge(
                f"a message on {message.subject} has {size} bytes and the NATS server takes {client.max_payload}: "
                "raise its max_payload"
            )
        answer = _read(await self._request(client, message.subject, message.body, headers))
        if answer.error is not None:
            sentence = refusal(message.subject, answer.error)
            self._refuse(message.subject, sentence)
            raise NotAccepted(sentence)
        if self._refusals:
            self._refusals.pop(message.subject, None)

    # --- requests -------------------------------------------------------------------------------------------------

    async def _request(self, client: Client, subject: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
        self._number += 1
        token = str(self._number)
        asked = _Asked(subject, asyncio.get_running_loop().create_future())
        self._asked[token] = asked
        try:
            async with asyncio.timeout(self.ack_s_max):
                await client.publish(subject, body, reply=f"{self._inbox}.{token}", headers=headers)
                return await asked.answer
        except TimeoutError as error:
            raise Unconfirmed(f"NATS has not answered on {subject} within {self.ack_s_max:g} s") from error
        except (NatsError, OSError) as error:
            raise Unconfirmed(f"NATS cannot be asked on {subject}: {error or type(error).__name__}") from error
        finally:
            del self._asked[token]
            if not asked.answer.cancel() and not asked.answer.cancelled():
                asked.answer.exception()  # it was seen, or came too late to matter

    async def _answered(self, answer: Msg) -> None:
        asked = self._asked.get(answer.subject.rpartition(".")[2])
        if asked is None or asked.answer.done():
            return
        if answer.headers and answer.headers.get(_STATUS) == _NO_RESPONDERS:
            sentence = f"nothing answers on {asked.subject}: JetStream is not enabled, is starting, or lacks the stream"
            asked.answer.set_exception(Unconfirmed(sentence))
            self._fault, self._usable = sentence, None
            self._must_prepare.set()
        else:
            asked.answer.set_result(answer.data)

    # --- the connection -------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        self._must_prepare.set()

    def _disconnected(self, reason: str) -> None:
        self._usable, self._fault = None, reason
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(Unconfirmed(reason))

    def _failed(self, reason: str) -> None:
        """Hear of an error that the library reports; it has put the server's words into lower case."""
        subject = _forbidden(reason)
        if not subject:
            if self._usable is None:
                self._fault = f"NATS: {reason}; it is tried again"
            return
        for asked in self._asked.values():
            if lower(asked.subject) == subject and not asked.answer.done():
                sentence = f"the NATS user must not publish to {asked.subject}: give it the permission; {LATER_S}"
                self._refuse(asked.subject, sentence)
                asked.answer.set_exception(NotAccepted(sentence))

    def _refuse(self, subject: str, sentence: str) -> None:
        self._refusals[subject] = sentence
        if len(self._refusals) > REFUSALS_MAX:
            del self._refusals[next(iter(self._refusals))]

    async def _keep_prepared(self) -> None:
        failures = 0
        while True:
            await self._must_prepare.wait()
            self._must_prepare.clear()
            client = self.connection.client
            if client is None:
                continue
            try:
                await self._prepare(client)
            except (PublishError, NatsError, OSError) as error:
                self._fault = str(error) or type(error).__name__
                failures += 1
                await self._clock.sleep(spread_s(self._chance, failures, PAUSE_S_FIRST, PAUSE_S_MAX))
                self._must_prepare.set()
            else:
                failures = 0

    async def _prepare(self, client: Client) -> None:
        if client is not self._greeted:
            self._inbox = client.new_inbox()
            await client.subscribe(f"{self._inbox}.*", cb=self._answered)
            if self._greet:
                await self._greet(client)
            self._greeted = client
        if client.max_payload < self.payload_bytes_min:
            raise NotAccepted(
                f"the NATS server takes messages of {client.max_payload} bytes: raise its max_payload to "
                f"{self.payload_bytes_min} or more, which is its default"
            )

        async def ask(words: str, body: bytes) -> bytes:
            return await self._request(client, f"$JS.API.{words}", body)

        await ensure(ask, self._plans)
        if client is self.connection.client:
            self._usable, self._fault = client, None


def _forbidden(reason: str) -> str:
    """The subject, in lower case, that must not be published to; "" if the error is another."""
    _, begin, rest = reason.partition('permissions violation for publish to "')
    return rest.partition('"')[0] if begin else ""
