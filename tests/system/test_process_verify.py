"""`klinenode verify`, alone and through a running node."""

from pathlib import Path

from app.domain.interval import M1
from app.domain.series import Series
from app.kinds.klines import KLINES
from app.node.stores import store_of
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.stored import change
from tests.system.processes import Place, Programs, until
from tests.system.test_process_operate import days, midnight


def corrupt(place: Place, symbol: str, open_ms: int, how: str = "volume = volume || '1'") -> None:
    database = Path(place.db_url.removeprefix("sqlite:///"))
    change(database, Series(KLINES, symbol, M1), open_ms, how)


async def test_verify_alone_finds_and_mends_and_then_finds_nothing(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        one = ("--symbol", "BTCUSDT", "--interval", "1m", *days(3, 1))
        assert (await programs.run("backfill", *one, env=place.env))[0] == 0
        status, said = await programs.run("verify", *one, env=place.env)
        assert (status, "2/2" in said) == (0, True)
        corrupt(place, "BTCUSDT", midnight(2))
        status, said = await programs.run("verify", *one, env=place.env)
        assert (status, "1 rows replaced" in said, "Traceback" in said) == (1, True, False)
        corrupt(place, "BTCUSDT", midnight(2) + 60_000, "close = CASE WHEN close = low THEN high ELSE low END")
        assert (await programs.run("verify", *one, env=place.env))[0] == 0, "a close inside a day changes no sum"
        status, said = await programs.run("verify", "--rows", "--json", *one, env=place.env)
        assert (status, '"rows_replaced": 1' in said, '"rows": true' in said) == (1, True, True), said
        assert await place.check_store(sandbox)


async def test_verify_of_less_than_a_day_compares_it_or_fails(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        one = ("--symbol", "BTCUSDT", "--interval", "1m")
        hour = ("--start", str(midnight(2)), "--end", str(midnight(2) + 3_600_000))
        await store_of(place.db_url).prepare(place.db_url)
        status, said = await programs.run("verify", *one, *hour, env=place.env)
        assert (status, "nothing was compared: not held" in said) == (2, True)
        assert (await programs.run("backfill", *one, *days(2, 1), env=place.env))[0] == 0
        corrupt(place, "BTCUSDT", midnight(2) + 60_000)
        status, said = await programs.run("verify", *one, *hour, env=place.env)
        assert (status, "1m: 1 replaced" in said) == (1, True)
        assert (await programs.run("verify", *one, *hour, env=place.env))[0] == 0
        status, said = await programs.run("verify", *one, *days(3, 1), env=place.env)
        assert (status, "not compared: BTCUSDT 1m from" in said) == (0, True)
        assert await place.check_store(sandbox)


async def test_verify_goes_through_the_node_that_writes(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"BACKFILL_DAYS": "3", "VERIFY_EVERY_DAYS": "0"})
        place.serve()
        await until(place.is_whole, "the wish is held")
        corrupt(place, "ETHUSDT", midnight(2) + 60_000)  # yesterday is not yet final in the first minutes of a day
        status, said = await programs.run("verify", *days(3, 0), env=place.env)
        assert (status, f"http://127.0.0.1:{place.port}" in said, "ETHUSDT 1m day" in said) == (1, True, True)
        status, said = await programs.run("verify", "--rows", *days(3, 2), env=place.env)
        assert (status, "ETHUSDT" in said) == (0, False), said
        await until(place.is_whole, "the roll-ups are made anew")
        assert await place.check_store(sandbox)


async def test_verify_says_what_is_wrong_and_ends(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        place = Place(programs, 1)
        await store_of(place.db_url).prepare(place.db_url)
        status, said = await programs.run("verify", *days(2, 1), env=place.env)
        assert (status, "cannot be reached" in said, "Traceback" in said) == (2, True, False)
