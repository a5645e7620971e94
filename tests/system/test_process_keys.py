"""A node with API keys, as real processes: quotas over workers, a file that changes, and no key in any output."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Program, Programs, until

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5"
QUOTA = 40
WORKERS = 2
MINUTE_MS = 60_000
ROOM_MS = 25_000  # of a minute that must be left before its requests are counted


async def new_key(programs: Programs, name: str, quota: int) -> tuple[str, str]:
    """A key and its line, as the command prints them."""
    program = programs.start("key", "new", name, "--per-minute", str(quota))
    assert await program.ended(60.0) == 0
    key, line = program.out.read_text().splitlines()
    program.out.write_text("")  # what a node says is searched for keys; this is where one is said
    return key, line


async def start_of_a_minute() -> None:
    clock = SystemClock()
    if (left_ms := MINUTE_MS - clock.now_ms() % MINUTE_MS) < ROOM_MS:
        await clock.sleep(left_ms / 1000 + 0.2)


async def statuses(place: Place, key: str, times: int) -> Counter[int]:
    """Each request has a connection of its own, so that any worker may answer it."""
    found: Counter[int] = Counter()
    async with place.http(**{"X-MBX-APIKEY": key}) as client:
        for _ in range(times):
            found[(await client.get(KLINES)).status_code] += 1
    return found


async def test_keys_are_counted_over_workers_revoked_at_once_and_never_said(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        alice, alice_line = await new_key(programs, "alice", QUOTA)
        bob, bob_line = await new_key(programs, "bob", 1_000_000)
        wrong = "w" * 64
        file = tmp_path / "keys"
        file.write_text(f"# keys\n{alice_line}\n{bob_line}\n")
        settings = {"API_KEYS_FILE": str(file), "WORKERS": str(WORKERS), "LOG_LEVEL": "DEBUG"}
        place = Place(programs, sandbox.port, settings=settings)
        node = place.serve()

        async def is_ready() -> bool:
            return (await place.get("/v1/ready")).status_code == 200

        await until(is_ready, "ready, which needs no key")
        assert (await place.get(KLINES)).json() == {"code": -2014, "msg": "API-key format invalid."}
        assert await statuses(place, wrong, 3) == {401: 3}

        await start_of_a_minute()
        found = await statuses(place, alice, QUOTA + 20)
        print(f"MEASURED {found[200]} of a quota of {QUOTA} over {WORKERS} workers")
        assert QUOTA <= found[200] < QUOTA + WORKERS, found
        assert found[429] == QUOTA + 20 - found[200]

        headers = {"Authorization": f"Bearer {bob}"}
        url = f"ws://127.0.0.1:{place.port}/ws/btcusdt@markPrice@1s"
        async with connect(url, proxy=None, additional_headers=headers) as socket:
            file.write_text(f"{alice_line}\nbob\n")
            await until(lambda: event_in(node, "ApiKeysRefused"), "the bad line was noticed")
            assert await statuses(place, bob, 5) == {200: 5}, "the former keys stay"
            notes = [(await place.health())["notes"] for _ in range(10)]
            assert any("line 2 has 1 words" in note for each in notes for note in each)
            file.write_text(f"{alice_line}\n")

            async def is_revoked() -> bool:
                return await statuses(place, bob, 6) == {401: 6}

            await until(is_revoked, "bob's key is refused by every worker")
            async with asyncio.timeout(20):
                await socket.wait_closed()
            assert socket.close_code == 1008
        with pytest.raises(InvalidStatus):
            await connect(url, proxy=None, additional_headers=headers)
        metrics = (await place.get("/metrics")).text
        assert 'klinenode_api_key_requests_total{key="alice"}' in metrics
        assert 'klinenode_api_key_refusals_total{reason="unknown"}' in metrics

        code, said = await programs.run("gaps", env={**place.env, "BACKFILL_DAYS": "1"})
        assert code in (0, 1), said
        async with place.operator() as operator:
            assert (await operator.get("/v1/coverage")).status_code == 200
        node.process.terminate()
        await node.ended()
        everything = metrics + node.said() + said
        for secret in (alice, bob, wrong):
            assert secret not in everything, "a key was said"
            assert holders_of(secret, tmp_path) == [], "a key was kept"


def holders_of(secret: str, folder: Path) -> list[str]:
    """The files in a folder that have the secret in them."""
    return [each.name for each in folder.iterdir() if each.is_file() and secret.encode() in each.read_bytes()]


async def event_in(node: Program, name: str) -> bool:
    return bool(node.events(name))


async def test_a_node_whose_keys_cannot_be_read_does_not_start(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        place = Place(programs, 1, settings={"API_KEYS_FILE": str(tmp_path / "keys")})
        for content, reason in ((None, "cannot be read"), ("alice\n", "line 1 has 1 words")):
            if content is not None:
                (tmp_path / "keys").write_text(content)
            node = place.serve()
            assert await node.ended(60.0) == 2
            assert reason in node.said()
            with pytest.raises(httpx.ConnectError):
                await place.get("/v1/health")
