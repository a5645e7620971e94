"""A node behind nginx with the configuration that is shipped."""

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import Final

import httpx
import pytest
from websockets.asyncio.client import connect

from infra.net.tls import trusting_nobody
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.cache_time import held_s
from tests.system.nginx import NGINX, nginx_conf
from tests.system.processes import ROOT, Place, Programs, ShiftedClock, until

ENDPOINTS_PAGE: Final = (ROOT / "docs/endpoints.md").read_text()
SOCKETS_S_MAX = 90.0
TOKEN = "a-long-admin-token"
KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=100&endTime={}"
REFRESH = "/v1/admin/symbols/refresh"


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
async def test_what_the_node_promises_holds_behind_nginx(tmp_path: Path) -> None:
    assert NGINX is not None
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        front = Place(programs, sandbox.port)  # used for its port, on which nginx listens
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        conf = nginx_conf(tmp_path, front.port, place.port)
        programs.start("-p", str(tmp_path), "-c", str(conf), "-e", str(tmp_path / "error.log"), command=(NGINX,))

        async def forwards() -> bool:
            return (await front.get("/v1/health")).status_code == 200

        await until(forwards, "nginx answers")
        path = KLINES.format(SystemClock().now_ms() - 600_000)
        async with front.http(**{"Accept-Encoding": "identity"}) as client:
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.content == (await place.get(path)).content
            assert answer.headers["x-mbx-used-weight-1m"]
            etag = {"If-None-Match": answer.headers["etag"]}
            assert [(await client.get(path, headers=etag)).status_code for _ in range(2)] == [304, 304]
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) == len(answer.content)
            await every_documented_route_is_reachable(place, front)
            await gzip_passes_through(client, path, answer.content)

            assert (await client.post(REFRESH)).status_code == 403, "a proxied request passed for a local one"
            async with place.http() as local, place.operator() as operator:
                assert (await local.post(REFRESH)).status_code == 401, "an address was taken for a proof"
                assert (await operator.post(REFRESH)).json()["ok"] is True
        node.kill()
        secured = Place(programs, sandbox.port, port=place.port, settings={"ADMIN_TOKEN": TOKEN})
        secured.serve()
        await until(forwards, "the node with a token answers behind nginx")
        async with front.http() as client:
            assert (await client.post(REFRESH)).status_code == 401
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            assert (await client.post(REFRESH, headers=bearer)).json()["ok"] is True


async def every_documented_route_is_reachable(place: Place, front: Place) -> None:
    """Assert that nginx answers every route of docs/endpoints.md as the node does; admin routes need a token."""
    routes = re.findall(r"`(GET|POST|PUT|DELETE) (/[^`]*)`", ENDPOINTS_PAGE)
    assert len(routes) > 80
    async with place.http() as direct, front.http() as through:
        for method, path in dict.fromkeys(routes):
            if path.startswith("/sandbox/"):
                continue  # a route of the sandbox
            theirs = await through.request(method, path)
            if path.startswith("/v1/admin/") or path.endswith("/subscribe"):
                assert theirs.status_code == 403, f"{method} {path} through a proxy: {theirs.status_code}"
                continue
            mine = await direct.request(method, path)
            kind = mine.headers["content-type"]
            assert (theirs.status_code, theirs.headers["content-type"]) == (mine.status_code, kind), f"{method} {path}"
            assert mine.status_code not in (404, 405), f"{method} {path} is not there"
        for asset in ("docs/start.js", "docs/swagger-ui-bundle.js", "docs/swagger-ui.css"):
            assert (await through.get(f"/{asset}")).content == (await direct.get(f"/{asset}")).content
        for path in ("/nothing", "/v1/nothing", "/fapi/v1/nothing", "/fapi"):
            mine, theirs = await direct.get(path), await through.get(path)
            assert (theirs.status_code, theirs.content) == (404, mine.content)


