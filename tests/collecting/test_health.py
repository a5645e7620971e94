"""A fault that stands degrades the collector, with its sentence; its begin and its end are reported once."""

import asyncio
from dataclasses import fields
from pathlib import Path

import pytest

from app.collecting.health import LOOK_EVERY_S, STREAM
from app.collector_events import CollectorFaultBegan, CollectorFaultEnded, GapAnnounced
from app.domain.gap_reason import GapReason
from app.domain.instrument import Market
from app.domain.records import DataType, Feed, Gap, GapState
from app.ports.collector import ExchangeStats, OutboxStats
from tests.collecting.control import BUSY, Stage, instrument
from tests.patience import PATIENCE_S

CUT = ExchangeStats("away", 0, {}, faults=("no socket of /ws/v5/public: connection refused", "okx refuses books"))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.begin()
    stage.events.clear()
    return stage


def test_without_a_fault_there_is_no_reason(stage: Stage) -> None:
    stage.control.set_stats("okx", BUSY)
    stage.clock.ms += 90_500
    assert stage.collector.health.reasons() == []
    assert stage.collector.health.report() == {
        "uptime_s": 90,
        "exchanges": {
            "okx": {
                "state": "following", "sockets": 2, "feeds": 3, "gaps_open": 1, "books_valid": 2, "books_followed": 3,
            },
            "deribit": {
                "state": "idle", "sockets": 0, "feeds": 0, "gaps_open": 0, "books_valid": 0, "books_followed": 0,
            },
        },
        "waiting": 0,
        "spilled_bytes": 0,
    }  # fmt: skip


def test_every_fault_is_a_reason_and_names_its_exchange(stage: Stage) -> None:
    stage.control.set_stats("okx", CUT)
    stage.control.set_outbox(OutboxStats(5, 4096, 0.0, "the stream KLINES is full: raise NATS_STREAM_BYTES_MAX"))
    stage.control.listings["deribit"] = []
    assert stage.collector.health.reasons() == [
        "collector: the stream KLINES is full: raise NATS_STREAM_BYTES_MAX",
        "collector: okx: no socket of /ws/v5/public: connection refused",
        "collector: okx refuses books",
        "collector: deribit: its instruments have not been read yet",
    ]


def test_begin_and_end_of_a_fault_are_reported_once(stage: Stage) -> None:
    stage.control.set_outbox(OutboxStats(fault="NATS does not answer"))
    for _ in range(3):
        stage.collector.health.look()
        stage.clock.ms += 1_000
    assert stage.events == [CollectorFaultBegan(STREAM, "NATS does not answer")]
    stage.control.set_outbox(OutboxStats())
    stage.control.set_stats("okx", ExchangeStats("away", 0, {}, faults=("cut",)))
    for _ in range(2):
        stage.collector.health.look()
    assert stage.events[1:] == [
        CollectorFaultBegan("okx", "okx: cut"),
        CollectorFaultEnded(STREAM, "NATS does not answer", 3_000),
    ]


async def test_a_collector_looks_every_second(stage: Stage) -> None:
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(stage.collector.health.run())

        async def settle() -> None:
            await asyncio.to_thread(lambda: None)

        await stage.clock.advance(LOOK_EVERY_S, settle)
        stage.control.set_outbox(OutboxStats(fault="full"))
        await stage.clock.advance(LOOK_EVERY_S, settle)
        watch.cancel()
    assert stage.events == [CollectorFaultBegan(STREAM, "full")]


def test_a_gap_is_an_event_with_exchange_and_symbol() -> None:
    feed = Feed(instrument("okx", Market.SPOT, "BTC-USDT"), DataType.KLINE, "1m")
    gap = Gap(feed, GapState.CONFIRMED, GapReason.DISCONNECTED, 1_000, 2_000, 3_000, 7, 9)
    event = GapAnnounced.of(gap)
    found = [getattr(event, each.name) for each in fields(event)]
    assert found == ["okx", "BTC-USDT", "spot", "kline.1m", "confirmed", "disconnected", 1_000, 2_000, 7, 9]
