"""Funding rates: gathered where wished, kept, and answered under the exchange's URL as the exchange answers."""

import random
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
import orjson

from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span
from app.events import RowsCommitted
from app.kinds.funding import FUNDING
from infra.net.tls import trusting_nobody
from infra.sandbox import truth
from infra.sandbox.answers.prices import funding_rates
from infra.sandbox.faults import Fault
from infra.sqlite.library import sqlite3
from tests.cache_time import held_s
from tests.system.world import Watched, World, world

H1: Final = INTERVALS["1h"]
PATH: Final = FUNDING.rest.path
DAYS: Final = 150
SYMBOLS: Final = 50
SEED: Final = 1
YOUNG: Final = "NEW1120USDT"  # listed yesterday
CHANGING: Final = ("MKRUSDT", "SEIUSDT")  # from 8 to 4 hours 103 days ago, and from 4 to 1 hour 142 days ago
DATED: Final = "BTCUSDT_261225"  # a contract without fundings
CLOCKS_MS: Final = 3_000  # how far the node's idea of the exchange's time may be off
HELD: Final = ("BTCUSDT", "ETHUSDT", "币安人生USDT", *CHANGING, YOUNG, DATED)
SETTINGS: Final[dict[str, Any]] = {
    "backfill_days": DAYS,
    "auto_sync_symbols": False,
    "symbols": YOUNG,
    "intervals": "1d",
    "funding": ",".join(HELD),
}


def series_of(symbol: str) -> Series:
    return Series(FUNDING, symbol, H1)


def asked(here: World, begun: int = 0) -> list[dict[str, str]]:
    return [entry.query for entry in here.sandbox.journal.since(begun) if entry.path == PATH]


def theirs(here: World, target: str) -> bytes:
    """The exchange's answer, as it sends it. It would grant only 500 requests while the clock stands still."""
    query = dict(parse_qsl(target.partition("?")[2]))
    return orjson.dumps(funding_rates(here.sandbox.exchange, query, here.clock.now_ms()))


def questions(rng: random.Random, now_ms: int, number: int) -> list[str]:
    """Random questions about the last DAYS days, each in one of the ways in which an answer can be counted."""
    found = []
    for _ in range(number):
        target = f"{PATH}?symbol={rng.choice(HELD)}"
        span_ms = rng.choice((HOUR_MS, 2 * DAY_MS, 40 * DAY_MS, 200 * DAY_MS))
        start_ms = now_ms - rng.randrange(HOUR_MS, (DAYS - 2) * DAY_MS)
        if rng.random() < 0.3:
            start_ms = H1.grid.floor(start_ms) + rng.randrange(-9, 10)
        if rng.random() < 0.7:
            target += f"&startTime={start_ms}"
            limits = ["", "&limit=1", "&limit=1000", f"&limit={rng.randrange(2, 400)}"]
        else:  # the newest of all times: as many as are held for sure
            limits = ["&limit=1", f"&limit={rng.randrange(2, 30)}"]
            start_ms = max(start_ms, now_ms - 100 * DAY_MS)
        if rng.random() < 0.6:
            target += f"&endTime={start_ms + rng.randrange(span_ms)}"
        found.append(target + rng.choice(limits))
    return found


async def test_fundings_are_gathered_kept_and_answered_byte_for_byte(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=SYMBOLS) as here:  # begins at half past
        async with here.node(**SETTINGS) as watched:
            now_ms = await here.hold_whole(watched)
            ledgers = {symbol: watched.node.parts.holdings.ledger(series_of(symbol)) for symbol in HELD}
            for symbol, ledger in ledgers.items():
                due = Span(H1.grid.ceil(now_ms - DAYS * DAY_MS), H1.grid.floor(now_ms - 64_000))
                assert ledger.known.covers(due), symbol
                assert {entry.source for entry in ledger.entries} <= {Source.REST, Source.ABSENT}
            assert ledgers[YOUNG].absent.hull.start_ms == 0
            assert len(asked(here)) <= 5 * len(HELD), "a page has as many events as fit"
            await answers_alike(here, watched)
        begun = here.sandbox.journal.written
        async with here.node(**SETTINGS) as watched, here.node(**SETTINGS) as other:
            await watched.node.parts.clock.until_measured()
            assert (watched.node.parts.role.is_writer, other.node.parts.role.is_writer) == (True, False)
            await answers_alike(here, other)
        again = asked(here, begun)
        assert len(again) <= len(HELD), "the rows survive: only the newest are asked for again"
        with closing(sqlite3.connect(tmp_path / "klinenode.db")) as connection:
            select = "SELECT funding_time, funding_rate, mark_price, rate_type FROM funding_rate WHERE symbol = ?"
            rows = connection.execute(f"{select} ORDER BY funding_time", ("MKRUSDT",)).fetchall()
        expected = truth.fundings(here.sandbox.exchange, "MKRUSDT", rows[0][0], now_ms)
        names = ("fundingTime", "fundingRate", "markPrice", "rateType")
        assert rows == [tuple(row.get(name) for name in names) for row in expected]
        assert {row[3] for row in rows} == {None, "Regular"}


