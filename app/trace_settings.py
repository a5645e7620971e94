"""What OTEL_…, the environment of OpenTelemetry, asks of a node: whether there are traces, and where they go."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from dotenv import dotenv_values

from app.domain import letters
from app.outbound import masked

PREFIX: Final = "OTEL_"
QUEUE_SPANS_MAX: Final = 2048  # spans that wait for the collector, as OpenTelemetry's default; about 4 MB
QUEUE_SPANS_LIMIT: Final = 1_000_000  # more memory than this belongs into a collector beside the node
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_LOCAL: Final = "http://localhost:4318/v1/traces"  # what the specification names for OTEL_TRACES_EXPORTER=otlp alone
_HTTP: Final = "http/protobuf"


class TracesWish(NamedTuple):
    """Traces are asked for. `fault` says why there can be none, and what to correct; empty: they can be sent."""

    endpoint: str = ""
    """The collector's URL, for people: without credentials."""
    queue_spans_max: int = QUEUE_SPANS_MAX
    fault: str = ""


def wish_in(environment: Mapping[str, str]) -> TracesWish | None:
    """What `environment` asks for; None: no traces."""
    told = {name: value.strip() for name, value in environment.items() if name.startswith(PREFIX) and value.strip()}
    exporter = letters.lower(told.get("OTEL_TRACES_EXPORTER", ""))
    if letters.lower(told.get("OTEL_SDK_DISABLED", "")) == "true" or exporter == "none":
        return None
    endpoint = _endpoint(told)
    if not endpoint and not exporter:
        return None
    if exporter not in ("", "otlp"):
        return TracesWish(fault=f"OTEL_TRACES_EXPORTER={exporter}: write otlp, or remove it")
    name, protocol = next(((name, told[name]) for name in _PROTOCOLS if name in told), ("", _HTTP))
    if protocol != _HTTP:
        return TracesWish(fault=f"{name}={protocol}: write {_HTTP}, and the collector's port for it, which is 4318")
    try:
        url = urlsplit(endpoint or _LOCAL)
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        return TracesWish(fault=f"{masked(endpoint)} is no URL of a collector; write http://host:4318")
    queue = told.get("OTEL_BSP_MAX_QUEUE_SIZE", "")
    is_number = queue.isascii() and queue.isdigit() and 0 < int(queue[:9]) <= QUEUE_SPANS_LIMIT
    return TracesWish(masked(endpoint or _LOCAL), int(queue) if is_number else QUEUE_SPANS_MAX)


def told_in(env_file: Path) -> dict[str, str]:
    """What an `.env` says for OpenTelemetry; nothing if it cannot be read, which is reported with its other faults."""
    try:
        found = dotenv_values(env_file, encoding="utf-8-sig")
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in found.items() if name.startswith(PREFIX) and value is not None}


def propagator_faults(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with OTEL_PROPAGATORS, with which the libraries of the server could not be imported."""
    names = [name for text in environment.get("OTEL_PROPAGATORS", "").split(",") if (name := text.strip())]
    if not names or "none" in map(letters.lower, names):
        return []
    known = {found.name for found in entry_points(group="opentelemetry_propagator")}
    return [
        f"OTEL_PROPAGATORS: there is no {name!r:.40} here; write some of {','.join(sorted(known))}, or none"
        for name in names
        if name not in known
    ]


def _endpoint(told: Mapping[str, str]) -> str:
    """The URL to which spans are posted; empty if none is named."""
    own, general = (told.get(name, "") for name in _ENDPOINTS)
    return own or (f"{general.rstrip('/')}/v1/traces" if general else "")
