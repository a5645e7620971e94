"""Metrics: gathered where wished, kept, and answered under the exchange's URLs as the exchange answers."""

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.metrics import METRICS
from app.node.writer import Writer
from infra.net.tls import trusting_nobody
from infra.sandbox import truth as truth_of
from infra.sandbox.faults import Fault
from infra.sqlite.library import sqlite3
from tests.cache_time import held_s
from tests.system.world import Watched, World, world

YOUNG = "NEW1120USDT"  # listed yesterday: what there is of it is gathered in a few requests
M5: Final = INTERVALS["5m"]
SETTINGS: Final[dict[str, Any]] = {
    "backfill_days": 2,
    "auto_sync_symbols": False,
    "symbols": YOUNG,
    "intervals": "1m",
    "metrics": YOUNG,
}


def series_held() -> Iterator[Series]:
    for kind in METRICS.values():
        yield Series(kind, YOUNG, M5)


def requests(here: World) -> list[dict[str, str]]:
    paths = {kind.rest.path for kind in METRICS.values()}
    return [entry.query for entry in here.sandbox.journal.since(0) if entry.path in paths]


async def truth(here: World, series: Series, start_ms: int, end_ms: int) -> bytes:
    """The exchange's rows of at most a page, as it prints them."""
    stamp_ms = series.kind.rest.stamp_ms
    query = (
        f"symbol={series.symbol}&period=5m&limit=500&startTime={start_ms + stamp_ms}&endTime={end_ms - 1 + stamp_ms}"
    )
    async with httpx.AsyncClient(base_url=here.sandbox.base_url, timeout=60, verify=trusting_nobody()) as exchange:
        return (await exchange.get(f"{series.kind.rest.path}?{query}")).content


async def everything_held_is_the_exchanges(here: World, watched: Watched) -> None:
    node, now_ms = watched.node, here.clock.now_ms()
    wish = node.parts.wish()
    for series in series_held():
        (span,) = wish.spans(series, M5.grid, now_ms)
        ledger = node.parts.holdings.ledger(series)
        assert ledger.known.covers(span), f"{series} {ledger.known} {span}"
        assert {entry.source for entry in ledger.entries} <= {Source.REST, Source.ABSENT}
        held = 0
        for start_ms in range(span.start_ms, span.end_ms, 500 * M5.grid.step_ms):
            end_ms = min(span.end_ms, start_ms + 500 * M5.grid.step_ms)
            found, body = await node.parts.reader.read_encoded(series, Span(start_ms, end_ms), 500)
            assert series.kind.finished(body, YOUNG) == await truth(here, series, start_ms, end_ms), f"{series}"
            held += found
        assert held > 12, f"{series}: listed yesterday, so there are some hours of it"


async def served_alike(here: World, client: httpx.AsyncClient, targets: list[str]) -> None:
    async with httpx.AsyncClient(base_url=here.sandbox.base_url, timeout=60, verify=trusting_nobody()) as exchange:
        for each in targets:
            mine, theirs = await client.get(each), await exchange.get(each)
            assert (mine.status_code, mine.content) == (theirs.status_code, theirs.content), each


def max_age_s(answer: httpx.Response) -> int:
    return held_s(answer.headers["cache-control"])


