"""Clients that ask through nginx at a fixed rate, and compare every answer with the exchange or with a rule."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, NamedTuple

import httpx
import orjson

from app.domain.interval import MINUTE_MS
from app.holding.wish import CLOSE_GRACE_MS
from infra.net.tls import trusting_nobody
from infra.sandbox.exchange import Exchange
from tests.system.processes import pause, seconds

ANSWERED, REFUSED, FAILED, WRONG = "answered", "503", "failed", "wrong"
CLIENT_S_MAX: Final = 10.0  # how long a client waits for an answer
HISTORY_ROWS: Final = 200
NEWEST_ROWS: Final = 50
LIVE_ROWS: Final = 3
OLDEST_MINUTES: Final = 1_200  # before now: a node that keeps one day has them all
NEWEST_MINUTES: Final = 10
TICKER_AGE_MS_MAX: Final = 15_000
CLOCKS_MS: Final = 1_000  # between clocks of one machine
WRONG_KEPT: Final = 20

Check = Callable[[bytes, int, int], str]
"""Judges the body of an answer by when it was asked for and received (ms); returns what is wrong, or nothing."""


class Question(NamedTuple):
    """A request and how its answer is judged."""

    kind: str
    path: str
    check: Check


class Reply(NamedTuple):
    """What a client got: when it asked and when it was over, by `seconds`."""

    kind: str
    began_s: float
    ended_s: float
    outcome: str


class Asked(NamedTuple):
    """The requests that were made in some time, and the longest time in which none was answered."""

    counts: Counter[str]
    gap_s: float


class Questions:
    """Draws questions whose answers the exchange determines."""

    def __init__(self, exchange: Exchange, symbols: Sequence[str], chance: random.Random) -> None:
        self._exchange = exchange
        self._symbols = symbols
        self._chance = chance

    def draw(self) -> Question:
        """A question of one of four kinds about one of the symbols."""
        make = self._chance.choice((self._history, self._newest, self._in_progress, self._ticker))
        return make(self._chance.choice(self._symbols))

    def _history(self, symbol: str) -> Question:
        back = self._chance.randrange(HISTORY_ROWS + NEWEST_MINUTES, OLDEST_MINUTES)
        start_ms = self._exchange.clock.now_ms() // MINUTE_MS * MINUTE_MS - back * MINUTE_MS

        def check(body: bytes, asked_ms: int, received_ms: int) -> str:
            return "" if body == self._truth(symbol, start_ms, HISTORY_ROWS) else "not the exchange's rows"

        path = f"/fapi/v1/klines?symbol={symbol}&interval=1m&startTime={start_ms}&limit={HISTORY_ROWS}"
        return Question("history", path, check)

    def _newest(self, symbol: str) -> Question:
        def check(body: bytes, asked_ms: int, received_ms: int) -> str:
            rows = orjson.loads(body)
            if len(rows) != NEWEST_ROWS or body != self._truth(symbol, rows[0][0], NEWEST_ROWS):
                return "not the exchange's rows"
            return "" if rows[-1][0] + MINUTE_MS >= due_ms(asked_ms) else "an old end"

        return Question("newest", f"/fapi/v1/klines?symbol={symbol}&interval=1m&limit={NEWEST_ROWS}", check)

    def _in_progress(self, symbol: str) -> Question:
        def check(body: bytes, asked_ms: int, received_ms: int) -> str:
            rows = orjson.loads(body)
            finished = LIVE_ROWS - 1
            if len(rows) != LIVE_ROWS:
                return "not as many rows as asked for"
            if orjson.dumps(rows[:finished]) != self._truth(symbol, rows[0][0], finished):
                return "finished rows are not the exchange's"
            return fault_of_live(rows, asked_ms, received_ms)

        path = f"/fapi/v1/klines?symbol={symbol}&interval=1m&limit={LIVE_ROWS}&only_final=false"
        return Question("in progress", path, check)

    def _ticker(self, symbol: str) -> Question:
        def check(body: bytes, asked_ms: int, received_ms: int) -> str:
            ticker = orjson.loads(body)
            is_recent = asked_ms - TICKER_AGE_MS_MAX <= ticker["closeTime"] <= received_ms + CLOCKS_MS
            return "" if ticker["symbol"] == symbol and is_recent else "another symbol's or an old ticker"

        return Question("market data", f"/fapi/v1/ticker/24hr?symbol={symbol}", check)

    def _truth(self, symbol: str, start_ms: int, rows: int) -> bytes:
        return orjson.dumps(self._exchange.rows(symbol, "1m", start_ms, start_ms + rows * MINUTE_MS))


def due_ms(asked_ms: int) -> int:
    """The close of the newest kline that an answer to a request of `asked_ms` must have."""
    return (asked_ms - CLOSE_GRACE_MS) // MINUTE_MS * MINUTE_MS


def fault_of_live(rows: list[list[Any]], asked_ms: int, received_ms: int) -> str:
    """What is wrong with the last of `rows`, the kline in progress; nothing if it can be so."""
    last = rows[-1]
    if last[0] != rows[-2][0] + MINUTE_MS:
        return "a hole before the kline in progress"
    if not due_ms(asked_ms) <= last[0] <= received_ms + CLOCKS_MS:
        return "another minute is in progress"
    opened, high, low, close = (Decimal(text) for text in last[1:5])
    return "" if low <= min(opened, close) and max(opened, close) <= high else "impossible prices"


@dataclass
class Load:
    """The clients, and what they got."""

    url: str
    questions: Questions
    rate: float
    """Requests a second, sent whether or not those before were answered."""
    replies: list[Reply] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    is_over: bool = False

    async def run(self, now_ms: Callable[[], int]) -> None:
        """Ask until `is_over`; `now_ms` is the exchange's clock."""
        bounds = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        async with (
            httpx.AsyncClient(
                base_url=self.url, trust_env=False, timeout=CLIENT_S_MAX, limits=bounds, verify=trusting_nobody()
            ) as client,
            asyncio.TaskGroup() as tasks,
        ):
            due_s = seconds()
            while not self.is_over:
                tasks.create_task(self._ask(client, self.questions.draw(), now_ms))
                due_s += 1 / self.rate
                await pause(max(0.0, due_s - seconds()))

    async def _ask(self, client: httpx.AsyncClient, question: Question, now_ms: Callable[[], int]) -> None:
        began_s, asked_ms = seconds(), now_ms()
        try:
            answer = await client.get(question.path)
        except httpx.TransportError as error:
            outcome, reason = FAILED, type(error).__name__
        else:
            outcome, reason = self._judge(question, answer, asked_ms, now_ms())
        self.replies.append(Reply(question.kind, began_s, seconds(), outcome))
        if outcome != ANSWERED:
            self.reasons[f"{question.kind}: {reason}"] += 1

    def _judge(self, question: Question, answer: httpx.Response, asked_ms: int, received_ms: int) -> tuple[str, str]:
        if answer.status_code != 200:
            return (REFUSED if answer.status_code == 503 else FAILED), f"{answer.status_code} {answer.text[:120]}"
        fault = question.check(answer.content, asked_ms, received_ms)
        if fault and len(self.wrong) < WRONG_KEPT:
            self.wrong.append(f"{question.path} at {asked_ms}: {fault}: {answer.text[-300:]}")
        return (WRONG, fault) if fault else (ANSWERED, "")

    def between(self, start_s: float, end_s: float) -> Asked:
        """What came of the requests that were sent in [start_s, end_s)."""
        counts = Counter(each.outcome for each in self.replies if start_s <= each.began_s < end_s)
        answered = [each.ended_s for each in self.replies if each.outcome == ANSWERED]
        ends_s = [start_s, *sorted(each_s for each_s in answered if start_s <= each_s < end_s), end_s]
        return Asked(counts, max(after - before for before, after in pairwise(ends_s)))

    def by_kind(self) -> dict[str, tuple[Counter[str], list[float]]]:
        """By kind of question: how often each outcome came, and the milliseconds of those answered, in order."""
        found: dict[str, tuple[Counter[str], list[float]]] = {}
        for each in self.replies:
            counts, times_ms = found.setdefault(each.kind, (Counter(), []))
            counts[each.outcome] += 1
            if each.outcome == ANSWERED:
                times_ms.append((each.ended_s - each.began_s) * 1000)
        return {kind: (counts, sorted(times_ms)) for kind, (counts, times_ms) in sorted(found.items())}
