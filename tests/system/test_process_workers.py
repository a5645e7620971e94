"""Several processes on one database: one writes, all answer, and another takes over when the writer dies."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest

from app.server import WORKER_S_MAX
from infra.net.tls import trusting_nobody
from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Programs, ShiftedClock, database_of, pause, seconds, until
from tests.system.test_process_shared_cache import is_calm

TAKEOVER_S_MAX = 15.0
ASKED = 12  # requests on separate connections, spread over the workers by chance
ASKED_EVERY_S = 0.5  # uvicorn's parent checks this often whether its workers live
PROCESSES = 3  # two workers and their parent; Python's resource tracker is one more


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_one_process_writes_all_answer_and_one_takes_over(tmp_path: Path, store: str) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=44), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"WORKERS": "2"}, server_url=await database_of(store))
        other = Place(programs, sandbox.port, server_url=place.server_url)
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        second = other.serve()
        await until(other.is_whole, "the second instance knows it")
        await until(lambda: both_roles(place), "both workers have answered")
        assert {(await other.health())["role"] for _ in range(ASKED)} == {"reader"}
        pid, url = place.writer()
        assert pid in node.members()
        assert url == f"http://127.0.0.1:{place.port}"

        requests = sandbox.journal.since(0)
        counts = Counter(entry.path for entry in requests)
        assert sum(entry.kind == "connect" for entry in requests) == 1
        assert counts["/fapi/v1/exchangeInfo"] == 1
        klines = Counter(
            json.dumps(entry.query)
            for entry in requests
            if entry.path == "/fapi/v1/klines"
            and entry.query["limit"] != "1"  # a probe for the first kline ever
            and not is_before_the_first(sandbox, entry.query)  # a proof takes two equal answers
        )
        assert [query for query, count in klines.items() if count > 1] == []
        await both_tell_the_truth(place, other, sandbox)

        mark = sandbox.journal.written
        began_s = seconds()
        os.kill(pid, signal.SIGKILL)

        async def another_writes() -> bool:
            new_pid, _ = place.writer()
            return new_pid not in (0, pid) and any(entry.kind == "connect" for entry in sandbox.journal.since(mark))

        await until(another_writes, "another process has taken over", TAKEOVER_S_MAX)
        print(f"MEASURED kill -9 of the writer to the new one's socket: {seconds() - began_s:.2f} s")

        async def parent_replaced_it() -> bool:
            return len(node.members()) >= PROCESSES and pid not in node.members()

        await until(parent_replaced_it, "uvicorn's parent started another worker")
        await both_tell_the_truth(place, other, sandbox)

        minute_ms = sandbox.exchange.clock.now_ms() // 60_000 * 60_000

        async def minute_is_held() -> bool:
            path = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1"
            newest = [(await where.get(path)).json()[0][0] for where in (place, other)]
            return all(open_ms >= minute_ms for open_ms in newest)

        await until(minute_is_held, "the minute of the take-over is served")
        await until(place.is_whole, "there is no gap")
        await both_tell_the_truth(place, other, sandbox)
        await live_klines_cost_no_request(place, other, sandbox)
        assert await place.check_store(sandbox) > 4 * 1440
        assert sum(entry.kind == "connect" for entry in sandbox.journal.since(mark)) == 1

        began_s = seconds()
        node.signal(signal.SIGTERM)
        second.signal(signal.SIGTERM)
        assert (await node.ended(), await second.ended()) == (0, 0)
        print(f"MEASURED shutdown of two workers and a second instance: {seconds() - began_s:.2f} s")


async def test_overrides_of_the_command_line_reach_every_worker(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"WORKERS": "2"})
        node = programs.start("serve", "--port", str(place.port), env={**place.env, "PORT": "1"})
        await until(place.is_whole, "the wish is held")
        assert place.writer()[1] == f"http://127.0.0.1:{place.port}"
        span = ("--start", ago(sandbox, 9), "--end", ago(sandbox, 7))
        status, said = await programs.run("backfill", "--symbol", "BTCUSDT", "--interval", "1h", *span, env=place.env)
        assert (status, "asking it" in said) == (0, True)
        held = {f"{series.symbol}{series.interval}": ledger for series, ledger in (await place.ledgers()).items()}
        hours = held["BTCUSDT1h"].held
        assert hours.span_at(int(ago(sandbox, 8)))
        node.signal(signal.SIGINT, group=True)
        assert await node.ended() == 0
        assert "Traceback" not in node.said()


def ago(sandbox: SandboxServer, days: int) -> str:
    """The midnight `days` days ago, in ms, as text."""
    day_ms = 86_400_000
    return str((sandbox.exchange.clock.now_ms() // day_ms - days) * day_ms)


def is_before_the_first(sandbox: SandboxServer, query: dict[str, str]) -> bool:
    """Whether a page ends before the symbol's first kline."""
    item = sandbox.exchange.universe.find(query["symbol"], sandbox.exchange.clock.now_ms())
    return item is not None and int(query["endTime"]) < item.onboard_ms