async def answers_alike(here: World, watched: Watched) -> None:
    """The node's answers to 500 random questions, from its store alone, are the exchange's."""
    targets = questions(random.Random(SEED), here.clock.now_ms(), 500)
    rows = 0
    async with watched.http() as client:
        begun = here.sandbox.journal.written
        for target in targets:
            mine = await client.get(target)
            assert (mine.status_code, mine.content) == (200, theirs(here, target)), f"{target}, seed {SEED}"
            rows += len(mine.json())
    passed = [query for query in asked(here, begun) if query.get("limit") != "1000" or "endTime" not in query]
    assert not passed, f"seed {SEED}: everything is held"
    assert rows > 20_000


async def test_an_event_is_served_from_when_it_is_there_and_kept_when_its_hour_is_over(tmp_path: Path) -> None:
    settings = SETTINGS | {"backfill_days": 3, "funding": "SOLUSDT"}  # an event each hour
    async with world(tmp_path, symbols=4) as here, here.node(**settings) as watched:
        hour_ms = H1.grid.ceil(await here.hold_whole(watched))
        target = f"{PATH}?symbol=SOLUSDT&limit=3"
        async with watched.http() as client:
            for at_ms, is_held in (
                (-20 * MINUTE_MS, True),
                (-MINUTE_MS - CLOCKS_MS, True),
                (-MINUTE_MS + CLOCKS_MS, False),
                (-CLOCKS_MS, False),
                (CLOCKS_MS, False),
                (30_000, False),
                (63_001, None),
            ):
                here.clock.move_to(hour_ms + at_ms)
                begun = here.sandbox.journal.written
                mine = await client.get(target)
                assert mine.content == theirs(here, target), at_ms
                passed = [query for query in asked(here, begun) if query == {"symbol": "SOLUSDT", "limit": "3"}]
                assert is_held is None or bool(passed) is not is_held, at_ms
                max_age_s = held_s(mine.headers["cache-control"])
                until_ms = -MINUTE_MS + CLOCKS_MS if is_held else 0
                assert max_age_s * 1_000 <= max(5_000, until_ms - at_ms), f"{at_ms}: not into what is not known"
            series = series_of("SOLUSDT")
            while watched.node.parts.holdings.ledger(series).known.hull.end_ms < hour_ms:
                await watched.until(lambda event: isinstance(event, RowsCommitted) and event.symbol == series.name)
            begun = here.sandbox.journal.written
            assert (await client.get(f"{target}&endTime={hour_ms + 63_001}")).content == theirs(here, target)
            assert not asked(here, begun)


async def test_what_a_client_had_to_ask_the_exchange_for_is_kept(tmp_path: Path) -> None:
    settings = SETTINGS | {"backfill_days": 3, "funding": "BTCUSDT"}
    async with world(tmp_path, symbols=4) as here, here.node(**settings) as watched:
        now_ms = await here.hold_whole(watched)
        window = f"{PATH}?symbol=BTCUSDT&startTime={now_ms - 300 * DAY_MS}&endTime={now_ms - 200 * DAY_MS}"
        inside = f"{PATH}?symbol=btcusdt&startTime={now_ms - 290 * DAY_MS}&endTime={now_ms - 270 * DAY_MS}&limit=90"
        async with watched.http() as client:
            assert (await client.get(window)).content == theirs(here, window)
            begun = here.sandbox.journal.written
            assert (await client.get(inside)).content == theirs(
                here, inside.replace("btc", "BTC").replace("usdt", "USDT")
            )
            assert not asked(here, begun)
            for target in (f"{window}&limit=1001", f"{window}&limit=0", f"{PATH}?symbol=BTCUSDT&startTime=5&endTime=4"):
                async with httpx.AsyncClient(
                    base_url=here.sandbox.base_url, timeout=60, verify=trusting_nobody()
                ) as exchange:
                    mine, said = await client.get(target), await exchange.get(target)
                    assert (mine.status_code, mine.content) == (said.status_code, said.content), target
            for target in (PATH, f"{PATH}?symbol=ETHUSDT", f"{PATH}?startTime={now_ms - DAY_MS}&limit=7"):
                assert (await client.get(target)).content == theirs(here, target), "passed through"
            health = (await client.get("/v1/health")).json()
            assert health["gathered"]["fundingRate"]["held"] == 1
            coverage = (await client.get("/v1/coverage?symbol=BTCUSDT@fundingRate")).json()
            assert [(each["symbol"], each["missing"]) for each in coverage["series"]] == [("BTCUSDT@fundingRate", [])]


async def test_a_failing_exchange_is_asked_again_until_everything_is_held(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here:
        here.sandbox.control.faults.add(Fault(kind="http_5xx", path=PATH, count=3, status=503), here.clock.now_ms())
        async with here.node(**SETTINGS | {"backfill_days": 3, "funding": "all"}) as watched:
            now_ms = await here.hold_whole(watched)
            target = f"{PATH}?symbol={YOUNG}"
            async with watched.http() as client:
                begun = here.sandbox.journal.written
                assert (await client.get(target)).content == theirs(here, target)
                assert not asked(here, begun), f"all that there is of a symbol listed yesterday is held at {now_ms}"
