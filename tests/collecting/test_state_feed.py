"""Of a state the latest value counts, and what was not seen is a gap by time."""

from app.collecting.ledger import Origin
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpans
from app.collecting.state_feed import SILENCE_MS, StateFeed
from app.domain.gap_reason import GapReason
from app.domain.records import DataType, Gap, Ticker
from tests.collecting.made import BTC, ask, chance, feed, records, venue


def begin(newest_ms: int | None = None, data_type: DataType = DataType.TICKER) -> tuple[StateFeed, Outlet]:
    outlet = Outlet()
    rules = StateFeed(feed(data_type), venue(), Origin(SequenceSpans(), newest_ms=newest_ms), outlet, chance())
    rules.tick(0)
    return rules, outlet


def ticker(time_ms: int, price: str) -> Ticker:
    return Ticker(BTC, time_ms, time_ms, last_price=price)


def shown(outlet: Outlet) -> list[object]:
    return [
        (each.state.value, each.reason, each.from_ms, each.to_ms) if isinstance(each, Gap) else each.last_price
        for each in records(outlet)
        if isinstance(each, Gap | Ticker)
    ]


def test_the_latest_value_counts() -> None:
    rules, outlet = begin()
    for value in (ticker(10, "1"), ticker(20, "2"), ticker(10, "1"), ticker(20, "2"), ticker(20, "3")):
        rules.received(value, 1, 20)
    assert shown(outlet) == ["1", "2", "3"]


def test_a_cut_is_a_gap_until_the_next_value() -> None:
    rules, outlet = begin()
    rules.received(ticker(10, "1"), 1, 10)
    rules.cut(1, GapReason.DISCONNECTED, 50)
    rules.cut(1, GapReason.SILENT, 60)
    rules.received(ticker(90, "1"), 2, 95)
    assert shown(outlet) == [
        "1",
        ("open", "disconnected", 10, 50),
        ("confirmed", "disconnected", 10, 90),
        "1",
    ]


def test_a_silence_is_a_gap_and_the_channel_is_subscribed_again() -> None:
    rules, outlet = begin()
    rules.received(ticker(10, "1"), 1, 10)
    rules.tick(10 + SILENCE_MS)
    assert shown(outlet)[1:] == [("open", "silent", 10, 10 + SILENCE_MS)]
    assert outlet.resubscribes == [(feed(DataType.TICKER), 0)]


def test_a_restart_is_a_gap_from_the_newest_that_was_stored() -> None:
    rules, outlet = begin(newest_ms=7)
    rules.received(ticker(30, "2"), 1, 30)
    assert shown(outlet) == [("open", "start", 7, 7), ("confirmed", "start", 7, 30), "2"]


def test_a_polled_state_is_polled_and_a_failed_poll_repeated() -> None:
    rules, outlet = begin(data_type=DataType.OPEN_INTEREST)
    ask(rules, 0)
    rules.failed(0)
    assert 0 < rules.due_ms < 5_000
    now_ms = rules.due_ms
    ask(rules, now_ms)
    rules.answered(b'{"kind":"open_interest","t":5,"amount":"12"}', now_ms)
    assert len(records(outlet)) == 1
    assert rules.due_ms == now_ms + 15_000


def test_a_gap_ends_with_the_feed() -> None:
    rules, outlet = begin()
    rules.received(ticker(10, "1"), 1, 10)
    rules.cut(1, GapReason.DISCONNECTED, 50)
    shown(outlet)
    rules.leave(90)
    assert shown(outlet) == [("abandoned", "unsubscribed", 10, 90)]
    rules.leave(95)
    assert shown(outlet) == []
