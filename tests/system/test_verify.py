"""A wrong digit in the database of a running node is found, repaired, kept as a revision, and shown in metrics."""

from contextlib import closing
from pathlib import Path

from app.domain.interval import DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.series import Series
from app.domain.span import Span
from app.events import Event, KlinesMended, KlinesVerified
from app.kinds.klines import KLINES
from infra.sqlite.library import sqlite3
from infra.sqlite.url import sqlite_path
from tests.stored import change
from tests.system.world import START_MS, Watched, world

BTC = Series(KLINES, "BTCUSDT", M1)
FIVES = Series(KLINES, "BTCUSDT", INTERVALS["5m"])
DAY_MS_2 = START_MS // DAY_MS * DAY_MS - 2 * DAY_MS
WRONG_MS = DAY_MS_2 + 7 * 3_600_000 + 3 * MINUTE_MS
WINDOW = f"startTime={WRONG_MS}&endTime={WRONG_MS}&limit=1"

TOKEN = {"authorization": "Bearer secret"}


def is_fives_verified(event: Event) -> bool:
    return isinstance(event, KlinesVerified) and event.interval == "5m"


async def plant(watched: Watched) -> str:
    """Change a digit of a volume in the database without the node's knowledge; return the old volume."""
    series = Series(KLINES, "BTCUSDT", M1)
    row = (await watched.node.parts.reader.read(series, Span(WRONG_MS, WRONG_MS + 1), 1)).rows[0]
    wrong = ("2" if row.volume[0] == "1" else "1") + row.volume[1:]
    change(sqlite_path(watched.node.parts.settings.db_url), series, WRONG_MS, "volume = ?", wrong)
    return str(row.volume)


async def test_one_wrong_digit_is_found_mended_kept_and_shown(tmp_path: Path) -> None:
    async with (
        world(tmp_path, symbols=2) as here,
        here.node(intervals="1m,5m", admin_token="secret") as watched,
    ):
        await watched.until_whole()
        true = await plant(watched)
        async with watched.http() as client:
            served = (await client.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&{WINDOW}")).json()
            assert served[0][5] != true, "the corruption is what is served before it is found"
            body = {"symbols": ["BTCUSDT"], "intervals": ["1m", "5m"], "start": DAY_MS_2, "end": DAY_MS_2 + DAY_MS}
            asked = len(here.requests())
            assert (await client.post("/v1/admin/verify", json=body, headers=TOKEN)).status_code == 202
            if not any(map(is_fives_verified, watched.events)):
                await watched.until(is_fives_verified)
            weights = [entry.weight for entry in here.requests()[asked:]]
            served = (await client.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&{WINDOW}")).json()
            assert served[0][5] == true, "a cached page outlived the repair"
            (audit,) = (await client.get("/v1/verification")).json()["audits"]
            metrics = (await client.get("/metrics")).text
            coverage = (await client.get("/v1/coverage?symbol=BTCUSDT&interval=1m")).json()["series"][0]
        assert (audit["state"], audit["compared"], audit["mismatched"], audit["rows_replaced"]) == ("done", 2, 1, 1)
        assert sum(weights) <= 8, f"a day cost {weights}"
        assert 'klinenode_rows_mended_total{interval="1m"} 1.0' in metrics
        assert (coverage["revisions"], coverage["verified_up_to"]) == (1, DAY_MS_2 + DAY_MS)
        assert [(each["start"], each["end"]) for each in coverage["verified"]] == [(DAY_MS_2, DAY_MS_2 + DAY_MS)]
        assert watched.count(KlinesMended) == 1
        with closing(sqlite3.connect(sqlite_path(watched.node.parts.settings.db_url))) as connection:
            kept = connection.execute("SELECT interval, open_time, new_source FROM revision").fetchall()
        assert ("1m", WRONG_MS, "rest") in kept
        await here.hold_whole(watched)
        assert await here.differing(watched) == []


async def test_the_background_finds_it_too(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=1) as here, here.node(verify_every_days=30, intervals="1m,5m") as watched:
        await watched.until_whole()
        await plant(watched)
        watched.node.parts.holdings.load_checks({}, [], {})  # as after thirty days
        await watched.until(lambda event: isinstance(event, KlinesMended))
        await here.hold_whole(watched)
        assert await here.differing(watched) == []