async def live_klines_cost_no_request(place: Place, other: Place, sandbox: SandboxServer) -> None:
    """The processes without sockets ask the writer for the kline in progress, and not the exchange."""
    await until(lambda: is_calm(sandbox), "no kline closes in these seconds")
    mark = sandbox.journal.written
    for _ in range(ASKED):
        for where in (place, other):
            [row] = (await where.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1&only_final=false")).json()
            assert row[0] == sandbox.exchange.clock.now_ms() // 60_000 * 60_000
    asked = [str(entry.query) for entry in sandbox.journal.since(mark) if entry.path == "/fapi/v1/klines"]
    assert [query for query in asked if "startTime" not in query] == []


async def both_roles(place: Place) -> bool:
    """Whether several requests on separate connections reached the writer and a reader."""
    return {(await place.health())["role"] for _ in range(ASKED)} == {"writer", "reader"}


async def both_tell_the_truth(place: Place, other: Place, sandbox: SandboxServer) -> None:
    five_ms = 300_000
    closed_ms = (sandbox.exchange.clock.now_ms() - 60_000) // five_ms * five_ms - 1
    for interval in ("1m", "5m"):
        path = f"/fapi/v1/klines?symbol=ETHUSDT&interval={interval}&limit=200&endTime={closed_ms}"
        async with httpx.AsyncClient(trust_env=False, verify=trusting_nobody()) as exchange:
            truth = (await exchange.get(sandbox.base_url + path)).content
        for where in [place] * 6 + [other] * 2:
            assert (await where.get(path)).content == truth


async def test_workers_whose_parent_was_killed_end_and_leave_the_port(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"WORKERS": "2"})
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        began_s = seconds()
        node.signal(signal.SIGKILL)
        assert await node.ended() == -signal.SIGKILL
        print(f"MEASURED kill -9 of the parent to the end of its workers: {seconds() - began_s:.2f} s")
        again = place.serve()
        await until(place.is_whole, "the port is free and the next start holds the wish")
        again.signal(signal.SIGTERM)
        assert await again.ended() == 0


async def test_a_worker_that_dies_while_its_parent_waits_for_its_answer_is_replaced_at_once(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"WORKERS": "2"})
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        pid, _ = place.writer()
        known = set(node.members())
        os.kill(pid, signal.SIGSTOP)
        await pause(ASKED_EVERY_S * 3)
        os.kill(pid, signal.SIGKILL)

        async def replaced() -> bool:
            return bool(set(node.members()) - known)

        await until(replaced, "another worker has been started", WORKER_S_MAX / 2)
        node.signal(signal.SIGTERM)  # during the start: the parent has asked the worker and waits
        assert await node.ended() == 0


def names(folder: Path) -> set[str]:
    """The names of the node's files in a folder."""
    return {each.name for each in folder.glob("klinenode.db*")}


@pytest.mark.parametrize("runtime_dir", [None, "run"])
async def test_what_only_the_writer_does_may_be_asked_of_any_process(tmp_path: Path, runtime_dir: str | None) -> None:
    settings = {} if runtime_dir is None else {"RUNTIME_DIR": str(tmp_path / runtime_dir)}
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place, other = (Place(programs, sandbox.port, settings=settings) for _ in range(2))
        place.serve()
        await until(place.is_whole, "the wish is held")
        other.serve()
        await until(other.is_whole, "the second instance knows it")
        assert (await other.health())["role"] == "reader"
        wish = {"symbols": ["BTCUSDT"], "intervals": ["1h"], "start": int(ago(sandbox, 9)), "end": int(ago(sandbox, 7))}
        async with other.operator() as client:
            assert (await client.post("/v1/admin/backfill", json=wish)).status_code == 202
            assert (await client.post("/v1/admin/verify", json=wish)).json()["audit"] == 1
            audits = (await client.get("/v1/verification")).json()["audits"]
            assert [audit["audit"] for audit in audits] == [1]

        async def is_held() -> bool:
            held = {f"{series.symbol}{series.interval}": ledger for series, ledger in (await place.ledgers()).items()}
            return held["BTCUSDT1h"].held.span_at(int(ago(sandbox, 8))) is not None

        await until(is_held, "the writer has fetched it")
        if runtime_dir is not None:
            assert names(tmp_path) <= {"klinenode.db", "klinenode.db-wal", "klinenode.db-shm", "klinenode.db.lock"}
            endings = {name.rpartition(".")[2] for name in names(tmp_path / runtime_dir)}
            assert endings == {"line", "streams", "time", "token", "weight"}


async def test_the_metrics_of_four_workers_are_those_of_one_server(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"WORKERS": "4"})
        node = place.serve()
        await until(place.is_whole, "the wish is held")
        path = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5&startTime=" + ago(sandbox, 1)

        async def scraped(name: str) -> float:
            lines = [line for line in (await place.get("/metrics")).text.splitlines() if line.startswith(name + " ")]
            assert lines, f"{name} is not there"
            return float(lines[0].rpartition(" ")[2])

        async def answers() -> float:
            return await scraped("klinenode_page_cache_hits") + await scraped("klinenode_page_cache_misses")

        for _ in range(ASKED * 2):
            assert (await place.get(path)).status_code == 200

        async def all_counted() -> bool:
            return await answers() == ASKED * 2

        await until(all_counted, "what every worker has answered is counted")
        wished = await scraped("klinenode_klines_wished")
        assert wished > 0
        assert await scraped("klinenode_is_writer") == 1
        pid, _ = place.writer()
        os.kill(pid, signal.SIGKILL)
        seen = []

        async def replaced() -> bool:
            seen.append(await answers())
            assert await scraped("klinenode_klines_wished") > 0, "the writer's numbers are always there"
            return await scraped("klinenode_is_writer") == 1 and place.writer()[0] not in (0, pid)

        await until(replaced, "another worker writes", TAKEOVER_S_MAX)
        assert seen == sorted(seen), "what grows does not fall"
        assert min(seen) >= ASKED * 2
        node.signal(signal.SIGTERM)
        assert await node.ended() == 0
        assert not [name for name in os.listdir(tmp_path) if ".metrics-" in name], "nothing of it stays"  # noqa: PTH208
