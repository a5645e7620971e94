"""The node against its own OpenAPI description: schemathesis sends valid and invalid requests to every route."""

import asyncio
import copy
from collections import Counter
from pathlib import Path
from typing import Any, Final

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from app.collecting.collector import Collector
from app.domain.interval import DAY_MS
from tests.collecting.control import Stage
from tests.http.fakes import served
from tests.patience import PATIENCE_S
from tests.system.world import START_MS, world

SYMBOLS: Final = (
    "NEW1121USDT",
    "NEW1120USDT",
    "NEW1119USDT",
    "new1118usdt",
)  # young symbols, so that all their klines are cheap
HELD: Final = "NEW1120USDT"
"""The symbol that the node holds, for the routes that answer from held klines alone."""
COLLECTED: Final = {"symbols": ["BTC-USDT", "ETH-USDT"], "data_types": ["trade", "orderbook", "kline.1m"]}
"""What the collector's exchange has in each market that the description is restricted to."""
UNLISTED: Final = {"/fapi/v1/assetIndex": ("BTCUSD", "ethusd")}
REACHING_BACK: Final = ("/fapi/v1/aggTrades", "/futures/data/")  # they serve recent times only and refuse older ones
EXAMPLES_MIN: Final = 4
TOO_LARGE: Final = frozenset({413, 414, 431})
ROUND: Final = 4_000  # questions per world: time stands still in it, so one minute's weight must suffice for all


class Contradiction(AssertionError):
    """The node's behaviour contradicts its OpenAPI description."""


