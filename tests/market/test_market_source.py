"""Clients that ask for many symbols one by one get rows of one answer for all, as soon as that costs less."""

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from app.domain.kind import Bucket
from app.market.endpoints import ENDPOINTS, MOVING_MS, PAST_MS, Question
from app.market.market_source import ALONE_MAX, Fetched, MarketSource, Mirror, NewestMirror
from app.ports.errors import UpstreamGarbage, UpstreamUnavailable
from app.ports.exchange import Priority, RawAnswer
from tests.fakes import NOW_MS, ManualClock

SYMBOLS = [f"S{number}USDT" for number in range(100)]


class Rest:
    """A fake REST whose rows say when they were made; it records the requests and their weights."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.asked: list[tuple[str, str | None, int]] = []
        self.body: bytes | None = None
        self.unlisted = "S99USDT"
        self.gate: asyncio.Event | None = None

    async def ask(
        self, path: str, params: Mapping[str, str], weight: int, bucket: Bucket | None, priority: Priority
    ) -> RawAnswer:
        assert priority is Priority.USER
        assert bucket is None
        self.asked.append((path, params.get("symbol"), weight))
        if self.gate is not None:
            await self.gate.wait()
        if self.body is not None:
            return RawAnswer(200, self.body)
        if "symbol" in params:
            return RawAnswer(200, self.row(params["symbol"]))
        return RawAnswer(200, b"[" + b",".join(self.row(name) for name in SYMBOLS if name != self.unlisted) + b"]")

    def row(self, symbol: str) -> bytes:
        return b'{"symbol":"%b","price":"1.%d"}' % (symbol.encode(), self._clock.now_ms())

    @property
    def weight(self) -> int:
        return sum(weight for _, _, weight in self.asked)


class Case:
    def __init__(self, *, is_allowed: bool = True) -> None:
        self.clock = ManualClock()
        self.rest = Rest(self.clock)
        self.mirrors: dict[str, Mirror] = {}
        self.newest: dict[str, NewestMirror] = {}
        self.is_weight_short = False
        self.source = MarketSource(
            self.clock, self.rest, self.mirrors, self.newest, lambda: self.is_weight_short, is_allowed=is_allowed
        )

    async def ask(self, path: str, symbol: str | None = None) -> Fetched:
        pairs = () if symbol is None else (("symbol", symbol),)
        return await self.source.fetch(Question(path, pairs))


@pytest.mark.parametrize("path", [path for path, endpoint in ENDPOINTS.items() if endpoint.is_row_of_all])
async def test_asking_for_every_symbol_costs_little_more_than_asking_for_all_twice(path: str) -> None:
    case = Case()
    every = ENDPOINTS[path].weight(Question(path, ()))
    for symbol in SYMBOLS:
        assert (await case.ask(path, symbol)).body == case.rest.row(symbol)
    assert every < case.rest.weight <= 2 * every + 2, "the one that the list lacks is asked for alone"
    before = case.rest.weight
    for symbol in SYMBOLS[:-1]:
        assert (await case.ask(path, symbol)).status == 200
    assert case.rest.weight == before
    case.clock.ms += MOVING_MS
    fetched = await case.ask(path, SYMBOLS[0])
    assert fetched.body == case.rest.row(SYMBOLS[0]), "nothing old is given"


async def test_a_row_holds_no_longer_than_the_answer_it_was_in() -> None:
    case = Case()
    path = "/fapi/v1/ticker/price"
    assert (await case.ask(path)).fresh_ms == MOVING_MS
    case.clock.ms += 400
    row = await case.ask(path, "S1USDT")
    assert (row.fresh_ms, row.thrifty_ms) == (MOVING_MS - 400, MOVING_MS - 400)
    assert len(case.rest.asked) == 1


async def test_while_weight_is_short_rows_of_an_older_answer_do() -> None:
    case = Case()
    path = "/fapi/v1/ticker/24hr"
    await case.ask(path)
    case.clock.ms += 3_999
    case.is_weight_short = True
    row = await case.ask(path, "S1USDT")
    assert (row.fresh_ms, row.thrifty_ms, len(case.rest.asked)) == (0, 1, 1)
    case.is_weight_short = False
    await case.ask(path, "S1USDT")
    assert case.rest.asked[-1] == (path, "S1USDT", 1)


async def test_one_symbol_again_and_again_is_asked_for_alone() -> None:
    case = Case()
    for _ in range(60):
        await case.ask("/fapi/v1/ticker/price", "S1USDT")
        case.clock.ms += MOVING_MS
    assert case.rest.weight == 60


async def test_many_at_once_ask_about_all_once() -> None:
    case = Case()
    case.rest.gate = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(case.ask("/fapi/v1/ticker/bookTicker", symbol)) for symbol in SYMBOLS[:90]]
        await asyncio.sleep(0)  # noqa: TID251  lets the tasks ask
        case.rest.gate.set()
    assert [task.result().body for task in answers] == [case.rest.row(symbol) for symbol in SYMBOLS[:90]]
    assert case.rest.weight == 2 * 2 + 5


async def test_what_is_remembered_of_symbols_is_bounded() -> None:
    case = Case()
    for symbol in SYMBOLS:
        await case.ask("/fapi/v1/ticker/24hr", symbol)
    assert all(len(alone) <= ALONE_MAX for alone in case.source._alone.values())


@pytest.mark.parametrize("body", [b"{}", b"[1]", b'[{"symbol":5}]'])
async def test_an_answer_about_all_that_is_no_list_of_rows_is_not_sliced(body: bytes) -> None:
    case = Case()
    path = "/fapi/v1/ticker/price"
    case.rest.body = body
    await case.ask(path)
    with pytest.raises(UpstreamGarbage):
        await case.ask(path, "S1USDT")
    case.rest.body = None
    assert (await case.ask(path, "S1USDT")).body == case.rest.row("S1USDT")


async def test_without_read_through_nothing_is_asked() -> None:
    case = Case(is_allowed=False)
    with pytest.raises(UpstreamUnavailable):
        await case.ask("/fapi/v1/ticker/price")
    assert case.rest.asked == []


class EmptyMirror:
    """A mirror that holds nothing and records what it learns."""

    def __init__(self) -> None:
        self.learned: list[tuple[Question, bytes, int]] = []

    def answer(self, question: Question) -> bytes | None:
        return None

    def wants_snapshot(self) -> bool:
        return False

    def learn(self, question: Question, body: bytes, asked_ms: int) -> None:
        self.learned.append((question, body, asked_ms))


async def test_what_holds_learns_from_every_answer_also_from_rows() -> None:
    case, heard, path = Case(), EmptyMirror(), "/fapi/v1/ticker/bookTicker"
    case.mirrors[path] = heard
    one, every = Question(path, (("symbol", "S1USDT"),)), Question(path, ())
    await case.source.fetch(one)
    await case.source.fetch(every)
    case.clock.ms += 400
    await case.source.fetch(one)
    (_, body, _), (_, whole, _), (_, row, _) = heard.learned
    assert [question for question, _, _ in heard.learned] == [one, every, one]
    assert body == row
    assert row in whole
    assert [asked_ms for _, _, asked_ms in heard.learned] == [NOW_MS] * 3


class Trades:
    """A trade mirror that answers with `body` and records what it learns."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.learned: list[tuple[Question, bytes]] = []

    def widened(self, question: Question) -> Question | None:
        return None if "fromId" in question.params else Question(question.path, (("limit", "1000"),))

    def answer(self, question: Question) -> bytes | None:
        return self.body

    def learn(self, question: Question, body: bytes) -> None:
        self.learned.append((question, body))


