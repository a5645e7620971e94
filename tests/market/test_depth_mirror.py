"""Depth from memory equals the sandbox's book at its lastUpdateId; whatever is not proven, heard or known asks REST."""

from random import Random
from typing import Any

import msgspec
import orjson

from app.binance.collector_venue import BinanceVenue
from app.binance.weights import depth_limits
from app.collecting.book_chain import BookRule
from app.collecting.book_feed import BookFeed
from app.collecting.ledger import Origin
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpans
from app.domain.gap_reason import GapReason
from app.domain.instrument import Instrument, Market
from app.domain.market_events import BookUpdate
from app.domain.records import DataType, Feed, Gap
from app.market.depth_mirror import PATH, QUIET_MS_MAX, STARTED_MS, DepthMirror
from app.market.endpoints import Question
from infra.sandbox.answers.trades import depth, levels_of
from infra.sandbox.book import STEP_MS, step_at, update_id
from infra.sandbox.exchange import Exchange
from infra.sandbox.stream_events import DepthSource
from infra.sandbox.universe import Universe
from tests.collecting.made import records
from tests.sandbox.conftest import ManualClock

SYMBOL = "BTCUSDT"
BTC = Instrument("binance", Market.SWAP, "BTC-USDT", SYMBOL)
SOCKET = 1
CHECK_MS = 3_600_000


def question(limit: int, symbol: str = SYMBOL) -> Question:
    return Question(PATH, (("symbol", symbol), ("limit", str(limit))))


class Case:
    """The sandbox exchange, the collector's rules of one book, and the mirror under test."""

    def __init__(self, levels: int = 1_000) -> None:
        self.levels = levels
        self.clock = ManualClock()
        self.exchange = Exchange(self.clock, Universe(1, 3))
        item = self.exchange.universe.find(SYMBOL, self.clock.now_ms())
        assert item is not None
        self.item, self.source, self.venue = item, DepthSource(self.exchange), BinanceVenue()
        self.venue.learn([BTC])
        self.outlet = Outlet()
        feed = Feed(BTC, DataType.ORDERBOOK)
        self.rules = BookFeed(
            feed,
            self.venue,
            BookRule(levels, compare_ms=CHECK_MS),
            (1, Origin(SequenceSpans())),
            self.outlet,
            Random(1),
        )
        self.started_ms: int | None = None
        self.mirror = DepthMirror(
            self.clock, lambda symbol: self.rules.held() if symbol == SYMBOL else None, lambda _: self.started_ms
        )
        self.frames()

    def frames(self, steps: int = 1) -> list[bytes]:
        """The stream's next frame, after some steps of the book."""
        self.clock.advance(steps * STEP_MS)
        data = self.source.events(self.item, self.clock.now_ms())
        return [orjson.dumps({"stream": "btcusdt@depth@100ms", "data": each}) for each in data]

    def hear(self, steps: int = 1) -> None:
        for frame in self.frames(steps):
            for event in self.venue.read("/public/stream", frame, self.clock.now_ms()):
                assert isinstance(event, BookUpdate)
                self.rules.received(event, SOCKET, self.clock.now_ms())

    def begin(self) -> None:
        """Let the collector hold the book."""
        self.hear()
        now_ms = self.clock.now_ms()
        assert self.rules.wanted(now_ms) is not None
        self.rules.sent(now_ms)
        self.rules.answered(orjson.dumps(self.rest(self.levels)), now_ms)
        self.hear()
        assert self.rules.held() is not None

    def rest(self, limit: int) -> Any:
        """REST's present answer."""
        return depth(self.exchange, {"symbol": SYMBOL, "limit": str(limit)}, self.clock.now_ms())

    def compare(self, lost: int = 0) -> tuple[int, int]:
        """Compare the held book, which has lost some levels, with a snapshot that two frames follow."""
        while (request := self.rules.wanted(self.clock.now_ms())) is None:
            self.hear(steps=500)
        assert request.is_check
        held = self.rules.held()
        assert held is not None
        for _ in range(lost):
            held.book.asks.amounts.popitem()
        self.rules.sent(self.clock.now_ms())
        self.hear()
        snapshot = orjson.dumps(self.rest(self.levels))
        self.hear()
        self.hear()
        self.rules.answered(snapshot, self.clock.now_ms())
        return self.rules.status().levels

    def told(self, limit: int) -> dict[str, Any]:
        body = self.mirror.answer(question(limit))
        assert body is not None
        answer: dict[str, Any] = orjson.loads(body)
        return answer

    def truth(self, sequence: int, limit: int) -> dict[str, Any]:
        """What REST said, or would have said, when the book had this number."""
        step = step_at(self.clock.now_ms())
        while update_id(step) > sequence:
            step -= 1
        snapshot = self.exchange.book.snapshot(self.item, limit, step * STEP_MS)
        sides = {"bids": levels_of(self.item, snapshot.bids), "asks": levels_of(self.item, snapshot.asks)}
        return {"lastUpdateId": snapshot.update_id, "T": snapshot.time_ms, **sides}


def test_an_answer_is_byte_for_byte_what_rest_says_at_that_moment() -> None:
    case = Case()
    case.begin()
    for _ in range(20):
        case.hear()
        for limit in (5, 10, 20, 50, 100, 500):
            assert case.mirror.answer(question(limit)) == orjson.dumps(case.rest(limit))