async def gzip_passes_through(client: httpx.AsyncClient, path: str, plain: bytes) -> None:
    request = client.build_request("GET", path, headers={"Accept-Encoding": "gzip"})
    answer = await client.send(request, stream=True)
    body = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == plain
    conditional = {"Accept-Encoding": "gzip", "If-None-Match": answer.headers["etag"]}
    assert (await client.get(path, headers=conditional)).status_code == 304


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
async def test_sockets_pass_through_nginx(tmp_path: Path) -> None:
    assert NGINX is not None
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place, front = Place(programs, sandbox.port), Place(programs, sandbox.port)
        place.serve()
        conf = nginx_conf(tmp_path, front.port, place.port)
        programs.start("-p", str(tmp_path), "-c", str(conf), "-e", str(tmp_path / "error.log"), command=(NGINX,))

        async def forwards() -> bool:
            return (await front.get("/v1/health")).status_code == 200

        await until(forwards, "nginx answers", SOCKETS_S_MAX)
        many = "/".join(f"s{number}usdt@kline_15m" for number in range(1_023))
        async with asyncio.timeout(SOCKETS_S_MAX):
            for path in (
                "/ws/btcusdt@markPrice@1s",
                "/market/ws/btcusdt@markPrice@1s",
                f"/stream?streams=btcusdt@markPrice@1s/{many}",
                "/public/stream?streams=btcusdt@markPrice@1s",
            ):
                async with connect(f"ws://127.0.0.1:{front.port}{path}", proxy=None) as through:
                    event = json.loads(await through.recv())
                    assert event.get("data", event)["s"] == "BTCUSDT"
                    await through.send('{"method":"GET_PROPERTY","params":["combined"],"id":"x"}')
                    while (answer := json.loads(await through.recv())).get("id") != "x":
                        assert "E" in answer.get("data", answer)
                    assert answer == {"result": "stream?" in path, "id": "x"}
        for path in ("/wsx", "/market", "/market/wss"):
            assert (await front.get(path)).status_code == 404


def client_keeps_s(answer: httpx.Response) -> int:
    """The seconds for which a client may reuse the answer (RFC 9111, 4.2; RFC 5861), counted from its request."""
    directives = answer.headers["cache-control"]
    if "no-store" in directives:
        return 0
    assert "max-age" in directives, f"nobody knows for how long this may be kept: {answer.headers}"
    return max(0, held_s(directives) - int(answer.headers.get("age", "0")))


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
@pytest.mark.parametrize("phase_ms", [0, 350, 700])
async def test_nginx_keeps_pages_but_never_beyond_their_candle(tmp_path: Path, phase_ms: int) -> None:
    """The exchange's seconds start `phase_ms` after the machine's, in whose whole seconds nginx counts."""
    assert NGINX is not None
    exchange_clock = ShiftedClock((53_000 - phase_ms + SystemClock().now_ms() % 1_000) / 1_000)
    async with SandboxServer(exchange_clock, symbols=4) as sandbox, Programs(tmp_path) as programs:
        place, front = Place(programs, sandbox.port), Place(programs, sandbox.port)
        place.serve()
        conf = nginx_conf(tmp_path, front.port, place.port)
        await until(place.is_whole, "the wish is held")
        programs.start("-p", str(tmp_path), "-c", str(conf), "-e", str(tmp_path / "error.log"), command=(NGINX,))
        path = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5"
        kept: set[int] = set()

        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{front.port}", trust_env=False, verify=trusting_nobody()
        ) as client:

            async def is_kept_on_both_sides() -> bool:
                asked_ms = exchange_clock.now_ms()
                answer = await client.get(path)
                if answer.status_code != 200:
                    return False
                open_ms = answer.json()[-1][0]
                until_ms = asked_ms + client_keeps_s(answer) * 1000
                assert until_ms < open_ms + 120_000 or until_ms == asked_ms, (
                    f"a client may keep this for {until_ms - open_ms - 120_000} ms beyond the close: {answer.headers}"
                )
                if answer.headers["x-cache-status"] in ("HIT", "STALE", "UPDATING"):
                    kept.add(open_ms)
                    late_ms = asked_ms - (open_ms + 120_000)
                    assert late_ms < 0, f"a page was kept {late_ms} ms beyond the close of the kline after its last"
                return len(kept) > 1

            await until(is_kept_on_both_sides, "pages are kept before and after a close", 90.0, every_s=0.002)
