"""A day's letter says what is known of all its rows: one missing row, or one dispute, is not hidden by the others."""

import random

from app.domain.interval import DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.verification import Check, Verification
from app.holding.coverage_days import CoverageDays, Question
from app.holding.inventory import Inventory
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish
from app.kinds.klines import KLINES
from app.ports.store import Disagreement
from tests.http.fakes import ManualClock

TODAY_MS = 20_000 * DAY_MS
NOW_MS = TODAY_MS + 10 * MINUTE_MS + 5_000
BTC = Series(KLINES, "BTCUSDT", M1)


def days_of(cache: LedgerCache, symbols: tuple[str, ...] = ("BTCUSDT",)) -> CoverageDays:
    wish = Wish(symbols, (M1,), 6, {}, {})
    return CoverageDays(ManualClock(NOW_MS), Inventory(cache, lambda: wish))


def asked(days: int = 8, *, offset: int = 0, limit: int = 10, incomplete: bool = False) -> Question:
    return Question(KLINES, M1, None, days, offset, limit, incomplete)


def day(number: int, start: int = 0, end: int = 1440) -> Span:
    """The minutes from `start` to `end` of the day `number` days ago."""
    began_ms = TODAY_MS - number * DAY_MS
    return Span(began_ms + start * MINUTE_MS, began_ms + end * MINUTE_MS)


async def test_each_day_has_the_letter_of_what_is_known_of_it() -> None:
    cache = LedgerCache()
    held = Spans([day(0, 0, 10), day(2), day(3), day(4, 0, 700), day(4, 701), day(5, 100), day(7)])
    ledger = Ledger().record(held, Source.REST).record(Spans([day(5, 0, 100), day(6)]), Source.ABSENT)
    cache.set_ledger(BTC, ledger)
    cache.set_verification(BTC, Verification([Check(day(2), NOW_MS), Check(day(4), NOW_MS), Check(day(5, 100), 1)]))
    cache.set_disagreement(Disagreement(BTC, day(3).start_ms, INTERVALS["5m"], "[]", "[]", NOW_MS))
    cache.revisions[BTC] = 3
    report = await days_of(cache).report(asked())
    letters = "havpdvmh"  # seven days ago is beyond the wish, and held all the same
    assert report["series"] == [{"symbol": "BTCUSDT", "missing": 1441, "revisions": 3, "days": letters}]
    assert (report["start"], report["days"]) == (day(7).start_ms, 8)


async def test_the_letters_agree_with_a_count_minute_by_minute() -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    cache = LedgerCache()
    ledger = Ledger()
    for _ in range(60):
        start = rng.randrange(6 * 1440)
        span = day(6, start, start + rng.choice((1, 30, 1440, 3000))).clip(Span(0, TODAY_MS))
        if span:
            source = rng.choice((Source.REST, Source.ABSENT))
            ledger = ledger.record(ledger.writable(span, source), source)
    cache.set_ledger(BTC, ledger)
    report = await days_of(cache).report(asked(7))
    expected = ""
    for number in range(6, -1, -1):
        minutes = range(*day(number, 0, 1440 if number else 10), MINUTE_MS)
        sources = [ledger.source_at(open_ms) for open_ms in minutes]
        if None in sources:
            expected += "m" if set(sources) == {None} else "p"
        else:
            expected += "a" if set(sources) == {Source.ABSENT} else "h"
    series = report["series"]
    assert isinstance(series, list)
    assert series[0]["days"] == expected, f"seed {seed}"


async def test_pages_are_in_the_order_of_the_names_and_incomplete_ones_can_be_asked_for_alone() -> None:
    cache = LedgerCache()
    names = ("CUSDT", "AUSDT", "BUSDT")
    whole = Spans([Span(day(6).start_ms, day(0, 0, 10).end_ms)])
    for name in names[:2]:
        cache.set_ledger(Series(KLINES, name, M1), Ledger().record(whole, Source.REST))
    pages = days_of(cache, names)
    found = await pages.report(asked(2, offset=1, limit=1))
    assert (found["total"], found["kinds"]) == (3, [{"kind": "trades", "intervals": ["1m"]}])
    assert found["series"] == [{"symbol": "BUSDT", "missing": 1450, "revisions": 0, "days": "mm"}]
    lacking = await pages.report(asked(2, incomplete=True))
    assert (lacking["total"], lacking["series"]) == (1, found["series"])
