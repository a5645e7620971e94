"""What OTEL_… asks for: traces, none, or what cannot be, with what to correct."""

from pathlib import Path

import pytest

from app.settings import SettingsError, load, traces_wish
from app.trace_settings import QUEUE_SPANS_MAX, TracesWish, propagator_faults, wish_in

GENERAL, OWN = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
AT = {GENERAL: "http://tempo:4318/"}
SENT = TracesWish("http://tempo:4318/v1/traces")


@pytest.mark.parametrize(
    ("environment", "wish"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "node"}, None),
        ({GENERAL: " "}, None),
        (AT, SENT),
        ({**AT, OWN: "https://user:secret@honey:443/here"}, TracesWish("https://********@honey:443/here")),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, TracesWish("http://localhost:4318/v1/traces")),
        ({**AT, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({**AT, "OTEL_SDK_DISABLED": "True"}, None),
        ({**AT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, SENT),
        ({**AT, "OTEL_BSP_MAX_QUEUE_SIZE": "64"}, SENT._replace(queue_spans_max=64)),
        ({**AT, "OTEL_BSP_MAX_QUEUE_SIZE": "many"}, SENT._replace(queue_spans_max=QUEUE_SPANS_MAX)),
    ],
)
def test_traces_are_sent_where_a_collector_is_named(environment: dict[str, str], wish: TracesWish | None) -> None:
    assert wish_in(environment) == wish


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({**AT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "http/protobuf", "4318")),
        ({**AT, "OTEL_TRACES_EXPORTER": "zipkin"}, ("OTEL_TRACES_EXPORTER=zipkin", "otlp")),
        ({GENERAL: "tempo:4318"}, ("tempo:4318", "http://host:4318")),
        ({GENERAL: "http://tempo:port"}, ("http://host:4318",)),
    ],
)
def test_what_cannot_be_sent_says_what_to_write(environment: dict[str, str], named: tuple[str, ...]) -> None:
    wish = wish_in(environment)
    assert wish is not None
    assert [word for word in named if word not in wish.fault] == []


def test_a_propagator_that_is_not_installed_is_a_fault_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert propagator_faults({"OTEL_PROPAGATORS": "tracecontext, baggage"}) == propagator_faults({}) == []
    assert propagator_faults({"OTEL_PROPAGATORS": "b3,none"}) == []
    monkeypatch.setenv("OTEL_PROPAGATORS", "b4")
    with pytest.raises(SettingsError, match="OTEL_PROPAGATORS: there is no 'b4' here; write some of baggage"):
        load(env_file=None)


def test_an_env_file_counts_after_the_environment_and_is_no_typing_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, remarks = tmp_path / ".env", list[str]()
    file.write_text(f"{GENERAL}=http://from-file:4318\nOTEL_SERVICE_NAME=file\n")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "environment")
    monkeypatch.setenv(GENERAL, "")  # so that it is removed again
    monkeypatch.delenv(GENERAL)
    load(env_file=file, remark=remarks.append)
    assert remarks == []
    assert traces_wish() == TracesWish("http://from-file:4318/v1/traces")
