"""`klinenode status` shows what must be seen on small and large terminals, and reads what a real node answers."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from orjson import dumps
from rich.console import Console

from app.collector_events import COLLECTOR_EVENTS
from app.events import EVENTS
from app.node import collector_gauges, gauges, overview
from app.operate_status import NoNode, look, once
from app.status import open_reports
from app.status.open_reports import NUMBERS, overview_of
from app.status.screen import screen, sentence
from app.status.snapshot import Snapshot, snapshot_of
from app.status.trend import Rates, Trend
from infra.process.clock import SystemClock
from tests.net.loopback import Reply, http_host
from tests.project.documents import node_in
from tests.system.processes import free_port

SMALL, LARGE, NARROW = (80, 24), (200, 60), (40, 24)
NOW_MS = 1_795_915_440_000
URL = "http://127.0.0.1:8000"
LONG = "the database /var/lib/klinenode/data/klinenode.db cannot grow: the disk is full; " + "free some space " * 6
EXPOSITION = """# HELP klinenode_frames_total Socket frames received.
klinenode_frames_total 12000.0
klinenode_upstream_weight_used 77.0
klinenode_klines_missing 250.0
klinenode_klines_wished 1000.0
klinenode_page_cache_hits 98.0
klinenode_page_cache_misses 2.0
klinenode_connections 3.0
klinenode_stream_clients 2.0
klinenode_is_writer 1.0
klinenode_close_lag_seconds_bucket{interval="1m",le="0.25"} 60.0
klinenode_close_lag_seconds_bucket{interval="1m",le="1.0"} 99.0
klinenode_close_lag_seconds_bucket{interval="1m",le="+Inf"} 100.0
klinenode_database_bytes 2.1e+09
klinenode_disk_free_bytes 6.3e+10
process_resident_memory_bytes 1.8e+08
"""
COLLECTED = """messages_processed_total{exchange="okx",type="trade"} 1000.0
messages_processed_total{exchange="okx",type="ticker"} 300.0
messages_published_total{exchange="okx",type="trade"} 1200.0
errors_total{exchange="okx",type="trade"} 1.0
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
DAY_MS = 86_400_000


def job(kind: str, done: int, **more: object) -> dict[str, Any]:
    span = {"start": NOW_MS - 20 * DAY_MS, "end": NOW_MS - 10 * DAY_MS}
    series = {"named": ["BTCUSDT 1m"], "series": 3, "total": 120, "done": done, "state": "running", "error": None}
    return {"job": kind, **series, **span, **more}


OVERVIEW: dict[str, Any] = {
    "as_of": NOW_MS,
    "version": "0.1.0",
    "health": HEALTH,
    "ready": READY,
    "exchange": {
        "stand_down": None,
        "is_silent": False,
        "complaints": [],
        "weight_used": 77,
        "weight_limit": 2400,
        "waiting": {"user": 1, "backfill": 2},
    },
    "numbers": {
        "frames": 12000.0, "klines_wished": 1000.0, "klines_missing": 250.0, "page_hits": 98.0, "page_misses": 2.0,
        "market_hits": 3.0, "market_misses": 1.0, "connections": 3.0, "stream_clients": 2.0, "requests": 1_200.0,
        "database_bytes": 2.1e9, "disk_free_bytes": 6.3e10, "memory_bytes": 1.8e8, "write_queue": 4.0, "writers": 1.0,
        "rows_written": 5_000.0, "rows_revised": 2.0,
    },
    "close_lag": {"1m": {"klines": 100, "p50_s": 0.25, "p99_s": 1.0}, "5m": {"klines": 0, "p50_s": 0, "p99_s": 0}},
    "workers": 4,
    "paused": None,
    "fetch_error": None,
    "jobs": [job("backfill", 30), job("export", 60), job("verify", 120, state="done")],
    "slow": [
        {"path": f"/fapi/v1/{name}", "query": "symbol=BTCUSDT", "elapsed_ms": 1_400, "at_ms": NOW_MS, "status": 200}
        for name in ("klines", "depth")
    ],
}  # fmt: skip


def shot(taken_ms: int = NOW_MS, jobs: object = OVERVIEW["jobs"], ready: bool = True, **health: object) -> Snapshot:
    of_ready = READY | {"ready": ready}
    return snapshot_of(OVERVIEW | {"as_of": taken_ms, "jobs": jobs, "health": HEALTH | health, "ready": of_ready})


