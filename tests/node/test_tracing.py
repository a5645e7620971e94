"""Spans on their way: the queue is bounded, what is lost is counted and reported once, and a stop waits for little."""

import socket

import pytest

from app.events import Event, SpansLost, TracesLost
from app.node.tracing import FLUSH_S_MAX, NodeTraces
from app.trace_settings import TracesWish
from infra.process.clock import SystemClock
from tests.infra.otlp import collecting

ASIDE = ("OTEL_BSP_SCHEDULE_DELAY", "60000")  # only the end of the process sends what waits


class CountingClock(SystemClock):
    """A clock whose sleeps are short, and added up."""

    slept_s = 0.0

    async def sleep(self, delay_s: float) -> None:
        self.slept_s += delay_s
        await super().sleep(0.001)


def of_kind(seen: list[Event], kind: type[Event]) -> list[Event]:
    return [event for event in seen if isinstance(event, kind)]


def traces(monkeypatch: pytest.MonkeyPatch, url: str, queue_spans_max: int = 2048) -> NodeTraces:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv(*ASIDE)
    return NodeTraces("http://10.0.0.5:8000", TracesWish(f"{url}/v1/traces", queue_spans_max))


async def test_a_stop_sends_what_waits_and_a_full_queue_counts_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Event] = []
    with collecting() as collector:
        made = traces(monkeypatch, collector.url, queue_spans_max=3)
        with pytest.raises(ValueError, match="the-secret"), made.work("broken", {"klinenode.rows": 7}):
            raise ValueError("the-secret")
        assert made.ids is not None
        for number in range(4):
            with made.work(f"work {number}", {}):
                assert made.ids().keys() == {"trace_id", "span_id"}
        assert made.ids() == {}
        await made.close(SystemClock(), seen.append)
    assert [span.name for span in collector.spans] == ["broken", "work 0", "work 1"]
    assert collector.spans[0].attributes == {"klinenode.rows": 7, "error.type": "ValueError"}
    assert collector.spans[0].is_error
    assert b"the-secret" not in b"".join(collector.bodies)
    assert seen[0] == SpansLost(2)
    assert "OTEL_BSP_MAX_QUEUE_SIZE" in seen[1].reason  # type: ignore[attr-defined]


async def test_a_stop_waits_for_a_silent_collector_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Event] = []
    clock = CountingClock()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # it takes connections, and answers nothing
        made = traces(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with made.work("work", {}):
            pass
        await made.close(clock, seen.append)
    assert clock.slept_s == pytest.approx(FLUSH_S_MAX, abs=0.1)
    assert of_kind(seen, SpansLost) == [SpansLost(1)]
    [lost] = of_kind(seen, TracesLost)
    assert "did not answer before the node stopped" in lost.reason  # type: ignore[attr-defined]


async def test_without_a_wish_nothing_is_measured() -> None:
    made = NodeTraces("http://127.0.0.1:8000", None)
    seen: list[Event] = []
    made.report_start(seen.append)
    await made.close(SystemClock(), seen.append)
    assert (made.requests, made.observers, made.ids, made.are_sent, made.fault, seen) == (None, (), None, False, "", [])