async def test_newest_rows_are_cut_from_the_most_there_is_or_come_from_memory() -> None:
    case, trades, path = Case(), Trades(), "/fapi/v1/aggTrades"
    case.newest[path] = trades
    case.rest.body = b'[{"a":1},{"a":2},{"a":3}]'
    for limit, body in ((2, b'[{"a":2},{"a":3}]'), (3, case.rest.body), (500, case.rest.body)):
        fetched = await case.source.fetch(Question(path, (("limit", str(limit)),)))
        assert (fetched.body, fetched.fresh_ms) == (body, MOVING_MS)
    assert trades.learned == [(Question(path, (("limit", "1000"),)), case.rest.body)] * 3
    assert case.rest.weight == 60
    trades.body = b"[]"
    assert (await case.source.fetch(Question(path, (("limit", "5"),)))).body == b"[]"
    await case.source.fetch(Question(path, (("fromId", "5"), ("limit", "3"))))
    assert len(trades.learned) == 3
    assert len(case.rest.asked) == 4
    trades.body, case.rest.body = None, b"{}"
    with pytest.raises(UpstreamGarbage):
        await case.source.fetch(Question(path, (("limit", "5"),)))


async def test_different_limits_at_once_ask_once() -> None:
    case, path = Case(), "/fapi/v1/aggTrades"
    case.newest[path] = Trades()
    case.rest.body, case.rest.gate = b'[{"a":1},{"a":2}]', asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        questions = [Question(path, (("limit", str(limit)),)) for limit in range(1, 30)]
        answers = [tasks.create_task(case.source.fetch(question)) for question in questions]
        await asyncio.sleep(0)  # noqa: TID251  lets the tasks ask
        case.rest.gate.set()
    assert [task.result().body for task in answers[:2]] == [b'[{"a":2}]', case.rest.body]
    assert len(case.rest.asked) == 1


