"""A look at the servers of a NATS_URL that changes nothing: one short connection to each, no stream made."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, NoServersError

from app.ports.probes import NatsFacts
from app.ports.publishing import NotAccepted, StreamPlan
from infra.nats.acknowledgement import NOT_FOUND, ApiAnswer
from infra.nats.streams import check_config

CONNECT_S_MAX: Final = 3
ANSWER_S_MAX: Final = 2.0
"""For JetStream to answer: it does within milliseconds, or not at all where the user lacks a permission."""
CLOSE_S_MAX: Final = 1.0
_AUTHORIZATION: Final = "uthorization"  # servers write it with either first letter
_read: Final = msgspec.json.Decoder(ApiAnswer).decode


async def examine(urls: Sequence[str], shown: Sequence[str], plans: Sequence[StreamPlan]) -> NatsFacts:
    """The facts of the servers at `urls`; `shown`: the same without passwords, for sentences."""
    failed, found = [], None
    for url, where in zip(urls, shown, strict=True):
        try:
            client = await _connected(url)
        except (NatsError, OSError, TimeoutError) as error:
            failed.append(f"{where}: {_why(error)}")
            continue
        try:
            found = found or await _facts(client, where, plans)
        finally:
            await _close(client)
    return (found or NatsFacts(", ".join(shown)))._replace(failed=tuple(failed))


async def _connected(url: str) -> Client:
    """A connection that is made once. Raises NatsError, OSError, TimeoutError."""

    async def ignore(error: Exception) -> None:
        """Let `connect` raise what the library reports as well."""

    client = Client()
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            await client.connect(
                [url],
                name="klinenode doctor",
                error_cb=ignore,
                allow_reconnect=False,
                reconnect_time_wait=0,
                max_reconnect_attempts=1,  # 0: for ever
            )
    except NoServersError as error:
        raise (client.last_error or error) from error
    except BaseException:
        await _close(client)
        raise
    return client


async def _facts(client: Client, where: str, plans: Sequence[StreamPlan]) -> NatsFacts:
    facts = NatsFacts(where, version=str(client.connected_server_version), payload_bytes_max=client.max_payload)
    missing = []
    for plan in plans:
        try:
            found = _read(await _asked(client, f"STREAM.INFO.{plan.name}"))
            if found.error is None:
                check_config(plan.name, found.config)
        except NoRespondersError:
            why = "it has no JetStream: add `jetstream { store_dir: … }` to its configuration, and restart it"
            return facts._replace(refusal=why)
        except TimeoutError:
            why = (
                f"JetStream does not answer on $JS.API.STREAM.INFO.{plan.name}: give the user the permissions of "
                "docs/collector.md, or see the server's log"
            )
            return facts._replace(refusal=why)
        except NotAccepted as error:
            return facts._replace(refusal=str(error))
        except (NatsError, OSError, msgspec.MsgspecError) as error:
            return facts._replace(refusal=f"JetStream cannot be asked: {_why(error)}; see the server's log")
        if found.error is None:
            continue
        if found.error.code != NOT_FOUND:
            why = f"JetStream refuses this user: {found.error}; enable it for the user's account"
            return facts._replace(refusal=why)
        missing.append(plan)
    room_bytes = await _room_bytes(client)
    names, size = tuple(plan.name for plan in missing), sum(plan.bytes_max for plan in missing)
    return facts._replace(missing=names, missing_bytes=size, room_bytes=room_bytes)


async def _room_bytes(client: Client) -> int | None:
    """What the account may still reserve for streams; None without a limit, or where the user may not ask for it."""
    try:
        account: dict[str, Any] = msgspec.json.decode(await _asked(client, "INFO"))
        limit, reserved = account["limits"]["max_storage"], account.get("reserved_storage", account["storage"])
        return None if limit < 0 else max(0, limit - reserved)
    except (NatsError, OSError, TimeoutError, msgspec.MsgspecError, KeyError, TypeError):
        return None


async def _asked(client: Client, what: str) -> bytes:
    """The answer of JetStream's API. Raises NatsError, NoRespondersError, TimeoutError, OSError."""
    answer = await client.request(f"$JS.API.{what}", b"", timeout=ANSWER_S_MAX)
    return bytes(answer.data)


def _why(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if _AUTHORIZATION in text:
        return "it refuses this user or password"
    return "it does not answer" if isinstance(error, TimeoutError) else text.removeprefix("nats: ")


async def _close(client: Client) -> None:
    with suppress(OSError, NatsError, TimeoutError):
        async with asyncio.timeout(CLOSE_S_MAX):
            await client.close()
