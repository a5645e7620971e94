"""Streams made and updated: always with their whole configuration, because what an update leaves out is reset."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec

from app.ports.publishing import NotAccepted, StreamPlan
from infra.nats.acknowledgement import NOT_FOUND, OVERLAPS, ApiAnswer

NS: Final = 1_000_000_000
Ask = Callable[[str, bytes], Awaitable[bytes]]
"""A request to the API: the last words of its subject and a body. Raises PublishError."""

_FIXED: Final = {"retention": "limits", "storage": "file", "no_ack": False, "sealed": False}
"""What a stream of ours must be, and what a server does not change or must not: another would lose messages."""
_read: Final = msgspec.json.Decoder(ApiAnswer).decode


async def ensure(ask: Ask, plans: Iterable[StreamPlan]) -> None:
    """Make the streams that are missing and change those that differ. NotAccepted says what to do; PublishError."""
    for plan in plans:
        await _ensure(ask, plan)


async def _ensure(ask: Ask, plan: StreamPlan) -> None:
    found = _read(await ask(f"STREAM.INFO.{plan.name}", b""))
    wanted = _wanted(plan)
    if found.error is None:
        check_config(plan.name, found.config)
        if any(found.config.get(key) != value for key, value in wanted.items()):
            await _apply(ask, "UPDATE", plan, found.config | wanted)
    elif found.error.code == NOT_FOUND:
        await _apply(ask, "CREATE", plan, _FIXED | wanted)
    else:
        raise NotAccepted(f"the stream {plan.name} cannot be read: {found.error}; is JetStream enabled for this user?")


async def _apply(ask: Ask, verb: str, plan: StreamPlan, config: dict[str, Any]) -> None:
    answer = _read(await ask(f"STREAM.{verb}.{plan.name}", msgspec.json.encode(config)))
    if answer.error is None:
        return
    if answer.error.err_code == OVERLAPS:
        subjects = ", ".join(plan.subjects)
        raise NotAccepted(f"another stream has subjects of {subjects}: remove them there, or delete that stream")
    raise NotAccepted(
        f"the server does not take the stream {plan.name}: {answer.error}; its limits come from NATS_STREAM_BYTES_MAX, "
        "NATS_MAX_AGE_HOURS and NATS_DUPLICATE_WINDOW_SEC"
    )


def _wanted(plan: StreamPlan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "subjects": list(plan.subjects),
        "max_bytes": plan.bytes_max,
        "max_age": plan.age_s * NS,
        "duplicate_window": plan.window_s * NS,
        "discard": "new" if plan.is_refusing else "old",
    }


def check_config(name: str, config: dict[str, Any]) -> None:
    """Raise NotAccepted if a stream that exists cannot be ours; the message says what to do."""
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise NotAccepted(
                f"the stream {name} exists with {key} {config[key]} instead of {value}: read what you need of it and "
                f"delete it (nats stream rm {name}); it is made anew then"
            )
    for key in ("mirror", "sources"):
        if config.get(key):
            raise NotAccepted(f"the stream {name} has {key}: it takes no messages of ours; rename or delete it")
