"""`klinenode status` shows what must be seen on small and large terminals, and reads what a real node answers."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from app.collector_events import COLLECTOR_EVENTS
from app.events import EVENTS
from app.node import gauges
from app.operate_status import NoNode, look, once
from app.status import snapshot as reading
from app.status.screen import screen, sentence
from app.status.snapshot import Snapshot, snapshot_of
from app.status.trend import Rates, Trend
from infra.process.clock import SystemClock
from tests.net.loopback import Reply, http_host
from tests.project.documents import node_in
from tests.system.processes import free_port

SMALL, LARGE = (80, 24), (200, 60)
NOW_MS = 1_795_915_440_000
URL = "http://127.0.0.1:8000"
LONG = "the database /var/lib/klinenode/data/klinenode.db cannot grow: the disk is full; " + "free some space " * 6
EXPOSITION = """# HELP klinenode_frames_total Socket frames received.
klinenode_frames_total 12000.0
klinenode_upstream_weight_used 77.0
klinenode_upstream_weight_ceiling{priority="user"} 2280.0
klinenode_upstream_weight_ceiling{priority="backfill"} 1680.0
klinenode_klines_missing 250.0
klinenode_klines_wished 1000.0
klinenode_page_cache_hits 98.0
klinenode_page_cache_misses 2.0
klinenode_connections 3.0
klinenode_stream_clients 2.0
klinenode_close_lag_seconds_bucket{interval="1m",le="0.25"} 60.0
klinenode_close_lag_seconds_bucket{interval="1m",le="1.0"} 99.0
klinenode_close_lag_seconds_bucket{interval="1m",le="+Inf"} 100.0
klinenode_database_bytes 2.1e+09
klinenode_disk_free_bytes 6.3e+10
process_resident_memory_bytes 1.8e+08
"""
READY: dict[str, Any] = {"ready": True, "series": {"fresh": 42}}
HEALTH: dict[str, Any] = {
    "reasons": [],
    "notes": ["SQLite 3.40 may lose commits"],
    "role": "writer",
    "uptime_s": 12_000,
    "symbols": 6,
    "queue_depth": 4,
    "sockets": {"sockets": {"0": {"streams": 4}, "1": {"streams": 2}}},
    "tails": {code: {"symbol": "BTCUSDT", "state": "fresh", "age_ms": 4_000} for code in ("1m", "5m", "1h", "1d")},
    "collector": {
        "exchanges": {
            name: {"state": "up", "sockets": 3, "feeds": 12, "gaps_open": 1, "books_valid": 4, "books_followed": 5}
            for name in ("binance", "okx", "deribit")
        },
        "waiting": 9,
        "spilled_bytes": 2_000_000,
    },
}
AUDITS: dict[str, Any] = {"audits": [{"audit": 7, "ended": None, "compared": 30, "total": 120}]}


def shot(**health: object) -> Snapshot:
    return snapshot_of(NOW_MS, HEALTH | health, READY | {"ready": health.get("ready", True)}, AUDITS, EXPOSITION)


def lines_on(size: tuple[int, int], snapshot: Snapshot, rates: Rates | None = None) -> list[str]:
    """What a terminal of this size shows."""
    width, height = size
    out = StringIO()
    console = Console(
        file=out, width=width, height=height, color_system=None, force_terminal=True, legacy_windows=False
    )
    console.print(screen(console, URL, snapshot, rates or Rates(12.34, 50.0, 5)))
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in out.getvalue().rstrip("\n").split("\n")]


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
def test_everything_that_must_be_seen_fits(size: tuple[int, int]) -> None:
    lines = lines_on(size, shot())
    assert len(lines) < size[1]
    assert max(map(len, lines)) <= size[0]
    text = " ".join(" ".join(lines).split())
    for must in (
        "klinenode status · http://127.0.0.1:8000",
        "Ready: every series is fresh; 250 older klines are still to come, 5 s to go.",
        "6 symbols, 2 sockets with 6 streams",
        "77 used this minute, up to 2,280 are taken",
        "12,000, 12.3 a second",
        "1m: half within 0.25 s, 95 % within 1 s",
        "750 of 1,000 held or proven absent (75 %), 250 missing",
        "5 s to go, at 50 klines a second",
        "verification 7: 30 of 120 (25 %)",
        "the writer; 4 rows wait to be written; 180 MB of memory",
        "3 connections, 2 on sockets; 98 % of 100 klines answers from cache",
        "2.1 GB, 63 GB free on the disk",
        "okx up: 3 sockets, 12 feeds, 1 gaps, 4 of 5 books valid",
        "9 records wait for NATS, 2.0 MB of them on disk",
    ):
        assert must in text, must


def test_a_large_terminal_has_the_details_too() -> None:
    text = "\n".join(lines_on(LARGE, shot()))
    assert "1d: BTCUSDT fresh, newest kline closed 4 s ago" in text
    assert "SQLite 3.40 may lose commits" in text


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
@pytest.mark.parametrize("ready", [True, False])
def test_the_sentence_is_never_cut(size: tuple[int, int], ready: bool) -> None:
    snapshot = shot(reasons=[LONG.strip(), "another"], ready=ready)
    lines = lines_on(size, snapshot)
    assert len(lines) < size[1]
    said = sentence(snapshot, Rates())
    assert LONG.strip() in said
    assert "(and 1 more)" in said
    assert "".join(said.split()) in "".join("".join(lines).split())


def test_a_process_that_only_collects_shows_no_klines() -> None:
    health = {"status": "ok", "reasons": [], "collector": HEALTH["collector"] | {"uptime_s": 75}}
    text = "\n".join(lines_on(SMALL, snapshot_of(NOW_MS, health, {}, {}, "")))
    assert "Collecting, and nothing is wrong." in text
    assert "up 2 min" in text
    assert "okx up: 3 sockets" in text
    assert "weight" not in text


def test_a_stand_down_goes_before_everything_else() -> None:
    assert "Standing down for 1 min" in sentence(shot(stand_down_until_ms=NOW_MS + 60_000, ready=False), Rates())


def test_rates_are_those_of_the_last_half_minute() -> None:
    trend = Trend()
    assert trend.add(shot()) == Rates()
    for second in range(1, 41):
        text = EXPOSITION.replace("12000.0", str(12_000 + 10 * second)).replace("250.0", str(250 - 5 * second))
        later = snapshot_of(NOW_MS + 1000 * second, HEALTH, READY, {}, text)
        rates = trend.add(later)
    assert rates == Rates(10.0, 5.0, 10)
    assert trend.add(shot()) == Rates(), "the node has been restarted"


async def test_a_real_node_says_what_is_read(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    transport = httpx.ASGITransport(node.app)
    async with httpx.AsyncClient(base_url=URL, transport=transport) as client:
        snapshot = await look(client, SystemClock())
    await node.close()
    assert not snapshot.is_ready
    assert "symbols were never synced" in snapshot.reasons[0]
    assert snapshot.weight_ceiling == 2280
    assert snapshot.memory_bytes > 0


def test_every_metric_that_is_read_exists() -> None:
    named = set(re.findall(r'"(klinenode_\w+)"', Path(reading.__file__).read_text()))
    declared = {metric.name for event in (*EVENTS, *COLLECTOR_EVENTS) for metric in event.METRICS}
    declared |= {metric.name for metric in gauges.METRICS}
    assert {name.removesuffix("_bucket") for name in named} <= declared
    assert len(named) > 8


async def test_no_node_is_a_sentence() -> None:
    with pytest.raises(NoNode, match="start one with `klinenode serve`"):
        await once(f"http://127.0.0.1:{free_port()}", SystemClock())
    async with http_host(lambda target: Reply(body=b"<html>")) as host:
        with pytest.raises(NoNode, match="it is another program"):
            await once(host.url, SystemClock())
