"""Scraped metrics are exactly the declared ones, with the declared types."""

import re
from pathlib import Path

from httpx import ASGITransport, AsyncClient

from app.collector_events import COLLECTOR_EVENTS
from app.events import EVENTS, GapsCounted, LeaseChanged
from app.node import collector_gauges, gauges
from app.node.node import Node
from tests.project.documents import fastapi_of, node_in

HEAD = re.compile(r"^# HELP (\w+) (.*)\n# TYPE (\S+) (\S+)$", re.MULTILINE)
OF_LIBRARIES = ("process_", "http_")


async def scraped(node: Node) -> str:
    async with AsyncClient(transport=ASGITransport(fastapi_of(node.app)), base_url="http://node") as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    return answer.text


async def test_the_declared_metrics_are_scraped_with_their_types_and_help_and_no_others(tmp_path: Path) -> None:
    of_events = (metric for event in (*EVENTS, *COLLECTOR_EVENTS) for metric in event.METRICS)
    declared = [*of_events, *gauges.METRICS, *collector_gauges.METRICS]
    found = [each for each in HEAD.findall(await scraped(node_in(tmp_path))) if not each[0].startswith(OF_LIBRARIES)]
    assert sorted(found) == sorted((each.name, each.help, each.name, each.type) for each in declared)


async def test_every_sampled_metric_reads_the_node(tmp_path: Path) -> None:
    text = await scraped(node_in(tmp_path))
    empty = {
        *("klinenode_requests_refused", "klinenode_close_lag_seconds", "klinenode_tail_lag_seconds"),
        *("klinenode_gathered_age_seconds", "klinenode_api_key_requests_total", "klinenode_api_key_refusals_total"),
    }
    for metric in gauges.METRICS:
        has_sample = re.search(rf"^{metric.name}(_count)?[ {{]", text, re.MULTILINE) is not None
        assert has_sample is (metric.name not in empty), metric.name


async def test_what_is_known_of_a_plan_is_forgotten_with_the_lease(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    shown = []
    for event in (None, GapsCounted(0, 0, 100), LeaseChanged(is_writer=True, holder=""), LeaseChanged(False, "other")):
        if event is not None:
            node.parts.observe(event)
        shown.append(
            re.findall(r"^klinenode_(?:klines_missing|klines_wished|gaps) (\S+)$", await scraped(node), re.MULTILINE)
        )
    assert shown == [[], ["0.0", "100.0", "0.0"], ["0.0", "100.0", "0.0"], []]