def lines_on(size: tuple[int, int], snapshot: Snapshot, rates: Rates | None = None) -> list[str]:
    """What a terminal of this size shows."""
    width, height = size
    out = StringIO()
    console = Console(
        file=out, width=width, height=height, color_system=None, force_terminal=True, legacy_windows=False
    )
    left = {job.name: 7 for job in snapshot.jobs if job.state == "running"}
    console.print(screen(console, URL, snapshot, rates or Rates(12.34, 50.0, 5, left)))
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in out.getvalue().rstrip("\n").split("\n")]


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
def test_everything_that_must_be_seen_fits(size: tuple[int, int]) -> None:
    lines = lines_on(size, shot())
    assert len(lines) < size[1]
    assert max(map(len, lines)) <= size[0]
    text = " ".join(" ".join(lines).split())
    for must in (
        "klinenode 0.1.0 · http://127.0.0.1:8000",
        "Ready: every series is fresh; 250 older klines are still to come, 5 s to go.",
        "reachable; 6 symbols, 2 sockets with 6 streams",
        "77 of 2,400 used this minute; for more wait 3 requests",
        "12,000, 12.3 a second",
        "1m: half within 0.25 s, 99 % within 1 s, of 100 klines",
        "750 of 1,000 held or proven absent (75 %), 250 missing",
        "5 s to go, at 50 klines a second",
        "jobs backfill BTCUSDT 1m and 2 more, 2026-11-09 to 2026-11-19: 30 of 120 (25 %), 7 s to go",
        "export BTCUSDT 1m and 2 more, 2026-11-09 to 2026-11-19: 60 of 120 (50 %), 7 s to go",
        "the writer of 4 workers; 4 rows wait to be written; 180 MB of memory",
        "3 connections, 2 on sockets; 1,298 requests since the start",
        "klines 98 % of 100; market data 75 % of 4",
        "2.1 GB, 63 GB free on the disk",
        "1,400 ms at 01:24:00, status 200: /fapi/v1/klines",
        "okx up: 3 sockets, 12 feeds, 1 gap, 4 of 5 books valid",
        "9 records wait for NATS, 2.0 MB of them on disk",
    ):
        assert must in text, must


def test_a_large_terminal_has_the_details_too() -> None:
    text = "\n".join(lines_on(LARGE, shot(tasks={"hub": {"running": False}, "sync": {"running": True}})))
    assert "1d: BTCUSDT fresh, newest kline closed 4 s ago" in text
    assert "SQLite 3.40 may lose commits" in text
    assert "verify BTCUSDT 1m and 2 more, 2026-11-09 to 2026-11-19: 120 of 120 (100 %), done" in text
    assert "1,400 ms at 01:24:00, status 200: /fapi/v1/depth?symbol=BTCUSDT" in text
    assert "task hub" in text
    assert "task sync" not in text


def test_no_number_is_cut_on_a_narrow_terminal() -> None:
    lines = lines_on(NARROW, shot(reasons=[LONG.strip()]))
    assert len(lines) < NARROW[1]
    assert max(map(len, lines)) <= NARROW[0]
    assert LONG.strip() in " ".join(" ".join(lines).split())
    whole = set(re.findall(r"[\d.,]+", " ".join(lines_on((500, 100), shot(reasons=[LONG.strip()])))))
    assert set(re.findall(r"[\d.,]+", " ".join(lines))) <= whole


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
    text = "\n".join(lines_on(SMALL, snapshot_of(overview_of(NOW_MS, health, {}, {}, COLLECTED))))
    assert "Collecting, and nothing is wrong." in text
    assert "up 2 min" in text
    assert "messages   1,300 received, 1,200 published, 1 error" in text
    assert "okx up: 3 sockets" in text
    assert "weight" not in text


def test_a_stand_down_goes_before_everything_else() -> None:
    exchange = OVERVIEW["exchange"] | {"stand_down": {"until": NOW_MS + 60_000, "reason": "banned"}}
    snapshot = snapshot_of(OVERVIEW | {"exchange": exchange, "ready": READY | {"ready": False}})
    assert "Standing down for 1 min: banned; what is held is served." in sentence(snapshot, Rates())


def test_a_process_without_a_writer_says_so() -> None:
    numbers = OVERVIEW["numbers"] | {"writers": 0.0}
    snapshot = snapshot_of(OVERVIEW | {"numbers": numbers, "health": HEALTH | {"role": "reader"}})
    assert "a reader of 4 workers, and no process writes;" in "\n".join(lines_on(LARGE, snapshot))


