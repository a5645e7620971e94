"""A query service on a rig, an oracle of Binance's answers, and random queries and holdings."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypedDict, Unpack

import orjson
import pytest

from app.binance.error_body import BinanceError
from app.domain.interval import HOUR_MS, INTERVALS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.filling.absence import Absence
from app.holding.rolling import Rolling
from app.holding.wish import CLOSE_GRACE_MS, Wish
from app.kinds.klines import KLINES
from app.querying.answer import Answer, KlineQuery
from app.querying.gather import Gatherer
from app.querying.in_progress import InProgress
from app.querying.prove import Prover
from app.querying.query import QueryService
from app.querying.read_through import ReadThrough
from tests.fakes import BTC, NOW_MS, Rig, encoded, nobody_keeps, rig, true_grid
from tests.filling.reconcile_bench import Bench

HOURS = Series(KLINES, "BTCUSDT", INTERVALS["1h"])
DAYS = Series(KLINES, "BTCUSDT", INTERVALS["1d"])
CLOSED_MS = NOW_MS - 30_000


class Asking(TypedDict, total=False):
    """The fields of a query that differ from `_USUAL`."""

    start_ms: int | None
    end_ms: int | None
    limit: int
    only_final: bool
    allow_partial: bool


_USUAL: Final = KlineQuery(BTC, None, None, 5, True)


class TrustedClock:
    """A desk's clock, trusted while the desk's `is_time_known` is true."""

    def __init__(self, desk: "Desk") -> None:
        self._desk = desk
        self.now_ms = desk.rig.clock.now_ms
        self.sleep = desk.rig.clock.sleep

    @property
    def is_trusted(self) -> bool:
        return self._desk.is_time_known


class Desk:
    """A query service on a rig; its `bench` stores what was read through, as the writer does."""

    def __init__(self, made: Rig, *, read_through: bool = True, is_writer: bool = True) -> None:
        self.rig = made
        self.at_once = 0
        self.rolling = Rolling(list(INTERVALS.values()))
        self.absence = Absence(made.clock, made.holdings, made.symbols.listing, made.vault)
        self.bench = Bench(made, codes=tuple(INTERVALS), days=400)
        self.upstream = ReadThrough(
            made.clock,
            made.exchange,
            made.copies,
            self.absence,
            self.bench.filler.keep_read if is_writer else nobody_keeps,
            is_allowed=read_through,
        )
        self.last_seen_ms: int | None = None
        """When the socket of BTC last delivered a frame (ms); None before the first."""
        self.in_progress = InProgress(
            made.clock,
            self.upstream,
            made.tail,
            self.rolling,
            lambda series: self.last_seen_ms if series == BTC else None,
        )
        self.is_time_known = True
        self.wish = Wish((), (), 0, {}, {})
        self.gatherer = Gatherer(made.clock, made.store, made.copies)
        self.query = QueryService(
            TrustedClock(self),
            made.copies,
            self.gatherer,
            Prover(made.clock, self.upstream, made.holdings),
            self.in_progress,
            lambda: self.wish,
        )

    async def hold(self, series: Series, *spans: Span, source: Source = Source.REST) -> None:
        """Commit the exchange's klines of `spans`."""
        wanted = Spans(spans)
        rows = [
            self.rig.exchange.kline(series, each) for span in wanted for each in self.rig.exchange.opens(series, span)
        ]
        grid = true_grid(series.interval)
        made = Spans(Span(row.open_ms, grid.shift(row.open_ms, 1)) for row in rows)
        batches = [Batch(series, source, made, rows)] if rows else []
        if absent := wanted - made:
            batches.append(Batch(series, Source.ABSENT, absent, []))
        await self.rig.committer.commit(batches)

    def oracle(self, query: KlineQuery) -> bytes:
        """Binance's answer to `query` (binance-facts section 3); only closed klines with only_final."""
        series, now_ms = query.series, self.rig.clock.ms
        grid = true_grid(series.interval)
        upto_ms = grid.floor(now_ms - CLOSE_GRACE_MS) if query.only_final else now_ms + 1
        end_ms = upto_ms if query.end_ms is None else min(upto_ms, query.end_ms + 1)
        opens = self.rig.exchange.opens(series, Span(query.start_ms or 0, end_ms)) if end_ms > 0 else []
        opens = opens[-query.limit :] if query.start_ms is None else opens[: query.limit]
        return encoded(series, [self.rig.exchange.kline(series, each) for each in opens])

    async def answer_or_error(self, query: KlineQuery) -> Answer | BinanceError:
        """Answer `query`, or return the error; asserts that an answer given at once is equal and causes no request."""
        now_ms = self.rig.clock.ms
        soon, asked = self.query.at_once(query, now_ms), len(self.rig.exchange.asked)
        found: Answer | BinanceError
        try:
            found = await self.query.answer(query)
        except BinanceError as error:
            found = error
        if soon is not None:
            self.at_once += 1
            assert (soon, self.rig.exchange.asked[asked:]) == (found, []), query
        return found

    async def answer(self, series: Series = BTC, **asked: Unpack[Asking]) -> Answer:
        found = await self.answer_or_error(_USUAL._replace(series=series, **asked))
        if isinstance(found, BinanceError):
            raise found
        return found


