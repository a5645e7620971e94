"""Klines of mark price, index price and premium index: held where wished, and equal to the exchange's byte for byte."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from app.domain.interval import D1, DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kind import Kind
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span
from app.events import Event, KlinesVerified, RowsCommitted
from app.kinds.price_klines import INDEX, MARK, PREMIUM, PRICES
from infra.net.tls import trusting_nobody
from infra.sandbox.faults import Fault
from tests.stored import change
from tests.system.world import Watched, World, world

YOUNG = "NEW1120USDT"  # listed yesterday: its klines are cheap to compute, and the wish includes the first one
SETTINGS: Final[dict[str, Any]] = {
    "backfill_days": 2,
    "auto_sync_symbols": False,
    "symbols": YOUNG,
    "intervals": "1m,5m,1h,1d",
    "price_klines": "mark,index,premium",
    "price_klines_symbols": YOUNG,
}


def series_held() -> Iterator[tuple[Kind, Series]]:
    for kind in PRICES.values():
        for code in ("1m", "5m", "1h", "1d"):
            yield kind, Series(kind, YOUNG, INTERVALS[code])


def target(kind: Kind, series: Series, more: str = "") -> str:
    return f"{kind.rest.path}?{kind.rest.symbol}={series.symbol}&interval={series.interval}{more}"


def truth(here: World, series: Series, span: Span) -> bytes:
    kind, symbol, interval = series
    return orjson.dumps(here.sandbox.exchange.closed_sampled_rows(symbol, kind.name, interval.code, *span))


async def everything_held_is_the_exchanges(here: World, watched: Watched) -> None:
    """Assert that every wished span of each price series is stored as the exchange has it."""
    node, now_ms = watched.node, here.clock.now_ms()
    wish = node.parts.wish()
    wished = [series for series in wish.series() if series.kind in PRICES.values()]
    assert set(wished) == {series for _, series in series_held()}
    for series in wished:
        grid = node.parts.holdings.grid(series)
        (span,) = wish.spans(series, grid, now_ms)
        found, body = await node.parts.reader.read_encoded(series, span, 100_000)
        assert found
        assert body == truth(here, series, span), f"{series}"
        assert node.parts.holdings.ledger(series).known.covers(span)
        assert {entry.source for entry in node.parts.holdings.ledger(series).entries} == {Source.ABSENT, Source.REST}


async def served_alike(here: World, client: httpx.AsyncClient, targets: list[str]) -> None:
    async with httpx.AsyncClient(base_url=here.sandbox.base_url, timeout=60, verify=trusting_nobody()) as exchange:
        for each in targets:
            mine, theirs = await client.get(each), await exchange.get(each)
            assert (mine.status_code, mine.content) == (200, theirs.content), each


async def test_price_klines_fill_up_and_are_answered_byte_for_byte(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here, here.node(**SETTINGS) as watched:
        await here.hold_whole(watched)
        await everything_held_is_the_exchanges(here, watched)
        async with watched.http() as client:
            now_ms = here.clock.now_ms()
            past = f"&startTime={now_ms - 90 * MINUTE_MS}&endTime={now_ms - 20 * MINUTE_MS}"
            for kind, series in series_held():
                step_ms = series.interval.grid.step_ms
                closed = f"&endTime={series.interval.grid.floor(now_ms) - step_ms}&limit=7"
                for more in ("", "&limit=1", "&limit=1500", "&startTime=0&limit=3", past, closed):
                    await served_alike(here, client, [target(kind, series, more)])
            begun = here.sandbox.journal.written
            kind, series = PREMIUM, Series(PREMIUM, YOUNG, M1)
            first = await client.get(target(kind, series, past))
            assert any(row[2].startswith("-") for row in first.json()), "premiums are negative now and then"
            again = await client.get(target(kind, series, past), headers={"If-None-Match": first.headers["etag"]})
            assert again.status_code == 304
            assert not [entry for entry in here.sandbox.journal.since(begun) if entry.path == kind.rest.path]
            symbol = await client.get(f"/fapi/v1/klines?symbol={series.name}&interval=1m")
            assert (symbol.status_code, symbol.json()["code"]) == (400, -1121), (
                "as the exchange: there is no such symbol"
            )


async def test_operators_name_price_klines_as_the_streams_do(tmp_path: Path) -> None:
    mark, index = Series(MARK, YOUNG, M1), Series(INDEX, YOUNG, INTERVALS["1h"])
    async with world(tmp_path, speed=20.0, symbols=4) as here, here.node(**SETTINGS, admin_token="secret") as watched:
        await here.hold_whole(watched)
        span = {"start": here.clock.now_ms() - 30 * MINUTE_MS, "end": here.clock.now_ms() - 20 * MINUTE_MS}
        async with watched.http() as client:
            reported = (await client.get(f"/v1/coverage?symbol={YOUNG.lower()}@markPrice&interval=1m")).json()
            assert [each["symbol"] for each in reported["series"]] == [mark.name]
            for symbol in (f"{YOUNG}@nothing", "XYZUSDT@markPrice"):
                refused = await client.get("/v1/coverage", params={"symbol": symbol})
                assert refused.status_code == 400
                assert "SYMBOL@markPrice" in refused.text
            for path in ("/v1/admin/verify", "/v1/admin/backfill"):
                body = {"symbols": [mark.name, index.name], "intervals": ["1m", "1h"], **span}
                taken = await client.post(path, json=body, headers={"authorization": "Bearer secret"})
                assert taken.status_code == 202, taken.text
            assert set(watched.node.parts.holdings.extra_wishes) >= {mark, index}


async def test_what_is_not_wished_is_passed_through(tmp_path: Path) -> None:
    async with world(tmp_path, symbols=4) as here, here.node(**SETTINGS | {"price_klines": "mark"}) as watched:
        await here.hold_whole(watched)
        async with watched.http() as client:
            others = [
                "/fapi/v1/markPriceKlines?symbol=BTCUSDT&interval=1m&limit=3",
                f"/fapi/v1/markPriceKlines?symbol={YOUNG}&interval=3m&limit=3",
                f"/fapi/v1/indexPriceKlines?pair={YOUNG}&interval=1m&limit=3",
            ]
            await served_alike(here, client, others)
        assert not watched.node.parts.holdings.ledger(Series(MARK, "BTCUSDT", M1)).known


def closes(series: Series, after_ms: int) -> Any:
    def is_it(event: Event) -> bool:
        return (
            isinstance(event, RowsCommitted)
            and (event.symbol, event.interval) == (series.name, series.interval.code)
            and event.span.end_ms > after_ms
        )

    return is_it


async def test_closes_that_come_later_are_kept_through_lacking_rows_and_a_restart(tmp_path: Path) -> None:
    minutes = Series(PREMIUM, YOUNG, M1)
    async with world(tmp_path, speed=20.0, symbols=4) as here:
        async with here.node(**SETTINGS) as watched:
            await watched.until_whole()
            here.sandbox.control.faults.add(
                Fault(kind="missing_rows", path=PREMIUM.rest.path, interval="1m", count=3), here.clock.now_ms()
            )
            await watched.until(closes(minutes, here.clock.now_ms() + MINUTE_MS))
            await watched.until_whole()
        async with here.node(**SETTINGS) as watched:
            await here.hold_whole(watched)
            await everything_held_is_the_exchanges(here, watched)
            begun = here.sandbox.journal.written
            async with watched.http() as client:
                await served_alike(here, client, [target(PREMIUM, minutes, "&limit=99")])
            asked = [entry.query for entry in here.sandbox.journal.since(begun) if entry.path == PREMIUM.rest.path]
            assert [query.get("limit") for query in asked] in (["2", "99"], ["99"]), (
                "but for the one in progress it is held"
            )
            is_ready, detail = watched.node.parts.health.ready()
            assert (is_ready, detail["reasons"]) == (True, [])


async def test_a_wrong_row_is_found_row_by_row_and_mended(tmp_path: Path) -> None:
    """Samples do not add up to longer klines as trades do, so no sums are compared: each row is."""
    async with world(tmp_path, symbols=4) as here, here.node(**SETTINGS) as watched:
        await watched.until_whole()
        node = watched.node
        wrong = Series(PREMIUM, YOUNG, M1)
        open_ms = D1.grid.floor(here.clock.now_ms()) - DAY_MS // 2
        change(here.folder / "klinenode.db", wrong, open_ms, "close = '-1.00000000'")
        series = [each for _, each in series_held()]
        node.parts.verifier.request(series, Span(0, here.clock.now_ms()))
        await watched.until(lambda _: not {each.name for each in series} - verified(watched))
        await watched.until(lambda _: all(audit["state"] == "done" for audit in audits(watched)))
        (audit,) = audits(watched)
        assert (audit["rows_replaced"], audit["disagreements"], audit["error"]) == (1, 0, None)
        await here.hold_whole(watched)
        await everything_held_is_the_exchanges(here, watched)
        assert node.parts.holdings.revisions[wrong] == 1


def verified(watched: Watched) -> set[str]:
    return {event.symbol for event in watched.events if isinstance(event, KlinesVerified)}


def audits(watched: Watched) -> list[dict[str, Any]]:
    found: Any = watched.node.parts.verifier.report()["audits"]
    return list(found)