def test_rates_are_those_of_the_last_half_minute() -> None:
    trend = Trend()
    assert trend.add(shot()) == Rates()
    for second in range(1, 41):
        counts = {"frames": 12_000.0 + 10 * second, "klines_missing": 250.0 - 5 * second}
        jobs = [job("backfill", 2 * second)]
        numbers = OVERVIEW["numbers"] | counts
        later = snapshot_of(OVERVIEW | {"as_of": NOW_MS + 1000 * second, "numbers": numbers, "jobs": jobs})
        rates = trend.add(later)
    assert rates == Rates(10.0, 5.0, 10, {"backfill BTCUSDT 1m and 2 more, 2026-11-09 to 2026-11-19": 20})
    assert trend.add(later) == rates, "the node makes its overview once a second, and was asked twice in one"
    assert trend.add(shot(NOW_MS + 60_000)) == Rates(), "the node has been restarted"


async def test_a_real_node_says_what_is_read(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    transport = httpx.ASGITransport(node.app)
    async with httpx.AsyncClient(base_url=URL, transport=transport) as client:
        overview, snapshot = await look(client, SystemClock())
        with_overview = {"jobs", "slow", "numbers", "exchange", "close_lag"} <= overview.keys()
        asked = {path: (await client.get(path)) for path in ("/v1/health", "/v1/ready", "/v1/verification", "/metrics")}
    await node.close()
    assert with_overview
    assert not snapshot.is_ready
    assert "symbols were never synced" in snapshot.reasons[0]
    assert snapshot.exchange.weight_limit == 2400
    assert snapshot.numbers["memory_bytes"] > 0
    health, ready, verification = (asked[path].json() for path in ("/v1/health", "/v1/ready", "/v1/verification"))
    older = snapshot_of(overview_of(NOW_MS, health, ready, verification, asked["/metrics"].text))
    assert older.reasons == snapshot.reasons
    assert older.numbers.keys() <= snapshot.numbers.keys()


@pytest.mark.parametrize(("status", "why"), [(404, "update it"), (401, "wants an API key")])
async def test_a_node_that_gives_no_overview_is_shown_by_its_other_reports(status: int, why: str) -> None:
    def answer(target: str) -> Reply:
        if target in ("/v1/overview", "/v1/verification"):
            return Reply(status)
        return Reply(body={"/v1/health": dumps(HEALTH), "/v1/ready": dumps(READY)}.get(target, EXPOSITION.encode()))

    async with http_host(answer) as host, httpx.AsyncClient(base_url=host.url) as client:
        _, snapshot = await look(client, SystemClock())
    text = "\n".join(lines_on(LARGE, snapshot))
    assert why in text
    assert "1m: half within 0.25 s, 99 % within 1 s, of 100 klines" in text
    assert "77 used this minute" in text
    assert snapshot.numbers["frames"] == 12_000


def test_every_metric_that_is_read_exists() -> None:
    declared = {metric.name for event in (*EVENTS, *COLLECTOR_EVENTS) for metric in event.METRICS}
    declared |= {metric.name for metric in (*gauges.METRICS, *collector_gauges.METRICS)}
    named = {
        *NUMBERS.values(),
        *open_reports.COLLECTED.values(),
        *re.findall(r'"(klinenode_\w+)"', Path(open_reports.__file__).read_text()),
    }
    assert {name.removesuffix("_bucket") for name in named} - {"process_resident_memory_bytes"} <= declared
    assert {name: NUMBERS[name] for name in NUMBERS} == {name: overview.NUMBERS[name] for name in NUMBERS}


async def test_no_node_is_a_sentence() -> None:
    with pytest.raises(NoNode, match="start one with `klinenode serve`"):
        await once(f"http://127.0.0.1:{free_port()}", SystemClock())
    async with http_host(lambda target: Reply(body=b"<html>")) as host:
        with pytest.raises(NoNode, match="it is another program"):
            await once(host.url, SystemClock())
    async with http_host(lambda target: Reply(503, body=b"{}")) as host:
        with pytest.raises(NoNode, match="answered with 503"):
            await once(host.url, SystemClock())
    for url in ("localhost:8000", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999"):
        with pytest.raises(NoNode, match="no URL"):
            await once(url, SystemClock())