async def test_metrics_are_gathered_kept_and_answered_byte_for_byte(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here, here.node(**SETTINGS) as watched:
        now_ms = await here.hold_whole(watched)
        await everything_held_is_the_exchanges(here, watched)
        rng = random.Random(7)
        asked = len(requests(here))
        targets = []
        for kind in METRICS.values():
            path = f"{kind.rest.path}?symbol={YOUNG}&period=5m"
            newest_ms = M5.grid.floor(now_ms)
            targets += [f"{path}&endTime={newest_ms - 6 * MINUTE_MS}", f"{path}&endTime={newest_ms - HOUR_MS}&limit=1"]
            for _ in range(20):
                start_ms = now_ms - rng.randrange(HOUR_MS, 20 * HOUR_MS)
                end_ms = min(newest_ms - 6 * MINUTE_MS, start_ms + rng.randrange(20 * HOUR_MS))
                limit = rng.choice(("", "&limit=1", "&limit=500", f"&limit={rng.randrange(2, 200)}"))
                targets.append(f"{path}&startTime={start_ms}&endTime={end_ms}{limit}")
        async with watched.http() as client:
            begun = here.sandbox.journal.written
            first = await client.get(targets[0])
            paths = {entry.path for entry in here.sandbox.journal.since(begun) if "startTime" not in entry.query}
            assert not paths & {kind.rest.path for kind in METRICS.values()}, "it is held"
            etag = {"If-None-Match": first.headers["etag"]}
            assert (await client.get(targets[0], headers=etag)).status_code == 304
            await served_alike(here, client, targets)
            wrong = [f"{kind.rest.path}?symbol={YOUNG}" for kind in METRICS.values()]
            wrong += [f"{each}&period=7m" for each in wrong] + [f"{each}&period=5m&limit=501" for each in wrong]
            await served_alike(here, client, wrong)
        mine = [
            query for query in requests(here)[asked:] if query.get("period") == "5m" and query.get("limit") != "501"
        ]
        assert len(mine) == len(targets), "the exchange was asked by this test alone"
        with closing(sqlite3.connect(tmp_path / "klinenode.db")) as connection:
            select = "SELECT count(*), count(sum_open_interest), count(buy_vol) FROM futures_metrics_5m"
            counts = connection.execute(f"{select} WHERE symbol = '{YOUNG}'").fetchone()
        assert min(counts) > 12


async def test_the_newest_row_is_asked_for_until_it_is_held_and_then_kept(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here, here.node(**SETTINGS) as watched:
        await here.hold_whole(watched)
        series = next(series_held())
        here.clock.move_to(M5.grid.floor(here.clock.now_ms()) + 5 * MINUTE_MS + 4_000)
        target = f"{series.kind.rest.path}?symbol={YOUNG}&period=5m&limit=3"
        async with watched.http() as client:
            await served_alike(here, client, [target])
            assert max_age_s(await client.get(target)) <= 15, "a later row may join it"
            held = watched.node.parts.holdings.ledger(series).held
            assert held.hull.end_ms == M5.grid.floor(here.clock.now_ms()), "the answer's rows were kept"
            here.clock.move_to(here.clock.now_ms() + 30_000)
            begun = here.sandbox.journal.written
            mine = (await client.get(target)).json()
            asked = [entry.query for entry in here.sandbox.journal.since(begun) if entry.path == series.kind.rest.path]
            assert not [query for query in asked if "startTime" not in query], "the client's question is answered here"
        assert mine[-1]["timestamp"] == M5.grid.floor(here.clock.now_ms())
        assert mine[-1]["symbol"] == YOUNG


async def test_rows_are_kept_beyond_the_exchanges_reach_unless_retention_is_strict(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here:
        async with here.node(**SETTINGS) as watched:
            now_ms = await here.hold_whole(watched)
        here.clock.move_to(now_ms + 40 * DAY_MS)
        window = f"&startTime={now_ms - 5 * HOUR_MS}&endTime={now_ms - HOUR_MS}&limit=10"
        for is_strict in (False, True):
            async with here.node(**SETTINGS, strict_retention=is_strict) as watched, watched.http() as client:
                await watched.node.parts.clock.until_measured()
                for series in series_held():
                    path = f"{series.kind.rest.path}?symbol={YOUNG}&period=5m"
                    await served_alike(here, client, [f"{path}&endTime=0", f"{path}&endTime=1&limit=1"])
                    until = f"{path}&endTime={now_ms - HOUR_MS}&limit=10"
                    answer = await client.get(f"{path}{window}")
                    if is_strict:
                        await served_alike(here, client, [until])
                        assert (answer.status_code, answer.json()["code"]) == (400, -1130)
                        assert answer.content.startswith(b'{"msg":')
                        continue
                    assert answer.status_code == 200, answer.text
                    assert (await client.get(until)).content == answer.content
                    stamps = [row["timestamp"] for row in answer.json()]
                    last_ms = M5.grid.floor(now_ms - HOUR_MS)
                    assert stamps == list(range(last_ms - 9 * 5 * MINUTE_MS, last_ms + 1, 5 * MINUTE_MS))


def archived(here: World, series: Series, opens_ms: range) -> list[Any]:
    """Rows as the archive has them."""
    places = {name: place for place, name in enumerate(METRICS, start=4)}  # of the value, or the second of two
    places["takerlongshortRatio"] = 8
    rows = truth_of.archived_metrics(here.sandbox.exchange, "BTCUSDT", opens_ms.start, opens_ms.stop)
    texts = [[str(field) for field in row] for row in rows]
    if series.kind.name == "openInterestHist":
        return [series.kind.row(at, row[3], row[4], None) for at, row in zip(opens_ms, texts, strict=True)]
    place = places[series.kind.name]
    return [series.kind.row(at, row[place], None, None) for at, row in zip(opens_ms, texts, strict=True)]


async def test_rows_from_the_archive_are_answered_in_rests_form_by_the_writer_and_by_others(tmp_path: Path) -> None:
    settings = SETTINGS | {"symbols": "BTCUSDT", "metrics": "BTCUSDT"}
    async with world(tmp_path, symbols=2) as here, here.node(**settings) as watched:
        now_ms = await here.hold_whole(watched)
        parts, learned, begins_ms = watched.node.parts, {}, {}
        assert isinstance(parts.role, Writer)
        for kind in METRICS.values():
            series = Series(kind, "BTCUSDT", M5)
            [held] = [each.span for each in parts.holdings.ledger(series).entries if each.source is Source.REST]
            begins_ms[kind] = begin_ms = held.start_ms - 50 * MINUTE_MS  # the exchange still has them
            rows = archived(here, series, range(begin_ms, held.end_ms, 5 * MINUTE_MS))
            before = Batch(series, Source.ARCHIVE, Spans([Span(begin_ms, held.start_ms)]), rows[:10])
            [committed] = await parts.role.store.commit([before])
            parts.holdings.set_ledger(series, committed.ledger)
            learned[kind] = rows[10:], (await parts.reader.read(series, held, 10_000)).rows
        overlap = {kind: both[0] for kind, both in learned.items()}, {kind: both[1] for kind, both in learned.items()}
        found = await parts.role.joining.check("BTCUSDT", *overlap)
        assert (found.mismatches, found.is_changed) == (0, True)
        async with here.node(**settings) as other, watched.http() as client, other.http() as follower:
            assert not other.node.parts.role.is_writer
            for kind in METRICS.values():
                series = Series(kind, "BTCUSDT", M5)
                begin_ms = begins_ms[kind]
                end_ms = begin_ms + 25 * 5 * MINUTE_MS
                target = f"{kind.rest.path}?symbol=BTCUSDT&period=5m&endTime={end_ms}&limit=25"
                expected = orjson.loads(
                    await truth(here, Series(kind, "BTCUSDT", M5), end_ms - 125 * MINUTE_MS, end_ms)
                )
                for row in expected[:10]:
                    row.update({name: "" for name in ("CMCCirculatingSupply", "sellVol", "buyVol") if name in row})
                for asked in (client, follower):
                    answer = await asked.get(target)
                    assert answer.content == orjson.dumps(expected)
                    first_ms = expected[0]["timestamp"]
                    assert answer.headers["x-archive-rows"] == f"10; {first_ms}-{first_ms + 45 * MINUTE_MS}"
                report = (await follower.get(f"/v1/coverage?symbol=BTCUSDT@{kind.suffix}")).json()["series"][0]
                assert report["digits"]["mismatches"] == []
                assert {each["verdict"] for each in report["digits"]["columns"].values()} <= {"decided", "undecided"}
                assert all(each["pairs"] > 100 and each["rule"] for each in report["digits"]["columns"].values())
        assert now_ms == here.clock.now_ms()


async def test_metrics_that_nobody_wishes_are_passed_through(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here, here.node(**SETTINGS | {"metrics": "none"}) as watched:
        await here.hold_whole(watched)
        assert not requests(here)
        async with watched.http() as client:
            await served_alike(
                here, client, [f"{kind.rest.path}?symbol=BTCUSDT&period=5m" for kind in METRICS.values()]
            )
        assert not any(series.kind in METRICS.values() for series in watched.node.parts.holdings.all())


async def test_endpoints_with_a_limit_each_are_gathered_side_by_side(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here, here.node(**SETTINGS, data_bucket="endpoint") as watched:
        await here.hold_whole(watched)
        await everything_held_is_the_exchanges(here, watched)
        tasks = {name for name in watched.node.parts.supervisor.states if name.startswith("gather-")}
        assert len(tasks - {"gather-funding"}) == len(METRICS)


async def test_a_failing_exchange_is_asked_again_until_everything_is_held(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here:
        for kind in METRICS.values():
            fault = Fault(kind="http_5xx", path=kind.rest.path, count=3, status=503)
            here.sandbox.control.faults.add(fault, here.clock.now_ms())
        async with here.node(**SETTINGS) as watched:
            await here.hold_whole(watched)
            await everything_held_is_the_exchanges(here, watched)


def test_rows_are_what_the_exchange_prints() -> None:
    for series in series_held():
        row = series.kind.row(0, *("1.5000", None, "3")[: len(series.kind.columns) - 1])
        said = orjson.loads(series.kind.finished(series.kind.encode(row, 299_999), YOUNG))
        assert said["timestamp"] == 300_000
        assert "" in said.values(), "a value that nobody knows is empty, never 0"