@asynccontextmanager
async def desk(
    folder: Path, *, now_ms: int = NOW_MS, first_ms: int = CLOSED_MS - 400 * HOUR_MS, **options: bool
) -> AsyncIterator[Desk]:
    async with rig(folder, now_ms=now_ms, first_ms=first_ms) as made:
        await made.symbols.refresh()
        yield Desk(made, **options)


def opens(answer: Answer) -> list[int]:
    return [row[0] for row in orjson.loads(answer.body)]


async def refused(answering: Desk, series: Series = BTC, **asked: Unpack[Asking]) -> BinanceError:
    with pytest.raises(BinanceError) as caught:
        await answering.answer(series, **asked)
    assert (caught.value.reason is not None) is (caught.value.status == 503), "a 503 says why"
    return caught.value


async def scatter(at: Desk, rng: random.Random, series: Series, first_ms: int, closed_ms: int) -> bool:
    """Hold, prove absent and omit klines at random; return whether a query can meet an unproven hole."""
    grid, exchange = true_grid(series.interval), at.rig.exchange
    times = list(grid.opens(grid.shift(grid.ceil(first_ms), -12), closed_ms))
    is_holed = rng.random() < 0.4
    if is_holed:
        exchange.lacking.update((series, each) for each in rng.sample(times[:-1], rng.randrange(1, 6)))
    for _ in range(rng.randrange(0, 5)):
        start, length = rng.randrange(len(times)), rng.randrange(1, 40)
        await at.hold(series, Span(times[start], grid.shift(times[min(start + length, len(times)) - 1], 1)))
    if rng.random() < 0.5:
        await at.rig.committer.commit([Batch(series, Source.ABSENT, Spans([Span(0, grid.floor(first_ms))]), [])])
    if rng.random() < 0.5:  # what live ingest has added to the tail and not committed yet
        for each in times[-rng.randrange(1, 9) :]:
            if (series, each) not in exchange.lacking and each >= first_ms:
                at.rig.tail.append(series, grid, exchange.kline(series, each))
    return is_holed


def random_query(rng: random.Random, series: Series, closed_ms: int) -> KlineQuery:
    step_ms = series.interval.grid.step_ms

    def moment() -> int | None:
        if rng.random() < 0.35:
            return None
        around_ms = closed_ms - rng.randrange(-2, 75) * step_ms
        return rng.choice([around_ms, around_ms + 1, around_ms - 1, around_ms + step_ms // 2, 0, closed_ms * 2])

    start_ms, end_ms = moment(), moment()
    if start_ms is not None and end_ms is not None and end_ms < start_ms:
        start_ms, end_ms = end_ms, start_ms
    return KlineQuery(series, start_ms, end_ms, rng.choice([1, 2, 5, 17, 60, 1500]), rng.random() < 0.5)
