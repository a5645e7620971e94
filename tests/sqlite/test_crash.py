"""kill -9 at any moment: everything acknowledged is stored, and rows and ledger agree."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.domain.interval import M1
from app.domain.ledger import Source
from app.domain.series import Series
from app.kinds.klines import KLINES
from infra.sqlite.sqlite_store import SqliteReader
from tests.sqlite.material import everything, minutes

SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
ROWS_PER_COMMIT = 300

COMMITTER = """
import asyncio, sys
from app.domain.interval import M1
from app.domain.ledger import Source
from app.domain.series import Series
from app.kinds.klines import KLINES
from infra.sqlite.sqlite_store import SqliteWriter
from tests.sqlite.material import FixedClock, batch, minutes
from tests.sqlite.test_crash import ROWS_PER_COMMIT, SYMBOLS

async def main(url: str, start: int) -> None:
    writer = await SqliteWriter.open(url, FixedClock())
    while True:
        span = minutes((start, start + ROWS_PER_COMMIT))
        await writer.commit([batch(Series(KLINES, symbol, M1), Source.WS, span) for symbol in SYMBOLS])
        start += ROWS_PER_COMMIT
        print(start, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_a_killed_writer_leaves_whole_transactions(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'crash.db'}"
    start = 0
    for acknowledgements in (1, 4, 11):
        acknowledged = _commit_until_killed(url, start, acknowledgements, request.config.rootpath)
        start = await _check(url, acknowledged)


def _commit_until_killed(url: str, start: int, acknowledgements: int, root: Path) -> int:
    """Run a program that commits, and kill it after some acknowledgements; return the last acknowledged minute."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMITTER, url, str(start)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(acknowledgements)]
        process.kill()
        return max(*seen, *map(int, process.stdout.read().split()), 0)


async def _check(url: str, acknowledged: int) -> int:
    reader = SqliteReader(url)
    ends = set()
    for symbol in SYMBOLS:
        snapshot = await reader.read(Series(KLINES, symbol, M1), everything(), 1_000_000)
        assert snapshot.ledger.held == minutes((0, len(snapshot.rows))), "rows and ledger agree"
        assert [entry.source for entry in snapshot.ledger.entries] == [Source.WS]
        ends.add(len(snapshot.rows))
    await reader.close()
    [end] = ends
    assert end in (acknowledged, acknowledged + ROWS_PER_COMMIT), "at most the unacknowledged commit is there too"
    return end
