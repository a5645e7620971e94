"""Part 1 behind nginx: the shipped configuration with its micro-cache, against nginx with the same bytes as a file."""

from typing import Final

from tests.programs.bench.figures import alternating
from tests.programs.bench.part_http import PATH, add_rates, answer_of
from tests.programs.bench.stage import Measured, Stage, until_answers
from tests.system.nginx import NGINX, nginx_conf
from tests.system.processes import free_port

PART: Final = "nginx"
UNLIMITED: Final = "1000000r/s"  # all requests come from one address here


async def measure(stage: Stage) -> None:
    """Measure one page through nginx, which caches it."""
    if NGINX is None:
        stage.run.notes.append("nginx is not installed: nothing was measured behind it (apt-get install nginx-light)")
        return
    folder = stage.run.folder / "nginx"
    (folder / "files").mkdir(parents=True)
    _, stated, body = await answer_of(stage.place.port, PATH, {})
    (folder / "files" / "klines").write_bytes(body)
    (folder / "files").chmod(0o755)
    added = "\n".join(f"add_header {name} '{value}';" for name, value in stated if name in _SHOWN)
    port, file_port = free_port(), free_port()
    more = f"""server {{
    listen 127.0.0.1:{file_port};
    location = /fapi/v1/klines {{ alias {folder}/files/klines; default_type application/json; {added} }}
}}"""
    conf = nginx_conf(folder, port, stage.place.port, more=more, rate=UNLIMITED)
    nginx = stage.programs.start("-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log"), command=(NGINX,))
    await until_answers(stage.programs, port, PATH)
    assert (await answer_of(port, PATH, {}))[2] == (await answer_of(file_port, PATH, {}))[2] == body

    async def ours() -> Measured:
        return await stage.measure(nginx, port, [PATH])

    async def limit() -> Measured:
        return await stage.measure(nginx, file_port, [PATH])

    pairs = await alternating(stage.run.size.rounds, ours, limit)
    nginx.kill()
    add_rates(
        stage, PART, "500 rows, micro-cache", pairs, 0.90, limit_name="nginx with a file", note="load is the bottleneck"
    )


_SHOWN: Final = frozenset({"vary", "cache-control", "x-mbx-used-weight-1m"})  # nginx makes its own ETag for a file