# --- how long answers are valid --------------------------------------------------------------------------------------


def klines(*closes_ms: int) -> bytes:
    return msgspec.json.encode(
        [[0, "1", "1", "1", "1", "0", close_ms, "0", 60, "0", "0", "0"] for close_ms in closes_ms]
    )


KLINES = "/fapi/v1/markPriceKlines"


@pytest.mark.parametrize(
    ("path", "pairs", "body", "holds_ms"),
    [
        (KLINES, {"limit": 2}, klines(NOW_MS - 70_000, NOW_MS + 5_000), MOVING_MS),
        (KLINES, {"limit": 2}, klines(NOW_MS - 70_000, NOW_MS + 5), 6),
        (KLINES, {"limit": 2, "startTime": 0}, klines(NOW_MS - 120_001, NOW_MS - 60_001), PAST_MS),
        (KLINES, {"limit": 3, "startTime": 0}, klines(NOW_MS - 120_001, NOW_MS - 60_001), MOVING_MS),
        (KLINES, {"limit": 2, "startTime": 0}, klines(NOW_MS - 60_001, NOW_MS - 1), MOVING_MS),
        (KLINES, {"limit": 9, "endTime": NOW_MS - 60_001}, klines(NOW_MS - 60_002), PAST_MS),
        (KLINES, {"limit": 9, "endTime": NOW_MS - 60_001}, klines(NOW_MS + 5), MOVING_MS),
        (KLINES, {"limit": 9, "endTime": NOW_MS - 60_001}, b"[]", PAST_MS),
        (KLINES, {"limit": 9, "endTime": NOW_MS - 59_999}, klines(NOW_MS - 90_000), MOVING_MS),
        ("/fapi/v1/aggTrades", {"limit": 2}, b"[{},{}]", MOVING_MS),
        ("/fapi/v1/aggTrades", {"limit": 2, "fromId": 5}, b"[{},{}]", 60_000),
        ("/fapi/v1/aggTrades", {"limit": 3, "fromId": 5}, b"[{},{}]", MOVING_MS),
        ("/fapi/v1/aggTrades", {"limit": 3, "endTime": NOW_MS - 60_001}, b"[{}]", 60_000),
        ("/fapi/v1/fundingRate", {"endTime": NOW_MS - 60_001}, b"[]", PAST_MS),
        ("/futures/data/basis", {"endTime": NOW_MS - 60_001}, b"[]", PAST_MS),
        ("/futures/data/basis", {}, b"[]", 15_000),
        ("/fapi/v1/depth", {}, b"{}", 250),
    ],
)  # fmt: skip
def test_an_answer_holds_longer_once_it_can_no_longer_change(
    path: str, pairs: dict[str, int], body: bytes, holds_ms: int
) -> None:
    question = Question(path, tuple((name, str(value)) for name, value in pairs.items()))
    assert ENDPOINTS[path].holds(question, body, NOW_MS) == holds_ms


@pytest.mark.parametrize(
    ("past_hour_ms", "holds_ms"), [(0, 5_000), (50_000, 5_000), (600_000, 60_000), (3_540_000, 60_000), (3_599_999, 1)]
)
def test_a_funding_rate_is_looked_for_often_after_the_hour_and_never_kept_beyond_it(
    past_hour_ms: int, holds_ms: int
) -> None:
    hour_ms = NOW_MS // 3_600_000 * 3_600_000
    question = Question("/fapi/v1/fundingRate", ())
    assert ENDPOINTS[question.path].holds(question, b"[]", hour_ms + past_hour_ms) == holds_ms
