"""nginx with the configuration that is shipped, for tests and the benchmark."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.system.processes import ROOT

NGINX: Final = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
SHIPPED: Final = ROOT / "deploy/nginx/klinenode.conf"


MAIN: Final = ROOT / "deploy/nginx/klinenode-main.conf"


def nginx_conf(
    prefix: Path,
    port: int,
    node_port: int,
    *,
    more: str = "",
    rate: str = "60r/s",
    second_port: int | None = None,
    options: Sequence[str] = (),
    main: str = "",
) -> Path:
    """Write the shipped configuration, with other ports and another rate, inside a main file; return that file.

    nginx keeps all its files in `prefix`. `more` are further server blocks, `main` is for the main context. `options`
    are turned on as the shipped file says, and with `second_port` its second node.
    """
    shipped = SHIPPED.read_text()
    for option in (*options, *(("SECOND",) if second_port else ())):
        assert f"#{option} " in shipped, f"the shipped file has no option {option}"
        shipped = shipped.replace(f"#{option} ", "")
    if second_port:
        shipped = shipped.replace("127.0.0.1:8001", f"127.0.0.1:{second_port}")
    for place, there in (("/dev/shm/klinenode-nginx", f"{prefix}/pages"), ("60r/s", rate)):
        assert place in shipped, f"the shipped file does not say {place} any more"
        shipped = shipped.replace(place, there)
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
{main}
events {{ worker_connections 512; }}
http {{
access_log off;
sendfile on;
tcp_nopush on;
keepalive_requests 10000000;
{temporary}
{site}
{more}
}}
"""
    )
    return conf