async def ask_by_schema(folder: Path, cases: int, seed: int) -> Counter[str]:
    """Send `cases` requests spread over all routes; return the number of answers by route and status."""
    counts: Counter[str] = Counter()
    for number in range(-(-cases // ROUND)):
        here = folder / str(number)
        await asyncio.to_thread(here.mkdir)
        counts += await _ask_round(here, min(ROUND, cases - number * ROUND), seed + number)
    return counts


async def _ask_round(folder: Path, cases: int, seed: int) -> Counter[str]:
    async with (
        world(folder, symbols=1, weight_limit=10_000_000) as here,
        here.node(
            backfill_days=1, weight_per_minute=100_000, auto_sync_symbols=False, symbols="NEW1120USDT"
        ) as watched,
    ):
        await here.hold_whole(watched)
        watched.node.parts.collector = collector_in(folder)
        async with served(watched.node.app) as port:
            return await asyncio.to_thread(
                _ask_all, f"http://127.0.0.1:{port}", watched.node.parts.token_file.token(), cases, seed
            )


def collector_in(folder: Path) -> Collector:
    """A collector whose wish is kept in `folder`, and which follows nothing of any exchange."""
    return Stage(folder).collector


def _ask_all(url: str, token: str, cases: int, seed: int) -> Counter[str]:
    """Send valid and invalid requests to every route; a route without parameters gets only a few."""
    document = requests.get(f"{url}/openapi.json", timeout=PATIENCE_S).json()
    kinds: list[tuple[APIOperation[Any, Any, Any, Any], GenerationMode]] = []
    for mode in GenerationMode:  # valid requests must be cheap to answer; invalid ones must break the real bounds
        known = with_what_exists(copy.deepcopy(document), cheap_times=mode is GenerationMode.POSITIVE)
        for result in schemathesis.openapi.from_dict(known).get_all_operations():
            assert isinstance(result, Ok), f"the description is wrong: {result}"
            operation = result.ok()
            if mode is GenerationMode.POSITIVE or _takes_something(operation):
                kinds.append((operation, mode))
    share = cases // sum(_takes_something(operation) for operation, _ in kinds)
    counts: Counter[str] = Counter()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        for operation, mode in kinds:
            examples = max(EXAMPLES_MIN, share) if _takes_something(operation) else EXAMPLES_MIN
            _ask(operation, mode, url, session, examples, seed, counts)
    return counts


def _ask(
    operation: "APIOperation[Any, Any, Any, Any]",
    mode: GenerationMode,
    url: str,
    session: requests.Session,
    examples: int,
    seed: int,
    counts: Counter[str],
) -> None:
    @seeded(seed)
    @settings(
        max_examples=examples,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=url, session=session, timeout=PATIENCE_S)
        counts[f"{case.method} {case.path} {response.status_code}"] += 1
        excluded: list[CheckFunction] = [positive_data_acceptance] if _is_out_of_order(case) else []
        if response.status_code in TOO_LARGE:
            excluded.append(negative_data_rejection)  # it was rejected, but with a status that the check does not list
        if response.status_code == 503 and case.path == "/v1/export":
            excluded.append(not_a_server_error)  # rows that nobody has fetched
        try:
            case.validate_response(response, excluded_checks=excluded)
        except FailureGroup as failures:
            told = "; ".join(f"{type(each).__name__}: {each}" for each in failures.exceptions)
            raise Contradiction(f"seed {seed}, {mode} {case.as_curl_command()}: {told:.1000}") from failures

    ask()


def _takes_something(operation: "APIOperation[Any, Any, Any, Any]") -> bool:
    raw = operation.definition.raw
    return bool(raw.get("parameters") or raw.get("requestBody"))


def with_what_exists(document: dict[str, Any], *, cheap_times: bool) -> dict[str, Any]:
    """Restrict the description's symbols to listed ones and, if asked, its times to those cheap to backfill."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            parameters = operation.get("parameters", [])
            parameters[:] = [each for each in parameters if each["name"] != "as_of"]  # nothing is recorded of then
            for parameter in parameters:
                if parameter["name"] in ("symbol", "pair"):
                    names = [HELD] if path.startswith("/v1/klines/") else UNLISTED.get(path, SYMBOLS)
                    parameter["schema"] = {"type": "string", "enum": list(names)}
                elif parameter["name"] == "symbols":
                    every = ["all"] if path == "/v1/klines/batch" else []
                    parameter["schema"] = {"type": "string", "enum": [*every, HELD, f"{HELD},{SYMBOLS[0]}"]}
                elif path.startswith("/v1/klines/") and parameter["name"] == "interval":
                    parameter["schema"] = {"type": "string", "enum": ["1m", "1h"]}
                elif parameter["name"] == "contractType":
                    parameter["schema"] = {"type": "string", "enum": ["PERPETUAL"]}
                elif parameter["in"] == "path" and parameter["name"] == "name":
                    parameter["schema"] = {"type": "string", "enum": ["okx"]}
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["schema"]
                if path.startswith("/api/"):
                    for name, known in COLLECTED.items():
                        body["properties"][name]["items"]["enum"] = known
                    body["properties"]["market"]["enum"] = ["swap", "spot", None]
                    continue
                body["properties"]["symbols"]["items"]["enum"] = list(SYMBOLS)
                for name in ("start", "end") if cheap_times else ():
                    moment = body["properties"][name]["anyOf"][0]
                    moment["minimum"], moment["maximum"] = START_MS - 2 * DAY_MS, START_MS
    return document


def _is_out_of_order(case: schemathesis.Case[Any]) -> bool:
    """Whether a request is refused for what no schema can express: its symbol, or times out of order or too old."""
    if case.path == "/v1/export":
        return True  # whether rows are due, how many, and whether the format has them
    if case.path.startswith("/v1/admin/"):
        body: Any = case.body
        times = [body.get(name) for name in ("start", "end")] if isinstance(body, dict) else []
        return not all(isinstance(time, int) for time in times) or times[:1] >= times[1:]
    query = case.query or {}
    start, end = query.get("startTime"), query.get("endTime")
    if case.path == "/fapi/v1/indexInfo" and query:
        return True  # a world this small has no composite index
    if case.path == "/v1/klines/rolling":
        return True  # its window may be too long, or shorter than its step
    if case.path == "/v1/bars":
        return True  # its span may have too many klines
    if case.path.startswith(REACHING_BACK) and not {"startTime", "endTime", "fromId"}.isdisjoint(query):
        return True
    return isinstance(start, int) and isinstance(end, int) and start > end
