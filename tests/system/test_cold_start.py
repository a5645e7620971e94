"""From an empty database to the whole wish: all rows are the exchange's, by few requests and within the weight."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson

from app.domain.ledger import Source
from app.events import Event, RowsCommitted
from app.querying.answer import LIMIT_MAX
from tests.system.world import Watched, World, world

WEIGHT_LIMIT = 2_400
PAGES = 2  # forty days of hours
PROOF = 2  # more for a new symbol: its first kline ever, and repeated requests, for a proof takes two answers


async def served(watched: Watched, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[object]:
    """Page through a span as a client does; return all rows."""
    rows: list[object] = []
    async with watched.http() as client:
        while True:
            params: dict[str, str | int] = {
                "symbol": symbol, "interval": interval, "startTime": start_ms, "endTime": end_ms - 1, "limit": LIMIT_MAX
            }  # fmt: skip
            answer = await client.get("/fapi/v1/klines", params=params)
            assert answer.status_code == 200, answer.text
            page = orjson.loads(answer.content)
            rows += page
            if len(page) < LIMIT_MAX:
                return rows
            start_ms = page[-1][0] + 1


async def every_row_is_the_exchanges(here: World, watched: Watched) -> int:
    """Assert that every wished series, served over HTTP, equals the exchange's rows; return the number of rows."""
    compared = 0
    now_ms = here.clock.now_ms()
    wish = watched.node.parts.wish()
    for series in wish.series():
        grid = watched.node.parts.holdings.grid(series)
        for span in wish.spans(series, grid, now_ms):
            mine = await served(watched, series.symbol, series.interval.code, *span)
            assert orjson.dumps(mine) == here.truth(series, *span), f"{series.symbol} {series.interval}"
            compared += len(mine)
    return compared


async def test_thirty_symbols_and_seven_intervals_fill_up_exactly_and_within_the_weight(tmp_path: Path) -> None:
    async with world(tmp_path, speed=1.0, symbols=30, weight_limit=WEIGHT_LIMIT) as here, here.node() as watched:
        await watched.until_whole()
        report = watched.node.parts.coverage.report(None, None, 0, 1)
        assert (report["completeness"], report["missing"]) == ("100.00", 0)
        is_ready, detail = watched.node.parts.health.ready()
        series = len(watched.node.parts.wish().series())
        assert (is_ready, detail["series"]) == (True, {"fresh": series, "stale": 0, "not_whole": 0})
        compared = await every_row_is_the_exchanges(here, watched)
        assert compared > 200_000
        assert here.sandbox.limiter.used_weight_max <= WEIGHT_LIMIT
        assert here.sandbox.limiter.answers_429 == 0
        assert set(here.klines_requests()) == {"1m"}, "longer intervals are rolled up, not fetched"


def is_rolled(code: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, RowsCommitted) and (event.interval, event.source) == (code, Source.ROLLUP)


async def test_longer_klines_are_fresh_as_minutes_close_without_asking_rest(tmp_path: Path) -> None:
    async with world(tmp_path, speed=40.0, symbols=6) as here, here.node() as watched:
        await watched.until_whole()
        asked = here.klines_requests()
        await watched.until(is_rolled("3m"))
        await watched.until(is_rolled("5m"))
        await here.hold_whole(watched)
        assert await here.differing(watched) == []
        assert set(here.klines_requests()) == set(asked) == {"1m"}


async def test_the_sixteen_week_view_comes_from_rest_first_and_history_fills_behind(tmp_path: Path) -> None:
    """The wish is too long to roll up at once: tails are fetched by REST, history comes from the archive."""
    async with (
        world(tmp_path, speed=1.0, symbols=2) as here,
        here.node(backfill_days=40, intervals="1m,1h,1d,3d,1w,1M") as watched,
    ):
        await here.hold_whole(watched)
        assert await here.differing(watched) == []
        pages_asked = {
            tuple(sorted(entry.query.items())) for entry in here.requests()
        }  # a set, because a request whose answer is late is repeated
        asked = Counter((page["symbol"], page["interval"]) for page in map(dict, pages_asked))
        for symbol in watched.node.parts.symbols.wished:
            for code in ("1h", "1d"):
                pages = PAGES + PROOF if symbol.startswith("NEW") else PAGES
                assert asked[symbol, code] <= pages, (symbol, code)
        monthly = [entry.path for entry in here.sandbox.journal.since(0) if "/monthly/" in entry.path]
        assert any("BTCUSDT-1m-2026-10.zip" in path for path in monthly)
