"""The pages for people are self-contained: every link and asset is served by the node, under any prefix."""

import re
from html import unescape
from importlib.metadata import version
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from tests.http.fakes import FakeHealth, Node

PREFIXED = "http://proxy.example/some/where"  # what a browser sees behind a proxy that removes this prefix
REFERENCE = re.compile(r'(?:href|src)="([^"]*)"')


class Degraded(FakeHealth):
    def report(self) -> dict[str, object]:
        return {"status": "degraded", "reasons": ["no <socket> & no disk", *(f"reason {n}" for n in range(40))]}


class Well(FakeHealth):
    def report(self) -> dict[str, object]:
        return {"status": "ok", "reasons": []}


def named_by(page: httpx.Response, path: str) -> list[str]:
    """The paths that `page` refers to, as the node receives them from a proxy that removes the prefix."""
    found = []
    for reference in REFERENCE.findall(page.text):
        if reference.startswith("data:"):
            continue
        url = urljoin(PREFIXED + path, unescape(reference))
        assert url.startswith(f"{PREFIXED}/"), f"{path} names {url}, which is outside the node"
        found.append(url.removeprefix(PREFIXED))
    return found


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_what_a_page_names_is_answered_by_the_node_under_any_prefix(path: str) -> None:
    async with Node().client() as client:
        page = await client.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        names = named_by(page, path)
        assert len(names) >= 4
        for name in names:
            if urlsplit(name).path != "/metrics":  # served by the telemetry, which the fakes do not include
                answer = await client.get(name)
                assert answer.status_code in (200, 503), name
                assert answer.content, name


async def test_the_front_page_says_what_this_is_and_how_it_is() -> None:
    async with Node(health=Well()).client() as client:
        page = (await client.get("/")).text
        assert f"klinenode {version('klinenode')}" in page
        assert "<strong>ok</strong>" in page
        assert await answers_head_alike(client, "/")
    async with Node(health=Degraded()).client() as client:
        page = (await client.get("/")).text
    assert "<strong>degraded</strong>" in page
    assert "no &lt;socket&gt; &amp; no disk" in page
    assert page.count("reason ") < 25, "the page stays small, whatever is wrong"


async def answers_head_alike(client: httpx.AsyncClient, path: str) -> bool:
    head, whole = await client.head(path), await client.get(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert dict(head.headers) == dict(whole.headers)
    return True


async def test_the_assets_of_the_description_are_served_with_their_types_and_not_sent_again() -> None:
    async with Node().client() as client:
        for name, kind in (
            ("start.js", "javascript"),
            ("swagger-ui-bundle.js", "javascript"),
            ("swagger-ui.css", "css"),
        ):
            answer = await client.get(f"/docs/{name}")
            assert kind in answer.headers["content-type"]
            assert await answers_head_alike(client, f"/docs/{name}")
        again = await client.get("/docs/swagger-ui.css", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for missing in ("/docs/", "/docs/nothing.js", "/docs/%2e%2e/__init__.py", "/docs/../__init__.py"):
            answer = await client.get(missing)
            assert (answer.status_code, set(answer.json())) == (404, {"error"}), missing


async def test_the_description_is_not_judged_by_a_service_elsewhere() -> None:
    async with Node().client() as client:
        assert "validatorUrl: null" in (await client.get("/docs/start.js")).text
        described = (await client.get("/openapi.json")).json()
    assert described["servers"] == [{"url": "."}], "requests go where the description came from"
