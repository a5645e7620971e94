"""What deploy/ ships for Prometheus and Grafana: promtool accepts it, and every query names metrics that a node has."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
import yaml
from fastapi import FastAPI

from app.access.api_keys import line_of
from app.collector_events import COLLECTOR_EVENTS
from app.events import EVENTS
from app.node import collector_gauges, gauges
from app.ports.collector import LAG_BOUNDS_S, Lag
from infra.sandbox.server import SandboxServer
from infra.telemetry import Telemetry
from tests.collecting.control import BUSY, Stage
from tests.system.processes import ROOT, Place, Programs, ShiftedClock, until

PROMTOOL: Final = shutil.which("promtool")
PROMETHEUS: Final = ROOT / "deploy/prometheus"
DASHBOARD: Final = ROOT / "deploy/grafana/klinenode.json"
RULES: Final = PROMETHEUS / "klinenode.rules.yml"
TESTS: Final = PROMETHEUS / "klinenode.test.yml"
OURS: Final = frozenset({"job", "instance", "database"})
"""Labels that Prometheus adds to each series, or klinenode.targets.yml."""
OF_PROMETHEUS: Final = frozenset({"up"})
WORDS: Final = frozenset({"and", "or", "unless", "by", "on", "without", "offset", "sum", "min", "max", "le"})
KEY: Final = "k" * 64
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")


def rules() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")


def queries() -> list[str]:
    return [*(rule["expr"] for rule in rules()), *dashboard_queries()]


def used(query: str) -> tuple[dict[str, set[str]], set[str]]:
    """The metrics of a query with the labels that their selectors name, and the labels that it groups by."""
    grouped: set[str] = set()
    for names in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", query):
        grouped |= {name.strip() for name in names.split(",")}
    bare = re.sub(r"\b(?:by|on|without)\s*\([^)]*\)", " ", query)
    found: dict[str, set[str]] = {}
    bare = re.sub(r"\[[^\]]*\]", " ", bare)
    for name, selector in re.findall(r"(?<![\w\"'.])([a-z][a-z0-9_]*)(\{[^}]*\})?(?=[\s),]|$)", bare):
        if name not in WORDS:
            found.setdefault(name, set()).update(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))
    return found, grouped


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *arguments], cwd=PROMETHEUS, input=text, capture_output=True, text=True, check=False
    )


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", RULES.name), ("test", "rules", TESTS.name)],
    ids=" ".join,
)
def test_promtool_accepts_what_is_shipped(arguments: tuple[str, ...]) -> None:
    verdict = promtool(*arguments)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@needs_promtool
def test_promtool_accepts_every_query(tmp_path: Path) -> None:
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    assert len(recorded) > 60
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    verdict = promtool("check", "rules", str(file))
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_every_alert_says_what_to_do_and_has_a_test_that_fires_and_one_that_does_not() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 10
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
    outcomes: dict[str, set[bool]] = {}
    for case in yaml.safe_load(TESTS.read_text())["tests"]:
        for expected in case["alert_rule_test"]:
            outcomes.setdefault(expected["alertname"], set()).add(bool(expected["exp_alerts"]))
    assert outcomes == {name: {True, False} for name in names}


async def test_every_query_names_metrics_and_labels_of_a_real_node(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=45), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"API_KEYS_FILE": str(write_keys(tmp_path)), "METRICS": "all"})
        place.serve()

        async def has_closed() -> bool:
            text = (await place.get("/metrics")).text
            return "klinenode_close_lag_seconds_bucket" in text and "klinenode_gathered_age_seconds{" in text

        await until(has_closed, "a minute has closed, and metrics of the exchange are held")
        async with place.http(**{"X-MBX-APIKEY": KEY}) as client:
            assert (await client.get("/fapi/v1/time")).status_code == 200
        text = (await place.get("/metrics")).text
    of_collector = await collector_metrics(tmp_path)
    if PROMTOOL is not None:
        for scraped in (text, of_collector):
            verdict = promtool("check", "metrics", text=scraped)
            assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    text += of_collector
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    names = {*kinds, *(f"{name}_bucket" for name, kind in kinds.items() if kind == "histogram")}
    labels: dict[str, set[str]] = {}
    for name, selector in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r'([a-z_]+)="', selector))
    for event in (*EVENTS, *COLLECTOR_EVENTS):  # what has not happened yet has a name in the answer, but no labels
        for metric in event.METRICS:
            labels.setdefault(metric.name, set()).update(metric.labels)
    labels.setdefault("klinenode_requests_refused", set()).add("status")
    assert {metric.name for metric in (*gauges.METRICS, *collector_gauges.METRICS)} <= names
    checked = 0
    for query in queries():
        found, grouped = used(query)
        assert found, query
        for name, selected in found.items():
            assert name in names | OF_PROMETHEUS, f"no node has {name}: {query}"
            assert selected <= labels.get(name, set()) | OURS, f"{name} has no such label: {query}"
            checked += 1
        known = OURS.union(*(labels.get(name, set()) for name in found))
        assert grouped <= known, f"{grouped - known}: {query}"
    print(f"MEASURED {checked} metrics in {len(queries())} queries")


@pytest.mark.parametrize(
    ("query", "metrics", "grouped"),
    [
        ('sum by (a, b) (rate(x_total{c="d", e=~".*"}[5m])) > 3', {"x_total": {"c", "e"}}, {"a", "b"}),
        ("x > on (a) max by (a) (y) and x >= x offset 1h", {"x": set(), "y": set()}, {"a"}),
        ("predict_linear(x[6h], 3 * 86400) < 2 * 1024 ^ 3", {"x": set()}, set()),
        ("max(clamp_min(x{a='b'} - time(), 0))", {"x": {"a"}}, set()),
    ],
)
def test_queries_are_read_rightly(query: str, metrics: dict[str, set[str]], grouped: set[str]) -> None:
    assert used(query) == (metrics, grouped)


async def collector_metrics(folder: Path) -> str:
    """What a collector of every kind of samples answers to a scrape."""
    stage = Stage(folder)
    stage.begin()
    stage.control.set_stats(
        "okx", msgspec.structs.replace(BUSY, lag=Lag((1,) * (len(LAG_BOUNDS_S) + 1), 12.5, 30, 900))
    )
    telemetry, app = Telemetry("ERROR"), FastAPI()
    collector_gauges.sample_collector(telemetry, lambda: stage.collector)
    telemetry.instrument(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://collector") as client:
        return (await client.get("/metrics")).text


def write_keys(folder: Path) -> Path:
    file = folder / "keys"
    file.write_text(f"{line_of('alice', KEY, 1_000)}\n")
    return file
