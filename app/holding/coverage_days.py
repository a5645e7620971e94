"""Coverage by day: one letter for each day of a series, so that a page shows hundreds of them side by side."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from app.domain.interval import D1, DAY_MS, M1, Interval
from app.domain.kind import Kind
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.gaps import survey
from app.holding.inventory import Inventory
from app.holding.wish import Wish
from app.ports.clock import Clock

DAYS_MAX: Final = 1_100  # three years: the letters of a page of 100 series take 110 kB


class Day(StrEnum):
    """What is known of a series' rows that open on a day."""

    DISPUTED = "d"
    """The exchange contradicts itself about one of them."""
    MISSING = "m"
    """None of those that are wished is held or proven absent."""
    PARTIAL = "p"
    """Some are missing."""
    VERIFIED = "v"
    """Nothing is missing, and all that is held was found equal to the exchange's."""
    HELD = "h"
    """Nothing is missing."""
    ABSENT = "a"
    """All are proven absent."""
    NOTHING = "."
    """None is wished, and nothing is known."""


class Question(NamedTuple):
    """Which series, by kind and interval; which days: `days` of them, the last begins at `end_ms`; and the page."""

    kind: Kind
    interval: Interval
    end_ms: int | None
    """None: today."""
    days: int
    offset: int
    limit: int
    is_incomplete: bool
    """Only series with something missing in these days."""


class CoverageDays:
    """Sums up the ledgers by day."""

    def __init__(self, clock: Clock, inventory: Inventory) -> None:
        self._clock = clock
        self._ledgers = inventory.ledgers
        self._wish = inventory.wish

    async def report(self, question: Question) -> dict[str, object]:
        """A page of series in the order of the alphabet, each with a letter (`Day`) for each day; times in ms.

        Other requests are answered between the series: each is as of the moment when it was read. `as_of` is a minute,
        so that the report is the same until the ledger changes or the next klines are due.
        """
        now_ms = self._clock.now_ms()
        wish = self._wish()
        kinds, found = _sorted(wish, question)
        last_ms = D1.grid.floor(now_ms if question.end_ms is None else min(question.end_ms, now_ms))
        window = Span(last_ms - (question.days - 1) * DAY_MS, last_ms + DAY_MS)
        if question.is_incomplete:
            found = [series for series in found if await self._is_incomplete(wish, series, window)]
        page = []
        for series in found[question.offset : question.offset + question.limit]:
            await self._clock.sleep(0)
            page.append(self._series(wish, series, window, now_ms))
        return {
            "as_of": M1.grid.floor(now_ms),
            "kind": question.kind.name,
            "interval": question.interval.code,
            "start": window.start_ms,
            "days": question.days,
            "kinds": kinds,
            "total": len(found),
            "offset": question.offset,
            "series": page,
        }

    async def _is_incomplete(self, wish: Wish, series: Series, window: Span) -> bool:
        await self._clock.sleep(0)
        return bool(survey(wish, self._ledgers, series, self._clock.now_ms()).missing.clip(window))

    def _series(self, wish: Wish, series: Series, window: Span, now_ms: int) -> dict[str, object]:
        gap = survey(wish, self._ledgers, series, now_ms)
        missing = gap.missing.clip(window)
        return {
            "symbol": series.name,
            "missing": sum(gap.grid.count(*span) for span in missing),
            "revisions": self._ledgers.revisions[series],
            "days": self._letters(series, missing, window),
        }

    def _letters(self, series: Series, missing: Spans, window: Span) -> str:
        ledger = self._ledgers.ledger(series)
        sums = [
            _by_day(spans, window)
            for spans in (missing, ledger.held, ledger.absent, self._ledgers.verification(series).spans)
        ]
        letters = [_letter(*each) for each in zip(*sums, strict=True)]
        for open_ms, _ in self._ledgers.disagreements(series):
            if window.start_ms <= open_ms < window.end_ms:
                letters[(open_ms - window.start_ms) // DAY_MS] = Day.DISPUTED
        return "".join(letters)


def _sorted(wish: Wish, question: Question) -> tuple[list[dict[str, object]], list[Series]]:
    """The kinds with their intervals, of which there are series; and the series of the question's, by name."""
    intervals: dict[Kind, dict[str, None]] = {}
    found = []
    for series in wish.series():
        intervals.setdefault(series.kind, {})[series.interval.code] = None
        if (series.kind, series.interval) == (question.kind, question.interval):
            found.append(series)
    kinds: list[dict[str, object]] = [
        {"kind": kind.name, "intervals": list(codes)} for kind, codes in intervals.items()
    ]
    return kinds, sorted(found, key=lambda series: series.name)


def _by_day(spans: Spans, window: Span) -> Sequence[int]:
    """For each day of `window`: how many of its milliseconds are in `spans`."""
    sums = [0] * ((window.end_ms - window.start_ms) // DAY_MS)
    for start_ms, end_ms in spans.clip(window):
        begin_ms, length_ms = start_ms - window.start_ms, end_ms - start_ms
        first, last = begin_ms // DAY_MS, (begin_ms + length_ms - 1) // DAY_MS
        if first == last:
            sums[first] += length_ms
            continue
        sums[first] += (first + 1) * DAY_MS - begin_ms
        sums[first + 1 : last] = [DAY_MS] * (last - first - 1)
        sums[last] += begin_ms + length_ms - last * DAY_MS
    return sums


def _letter(missing_ms: int, held_ms: int, absent_ms: int, verified_ms: int) -> Day:
    if missing_ms:
        return Day.PARTIAL if held_ms or absent_ms else Day.MISSING
    if held_ms:
        return Day.VERIFIED if verified_ms >= held_ms else Day.HELD
    return Day.ABSENT if absent_ms else Day.NOTHING
