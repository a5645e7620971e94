"""The node behaves as its OpenAPI description says, whatever the request."""

import asyncio
import sys
from pathlib import Path

import httpx
import orjson

from app.market.endpoints import ENDPOINTS
from infra.net.tls import trusting_nobody
from tests.http.fakes import OTHERS_MAY_USE_RANDOM, served
from tests.patience import PATIENCE_S
from tests.system.world import world

SEED = 20261121
CASES = 480  # eight for each route with parameters, in each mode
ANSWERED_MIN = 3  # the least number of each required kind of answer
EXCLUDED = "positive_data_acceptance"  # no schema can express which symbols exist and that start is before end


@OTHERS_MAY_USE_RANDOM
async def test_every_route_does_what_the_description_says(tmp_path: Path) -> None:
    from tests.http.schema_cases import ask_by_schema  # here: schemathesis takes each process a second

    counts = await ask_by_schema(tmp_path, CASES, SEED)
    for route in ("GET /fapi/v1/klines", "GET /v1/coverage"):
        assert counts[f"{route} 200"] >= ANSWERED_MIN, counts
        assert counts[f"{route} 400"] >= ANSWERED_MIN, counts
    for endpoint in ENDPOINTS.values():
        assert counts[f"GET {endpoint.path} 200"] or endpoint.path == "/fapi/v1/indexInfo", (endpoint.path, counts)
        needs_something = any(parameter.is_required for parameter in endpoint.parameters)
        assert counts[f"GET {endpoint.path} 400"] or not needs_something, (endpoint.path, counts)
    for route in ("exchangeInfo", "ping", "time"):
        assert counts[f"GET /fapi/v1/{route} 200"], counts
    assert counts["POST /v1/admin/backfill 400"], counts
    assert counts["POST /v1/admin/symbols/refresh 200"], counts
    assert counts["GET /metrics 200"], counts
    for route in (
        "GET /api/v1/status",
        "GET /api/v1/exchanges/{name}/stats",
        "POST /api/v1/exchanges/{name}/subscribe",
    ):
        assert counts[f"{route} 200"], counts


async def test_boundary_values_missing_parameters_and_other_methods(tmp_path: Path) -> None:
    """The coverage phase of schemathesis: deterministic, each boundary of each parameter once."""
    from tests.http.schema_cases import collector_in, with_what_exists

    async with (
        world(tmp_path, symbols=1, weight_limit=1_000_000) as here,
        here.node(
            backfill_days=1, weight_per_minute=100_000, auto_sync_symbols=False, symbols="NEW1120USDT"
        ) as watched,
    ):
        await watched.until_whole()
        watched.node.parts.collector = collector_in(tmp_path)
        async with (
            served(watched.node.app) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=trusting_nobody()) as client,
        ):
            described = (await client.get("/openapi.json")).json()
            document = tmp_path / "openapi.json"
            document.write_bytes(orjson.dumps(with_what_exists(described, cheap_times=False)))
            bearer = f"Authorization: Bearer {watched.node.parts.token_file.token()}"
            process = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).parent / "schemathesis"), "run", str(document), "--url", str(client.base_url),
                "--phases", "coverage", "--checks", "all", "--exclude-checks", EXCLUDED, "--seed", str(SEED),
                "--no-color", "--header", bearer, "--warnings", "off", "--request-timeout", str(PATIENCE_S),
                cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            told, _ = await process.communicate()
    text = told.decode()
    assert process.returncode == 0, text[-6_000:]
    assert "generated" in text