def test_without_a_limit_it_has_500_levels() -> None:
    case = Case()
    case.begin()
    assert case.mirror.answer(Question(PATH, (("symbol", SYMBOL),))) == case.mirror.answer(question(500))


def test_between_frames_it_is_the_truth_of_its_number_and_says_when_that_was_sent() -> None:
    case = Case()
    case.begin()
    case.hear()
    heard_ms = case.clock.now_ms()
    case.clock.advance(7 * STEP_MS)
    answer = case.told(100)
    assert answer.pop("E") == heard_ms
    assert answer == case.truth(answer["lastUpdateId"], 100)


def test_an_answer_follows_each_frame_at_once() -> None:
    case = Case()
    case.begin()
    numbers = []
    for _ in range(5):
        case.hear()
        numbers.append(case.told(20)["lastUpdateId"])
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 5


def test_as_many_levels_are_answered_as_are_known_on_both_sides() -> None:
    case = Case(levels=500)
    case.begin()
    for _ in range(60):
        case.hear(steps=5)
    held = case.rules.held()
    assert held is not None
    known = min(len(held.book.bids.amounts), len(held.book.asks.amounts))
    assert 100 < known < 500, "the price has moved, and nobody tells what stands beyond the snapshot's end"
    for limit in depth_limits():
        answer = case.mirror.answer(question(limit))
        assert answer == (orjson.dumps(case.rest(limit)) if limit <= known else None)


def test_a_side_that_is_known_to_its_end_answers_every_limit() -> None:
    case = Case()
    body = {"lastUpdateId": 10, "E": 0, "T": 0, "bids": [["9.10", "1"]], "asks": [["9.20", "2.0"], ["10.00", "3"]]}
    now_ms = case.clock.now_ms()
    body |= {"E": now_ms, "T": now_ms - 5}
    frame = BookUpdate(BTC, False, 11, 11, 10, [], [], now_ms, now_ms, now_ms)
    case.rules.received(frame, SOCKET, now_ms)
    case.rules.answered(msgspec.json.encode(body), now_ms)
    assert case.told(1_000) == body | {"lastUpdateId": 11, "T": now_ms}, "zeros at the end are printed"


def test_a_broken_book_asks_rest_until_it_is_proven_again() -> None:
    case = Case()
    case.begin()
    case.frames()  # lost
    case.hear()
    assert case.mirror.answer(question(5)) is None
    now_ms = case.clock.now_ms()
    case.rules.answered(orjson.dumps(case.rest(1_000)), now_ms)
    assert case.mirror.answer(question(5)) == orjson.dumps(case.rest(5))


def test_a_cut_book_asks_rest_at_once() -> None:
    case = Case()
    case.begin()
    case.rules.cut(SOCKET, GapReason.DISCONNECTED, case.clock.now_ms())
    assert case.mirror.answer(question(5)) is None


def test_a_silent_book_asks_rest() -> None:
    case = Case()
    case.begin()
    case.clock.advance(QUIET_MS_MAX - 1)
    assert case.mirror.answer(question(5)) is not None
    case.clock.advance(1)
    assert case.mirror.answer(question(5)) is None


def test_frames_that_come_late_ask_rest() -> None:
    case = Case()
    case.begin()
    late = case.frames()
    case.clock.advance(QUIET_MS_MAX)
    for frame in late:
        for event in case.venue.read("/public/stream", frame, case.clock.now_ms()):
            assert isinstance(event, BookUpdate)
            case.rules.received(event, SOCKET, case.clock.now_ms())
    assert case.rules.held() is not None
    assert case.mirror.answer(question(5)) is None, "what was sent a second ago is not the newest"


def test_other_decimals_than_before_ask_rest() -> None:
    case = Case()
    case.begin()
    held, now_ms = case.rules.held(), case.clock.now_ms()
    assert held is not None
    frame = BookUpdate(BTC, False, held.last + 1, held.last + 1, held.last, [("1", "0")], [], now_ms, now_ms, now_ms)
    case.rules.received(frame, SOCKET, now_ms)
    assert case.mirror.answer(question(5)) is None


def test_a_new_listener_of_the_stream_is_given_a_book_sent_after_its_first_frame() -> None:
    case = Case()
    case.begin()
    case.hear()
    case.started_ms = case.clock.now_ms()
    assert case.mirror.answer(question(5)) is None
    case.hear(STARTED_MS // STEP_MS)
    assert case.mirror.answer(question(5)) is None
    case.hear()
    assert case.mirror.answer(question(5)) is not None


def test_a_symbol_that_is_not_followed_asks_rest() -> None:
    case = Case()
    case.begin()
    assert case.mirror.answer(question(5, "ETHUSDT")) is None
    assert not case.mirror.wants_snapshot()


def test_a_held_book_equals_a_fresh_snapshot_and_one_that_does_not_begins_again() -> None:
    case = Case()
    case.begin()
    compared, equal = case.compare()
    assert equal == compared > 1_500
    held = case.rules.held()
    case.outlet.take()
    compared, equal = case.compare(lost=10)
    assert compared - 10 <= equal < compared, "what frames have set since is not compared"
    gaps = [each for each in records(case.outlet) if isinstance(each, Gap)]
    assert [gap.reason for gap in gaps] == [GapReason.UNEQUAL, GapReason.UNEQUAL], "opened and confirmed"
    assert case.rules.held() is not held
    assert case.mirror.answer(question(1_000)) == orjson.dumps(case.rest(1_000))
