"""Forecasts pass when they changed; the rates that were paid come once and none is left out."""

import msgspec

from app.collecting.funding_feed import AFTER_PAID_MS, FIRST_MS, PAID_EVERY_MS, WINDOW_MS, FundingFeed
from app.collecting.ledger import Origin
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpans
from app.domain.interval import DAY_MS, HOUR_MS
from app.domain.records import DataType, FundingRate
from tests.collecting.made import BTC, ask, chance, feed, records, venue

NOW_MS = 1_000 * DAY_MS


def begin(known: SequenceSpans | None = None) -> tuple[FundingFeed, Outlet]:
    outlet = Outlet()
    rules = FundingFeed(feed(DataType.FUNDING_RATE), venue(), Origin(known or SequenceSpans()), outlet, chance())
    rules.tick(NOW_MS)
    return rules, outlet


def forecast(rate: str, funding_ms: int, time_ms: int) -> FundingRate:
    return FundingRate(BTC, rate, funding_ms, time_ms, time_ms, False)


def body(*paid_ms: int) -> bytes:
    return msgspec.json.encode({"kind": "funding", "rows": [["0.1", each, each, True] for each in paid_ms]})


def paid(outlet: Outlet) -> list[int]:
    return [each.funding_ms for each in records(outlet) if isinstance(each, FundingRate) and each.is_final]


def test_a_forecast_passes_only_when_it_changed() -> None:
    rules, outlet = begin()
    for rate, time_ms in (("0.1", 1), ("0.1", 2), ("0.2", 3), ("0.1", 2)):
        rules.received(forecast(rate, NOW_MS + HOUR_MS, NOW_MS + time_ms), 1, NOW_MS)
    assert [each.rate for each in records(outlet) if isinstance(each, FundingRate)] == ["0.1", "0.2"]


def test_a_feed_that_begins_has_the_rates_of_the_last_day_once() -> None:
    rules, outlet = begin()
    assert int(dict(ask(rules, NOW_MS).params)["first"]) == NOW_MS - FIRST_MS
    rules.answered(body(NOW_MS - FIRST_MS - 1, NOW_MS - 9 * HOUR_MS, NOW_MS - HOUR_MS), NOW_MS)
    assert paid(outlet) == [NOW_MS - 9 * HOUR_MS, NOW_MS - HOUR_MS]
    ask(rules, rules.due_ms)
    rules.answered(body(NOW_MS - HOUR_MS), NOW_MS)
    assert paid(outlet) == []


def test_after_a_long_outage_window_after_window_is_asked_for_from_the_newest_stored_on() -> None:
    newest_ms = NOW_MS - 20 * DAY_MS
    rules, outlet = begin(SequenceSpans([(newest_ms, newest_ms + 1, newest_ms, newest_ms)]))
    truth = [newest_ms + 8 * HOUR_MS * n for n in range(61)]
    asked = 0
    while rules.wanted(NOW_MS) is not None:
        params = dict(ask(rules, NOW_MS).params)
        first_ms, end_ms = int(params["first"]), int(params["end"])
        assert end_ms - first_ms <= WINDOW_MS
        rules.answered(body(*[each for each in truth if first_ms <= each < end_ms]), NOW_MS)
        asked += 1
        rules.tick(NOW_MS)
    assert paid(outlet) == truth[1:]
    assert asked <= 8


def test_a_forecast_of_the_next_time_shows_that_a_rate_was_paid() -> None:
    rules, _ = begin()
    ask(rules, NOW_MS)
    rules.answered(body(), NOW_MS)
    rules.received(forecast("0.1", NOW_MS, NOW_MS), 1, NOW_MS)
    rules.received(forecast("0.1", NOW_MS + HOUR_MS, NOW_MS + 1), 1, NOW_MS + 1)
    assert rules.due_ms == NOW_MS + AFTER_PAID_MS


def test_without_any_forecast_the_rate_is_asked_for_after_each_full_hour() -> None:
    rules, _ = begin()
    now_ms = NOW_MS + HOUR_MS - 60_000
    ask(rules, now_ms)
    rules.answered(body(), now_ms)
    assert rules.due_ms == NOW_MS + HOUR_MS + AFTER_PAID_MS


def test_an_answer_from_before_the_full_hour_does_not_stand_for_it() -> None:
    """Found by the simulation: it came after the hour, and the rate paid in between was five minutes late."""
    rules, _ = begin()
    for asked_ms in (NOW_MS - 1_000, NOW_MS, NOW_MS + AFTER_PAID_MS - 1):
        rules.tick(asked_ms)
        if rules.wanted(asked_ms) is not None:
            rules.sent(asked_ms)
            rules.answered(body(), asked_ms + 1_600)
        assert rules.due_ms == NOW_MS + AFTER_PAID_MS
    ask(rules, NOW_MS + AFTER_PAID_MS)
    rules.answered(body(), NOW_MS + AFTER_PAID_MS + 100)
    assert rules.due_ms == NOW_MS + AFTER_PAID_MS + 100 + PAID_EVERY_MS
