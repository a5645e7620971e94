"""Part 1: answers from the page cache against a bare ASGI application with the same bytes."""

from collections.abc import Mapping
from typing import Final

import httpx

from infra.net.tls import trusting_nobody
from tests.programs.bench.figures import Curve, alternating, compared
from tests.programs.bench.raw import reply_file
from tests.programs.bench.stage import Measured, Stage

PART: Final = "cached"
PATH: Final = "/fapi/v1/klines?symbol=ETHUSDT&interval=1m&limit=500"
_NOT_THE_APPLICATION: Final = ("date", "server")  # headers that uvicorn writes


async def measure(stage: Stage) -> None:
    """Measure a page of 500 rows: uncompressed, with gzip, and as 304."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{stage.place.port}", trust_env=False, verify=trusting_nobody()
    ) as client:
        plain = await client.get(PATH, headers={"Accept-Encoding": "identity"})
    etag = plain.headers["etag"]
    await _line(stage, "500 rows", {}, 0.90)
    await _line(stage, "500 rows, gzip", {"Accept-Encoding": "gzip"}, 0.90)
    await _line(stage, "304", {"If-None-Match": etag}, 0.85)


async def _line(stage: Stage, name: str, headers: Mapping[str, str], floor: float) -> None:
    """Take the node's answer, have a bare application send the same bytes, and load both by turns."""
    status, stated, body = await answer_of(stage.place.port, PATH, headers)
    path = reply_file(stage.run.folder / "reply.json", status, stated, body)
    raw, port = await stage.raw("fixed", path)
    assert await answer_of(port, PATH, headers) == (status, stated, body), "the limit sends something else"

    async def ours() -> Measured:
        return await stage.measure(stage.node, stage.place.port, [PATH], headers=headers)

    async def limit() -> Measured:
        return await stage.measure(raw, port, [PATH], headers=headers)

    pairs = await alternating(stage.run.size.rounds, ours, limit)
    raw.kill()
    add_rates(stage, PART, name, pairs, floor, limit_name="raw ASGI", note=f"{len(body):,} bytes")


def add_rates(
    stage: Stage,
    part: str,
    name: str,
    pairs: list[tuple[Measured, Measured]],
    floor: float | None,
    *,
    limit_name: str,
    note: str = "",
) -> None:
    """Add the figures of answers a second and server time of one answer, and the last round's latency curve."""
    figures = stage.run.figures
    rates = [(mine.outcome.rate, theirs.outcome.rate) for mine, theirs in pairs]
    figures.append(compared(part, name, "answers/s", rates, floor=floor, note=f"against {limit_name}; {note}"))
    costs = [(mine.cpu_us, theirs.cpu_us) for mine, theirs in pairs]
    figures.append(compared(part, f"{name}: CPU", "µs/answer", costs, is_cost=True, note="the server's processes"))
    mine, theirs = pairs[-1]
    stage.run.curves.append(Curve(f"{part}: {name}", "klinenode", mine.outcome.ms))
    stage.run.curves.append(Curve(f"{part}: {name}", limit_name, theirs.outcome.ms))


async def answer_of(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body as received, without the headers that uvicorn adds."""
    async with httpx.AsyncClient(trust_env=False, verify=trusting_nobody()) as client:
        request = client.build_request(
            "GET", f"http://127.0.0.1:{port}{path}", headers={"Accept-Encoding": "identity", **headers}
        )
        answer = await client.send(request, stream=True)
        body = b"".join([piece async for piece in answer.aiter_raw()])
    stated = [(name, value) for name, value in answer.headers.multi_items() if name not in _NOT_THE_APPLICATION]
    return answer.status_code, stated, body
