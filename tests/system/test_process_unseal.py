"""`klinenode unseal`: blocks become plain rows again."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from app.domain.interval import M1
from app.domain.series import Series
from app.kinds.klines import KLINES
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from infra.sqlite.library import sqlite3
from tests.stores.databases import SqliteDatabase
from tests.system.processes import Place, Programs, until
from tests.system.test_process_operate import days


@contextmanager
def opened(place: Place) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(place.db_url.removeprefix("sqlite:///"), timeout=10)) as connection:
        yield connection


def counts(place: Place) -> tuple[int, int]:
    """How many minutes are in blocks, and how many are plain rows."""
    with opened(place) as connection:
        [sealed] = connection.execute("SELECT coalesce(sum(rows), 0) FROM block WHERE interval = '1m'").fetchone()
        [plain] = connection.execute("SELECT count(*) FROM kline_1m").fetchone()
    return sealed, plain


async def test_unseal_brings_plain_rows_back_and_says_what_is_in_its_way(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        never = place.env | {"SEAL_AFTER_DAYS": "0"}
        one = ("--symbol", "BTCUSDT", "--interval", "1m", *days(4, 2))
        assert (await programs.run("backfill", *one, env=place.env))[0] == 0
        assert counts(place) == (2 * 1440, 0)

        status, said = await programs.run("unseal", env=place.env)
        assert (status, "SEAL_AFTER_DAYS" in said, "Traceback" in said) == (2, True, False)
        assert counts(place) == (2 * 1440, 0)

        node = place.serve()
        await until(place.is_up, "the node is up")
        status, said = await programs.run("unseal", env=never)
        assert (status, "stop it first" in said, "Traceback" in said) == (2, True, False)
        node.signal(signal.SIGTERM)
        assert await node.ended() == 0

        status, said = await programs.run("unseal", env=never)
        assert (status, "Traceback" in said) == (0, False)
        sealed, plain = counts(place)
        assert (sealed, plain >= 2 * 1440) == (0, True)
        with opened(place) as connection:
            assert connection.execute("SELECT count(*) FROM block").fetchone() == (0,)
        assert await place.check_store(sandbox)
        assert (await programs.run("unseal", env=never))[0] == 0, "nothing is left to do"


async def test_unseal_deletes_a_damaged_block_and_goes_on(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        one = ("--symbol", "BTCUSDT", "--interval", "1m", *days(4, 2))
        assert (await programs.run("backfill", *one, env=place.env))[0] == 0
        database, series = SqliteDatabase(Path(place.db_url.removeprefix("sqlite:///"))), Series(KLINES, "BTCUSDT", M1)
        [first, _] = database.blocks(series)
        database.damage(series, first[0], "flipped")

        status, said = await programs.run("unseal", env=place.env | {"SEAL_AFTER_DAYS": "0"})
        assert (status, "1 damaged" in said, "Traceback" in said) == (0, True, False)
        assert counts(place) == (0, 1440)
        assert database.blocks(series) == []
        with opened(place) as connection:
            select = "SELECT sum(end_ms - start_ms) / 60000 FROM ledger WHERE source <> 'absent' AND interval = '1m'"
            assert connection.execute(select).fetchone() == (1440,)
