"""The clients of a node that is killed: their requests, the comparison of the answers, and the record of them."""

import contextlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

import httpx
import orjson

from app.domain.interval import INTERVALS, MINUTE_MS
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.kinds.klines import KLINES
from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, pause, seconds

READ_EVERY_S: Final = 0.005  # leaves processor time to the exchange, which lives in the same process
COVERAGE_EVERY: Final = 10
DUE_MS: Final = 6_000  # a kline that closed more recently may be missing from an answer while it settles
CODES: Final = ("1m", "5m", "1h")


@dataclass
class Load:
    """Clients that send requests all the time, compare every answer with the exchange, and record what was served."""

    sandbox: SandboxServer
    rng: random.Random
    symbols: tuple[str, ...]
    since_ms: int
    place: Place | None = None
    served: dict[Series, Spans] = field(default_factory=lambda: defaultdict(Spans))
    acknowledged: dict[Series, Spans] = field(default_factory=lambda: defaultdict(Spans))
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    stored_since_s: float | None = 0.0
    """Since when what is fetched for a request is stored before it is answered; None while the database is away."""
    away: Counter[int] = field(default_factory=Counter)
    """By status: the answers to requests while the database was away. What they show need not be stored."""

    async def ask_for_ever(self) -> None:
        asked = 0
        while True:
            place = self.place
            if place is not None:
                asked += 1
                with contextlib.suppress(httpx.HTTPError):  # the node was killed during the request
                    async with place.http() as client:
                        await (self._coverage if asked % COVERAGE_EVERY == 0 else self._klines)(client, place)
            await pause(READ_EVERY_S)

    async def _klines(self, client: httpx.AsyncClient, place: Place) -> None:
        series = Series(KLINES, self.rng.choice(self.symbols), INTERVALS[self.rng.choice(CODES)])
        grid, now_ms = series.interval.grid, self.sandbox.exchange.clock.now_ms()
        limit = min(self.rng.choice((1, 10, 100, 499)), grid.count(grid.ceil(self.since_ms), grid.floor(now_ms)))
        back_ms = self.rng.choice((0, self.rng.randrange(MINUTE_MS * 60), self.rng.randrange(now_ms - self.since_ms)))
        end_ms = max(grid.floor(now_ms - back_ms), grid.shift(grid.ceil(self.since_ms), limit))
        query = f"symbol={series.symbol}&interval={series.interval.code}&limit={limit}&endTime={end_ms - 1}"
        began_s = seconds()
        answer = await client.get(f"/fapi/v1/klines?{query}")
        self.statuses[answer.status_code] += 1
        is_away = self.stored_since_s is None or began_s < self.stored_since_s
        if is_away:
            self.away[answer.status_code] += 1
        if answer.status_code == 503:
            return
        span = Span(grid.shift(end_ms, -limit), end_ms)
        truth = self._truth(series, span)
        if answer.content != truth and end_ms > now_ms - DUE_MS:
            span = Span(grid.shift(span.start_ms, -1), grid.shift(end_ms, -1))
            truth = self._truth(series, span)
        if answer.status_code != 200 or answer.content != truth:
            self.wrong.append(f"{answer.status_code} {query}: {answer.text[:300]} instead of {truth[:300]!r}")
        elif place is self.place and not is_away:
            self.served[series] |= Spans([span])

    def _truth(self, series: Series, span: Span) -> bytes:
        return orjson.dumps(self.sandbox.exchange.rows(series.symbol, series.interval.code, *span))

    async def _coverage(self, client: httpx.AsyncClient, place: Place) -> None:
        answer = await client.get(f"/v1/coverage?symbol={self.rng.choice(self.symbols)}&limit=100")
        if answer.status_code == 200 and place is self.place:
            for each in answer.json()["series"]:
                held = Spans(Span(span["start"], span["end"]) for span in each["held"])
                self.acknowledged[Series(KLINES, each["symbol"], INTERVALS[each["interval"]])] |= held
