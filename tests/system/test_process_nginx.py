"""A node behind nginx with the configuration that is shipped."""

import gzip
import os
import shutil
from pathlib import Path

import httpx
import pytest

from infra.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.system.processes import ROOT, Place, Programs, until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
TOKEN = "a-long-admin-token"
KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=100&endTime={}"
REFRESH = "/v1/admin/symbols/refresh"


def nginx_conf(prefix: Path, port: int, node_port: int) -> Path:
    """The shipped file with other ports, inside a main file that keeps everything under `prefix`."""
    shipped = (ROOT / "deploy/nginx/klinenode.conf").read_text()
    site = shipped.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(
        "127.0.0.1:8000", f"127.0.0.1:{node_port}"
    )
    assert site.count(str(port)) >= 1, "the shipped file listens elsewhere by now"
    assert site.count(str(node_port)) >= 1, "the shipped file asks elsewhere by now"
    temporary = "\n".join(
        f"{kind}_temp_path {prefix}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = prefix / "nginx.conf"
    conf.write_text(
        f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log;
events {{ worker_connections 64; }}
http {{
access_log off;
{temporary}
{site}
}}
"""
    )
    return conf


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
async def test_what_the_node_promises_holds_behind_nginx(tmp_path: Path) -> None:
    assert NGINX is not None
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        front = Place(programs, sandbox.port)  # only its port is used: nginx answers there
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
            assert (await client.get("/docs")).status_code == 404, "only what is meant for everyone is forwarded"
            assert (await client.get("/metrics")).status_code == 200
            await gzip_passes_through(client, path, answer.content)

            assert (await client.post(REFRESH)).status_code == 403, "a proxied request passed for a local one"
            async with place.http() as local:
                assert (await local.post(REFRESH)).json()["ok"] is True
        node.kill()
        secured = Place(programs, sandbox.port, port=place.port, settings={"ADMIN_TOKEN": TOKEN})
        secured.serve()
        await until(forwards, "the node with a token answers behind nginx")
        async with front.http() as client:
            assert (await client.post(REFRESH)).status_code == 401
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            assert (await client.post(REFRESH, headers=bearer)).json()["ok"] is True


async def gzip_passes_through(client: httpx.AsyncClient, path: str, plain: bytes) -> None:
    request = client.build_request("GET", path, headers={"Accept-Encoding": "gzip"})
    answer = await client.send(request, stream=True)
    body = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == plain
    conditional = {"Accept-Encoding": "gzip", "If-None-Match": answer.headers["etag"]}
    assert (await client.get(path, headers=conditional)).status_code == 304
