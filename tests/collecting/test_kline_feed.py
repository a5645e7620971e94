"""Finals come once and complete; the kline in progress passes as it comes."""

import msgspec

from app.collecting.backfill import ABSENT_AGAIN_MS
from app.collecting.kline_feed import FETCH_AFTER_MS, FUTURE_MS, GAP_AFTER_MS, KlineFeed
from app.collecting.ledger import Origin
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpans
from app.domain.interval import MINUTE_MS
from app.domain.records import DataType, Gap, KlineRecord
from tests.collecting.made import BTC, ask, chance, feed, records, venue


def begin(known: SequenceSpans | None = None) -> tuple[KlineFeed, Outlet]:
    outlet = Outlet()
    rules = KlineFeed(feed(DataType.KLINE), venue(), Origin(known or SequenceSpans()), outlet, chance())
    rules.tick(0)
    return rules, outlet


def kline(minute: int, close: str = "1", *, is_final: bool = False, time_ms: int = 0) -> KlineRecord:
    return KlineRecord(BTC, "1m", minute * MINUTE_MS, "1", "1", "1", close, "1", is_final, time_ms, 0)


def body(*minutes: int) -> bytes:
    rows = [[minute * MINUTE_MS, "1", "1", "1", "1", "1", True, 0] for minute in minutes]
    return msgspec.json.encode({"kind": "klines", "rows": rows})


def shown(outlet: Outlet) -> list[object]:
    return [
        (each.state.value, each.reason, each.from_sequence, each.to_sequence)
        if isinstance(each, Gap)
        else (each.open_ms // MINUTE_MS, each.is_final)
        for each in records(outlet)
        if isinstance(each, Gap | KlineRecord)
    ]


def test_live_klines_pass_when_they_changed_and_finals_once() -> None:
    rules, outlet = begin()
    for event in (
        kline(5, "1", time_ms=1),
        kline(5, "2", time_ms=2),
        kline(5, "2", time_ms=2),
        kline(5, "1", time_ms=1),
        kline(5, "2", is_final=True, time_ms=3),
        kline(5, "2", is_final=True, time_ms=3),
        kline(5, "2", time_ms=2),
        kline(6, "2", time_ms=4),
    ):
        rules.received(event, 1, 6 * MINUTE_MS)
    assert shown(outlet) == [(5, False), (5, False), (5, True), (6, False)]


def test_a_final_that_the_socket_does_not_bring_is_fetched_after_the_close_without_a_gap() -> None:
    rules, outlet = begin()
    rules.received(kline(5), 1, 5 * MINUTE_MS)
    shown(outlet)
    assert rules.due_ms == 6 * MINUTE_MS + FETCH_AFTER_MS
    request = ask(rules, rules.due_ms)
    assert int(dict(request.params)["first"]) <= 5 * MINUTE_MS < int(dict(request.params)["end"])
    rules.answered(body(4, 5), 6 * MINUTE_MS + FETCH_AFTER_MS)
    assert shown(outlet) == [(5, True)]
    rules.received(kline(5, is_final=True), 1, 6 * MINUTE_MS + 5_000)
    assert shown(outlet) == []


def test_a_final_that_is_missing_for_too_long_is_a_gap() -> None:
    rules, outlet = begin()
    rules.received(kline(5), 1, 5 * MINUTE_MS)
    shown(outlet)
    now_ms = 6 * MINUTE_MS + FETCH_AFTER_MS
    ask(rules, now_ms)
    rules.failed(now_ms)
    now_ms = 6 * MINUTE_MS + GAP_AFTER_MS
    rules.tick(now_ms)
    assert shown(outlet) == [("open", "missing", 5, 6)]
    ask(rules, now_ms)
    rules.answered(body(5), now_ms)
    assert shown(outlet) == [(5, True), ("closed", "missing", 5, 6)]


def test_a_minute_that_the_exchange_left_out_is_confirmed() -> None:
    rules, outlet = begin(SequenceSpans([(5, 6, 0, 0), (7, 8, 0, 0)]))
    now_ms = 8 * MINUTE_MS
    rules.tick(now_ms)
    for time_ms in (now_ms, now_ms + ABSENT_AGAIN_MS):
        ask(rules, time_ms)
        rules.answered(body(5, 7), time_ms)
    assert shown(outlet)[:2] == [("open", "start", 6, 7), ("confirmed", "absent", 6, 7)]


def test_a_kline_from_the_future_is_dropped() -> None:
    rules, outlet = begin()
    rules.received(kline(500), 1, 5 * MINUTE_MS - FUTURE_MS)
    assert shown(outlet) == []
    assert outlet.counters["unreadable"] == 1


def test_finals_that_nobody_will_fetch_are_abandoned_with_the_feed() -> None:
    rules, outlet = begin()
    rules.received(kline(5), 1, 5 * MINUTE_MS)
    rules.received(kline(7, is_final=True), 1, 8 * MINUTE_MS)
    shown(outlet)
    rules.leave(8 * MINUTE_MS)
    assert shown(outlet) == [("abandoned", "unsubscribed", 5, 7)]
