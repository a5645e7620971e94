"""Coverage: the report that shows users the ledger compared with the wish."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from app.binance.evidence import stated
from app.binance.rest_form import SymbolDigits
from app.domain.interval import D1, DAY_MS, M1, Interval
from app.domain.ledger import Source
from app.domain.span import Span
from app.holding.gaps import SeriesGap, survey
from app.holding.inventory import Inventory
from app.holding.metrics_looks import Look, Looks, month_of
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable
from app.ports.store import Disagreement

DAYS_MAX: Final = 100  # with absent rows, listed per series of metrics
DESCRIBE_S_MAX: Final = 5.0
"""Of one report, for all that it reads of the store: a thousand series take a second of a store that is well."""
NOT_IN_FILE: Final = "the archive's file of the day has no such row"
NOT_LOOKED: Final = Look(None, "the exchange was asked and had no such row", 0)
SPANS_MAX: Final = 1_000  # newest spans listed per series; the counts cover all of a more fragmented ledger


class Gathered(NamedTuple):
    """How far the series of a gathered kind are behind: ages (ms) of the newest held rows, None without any."""

    series: int
    held: int
    """Series of which a row is held."""
    p50_ms: int | None
    p99_ms: int | None

    @classmethod
    def of(cls, ages_ms: Sequence[int | None]) -> "Gathered":
        """From the age of each series, None where no row is held."""
        known = sorted(age for age in ages_ms if age is not None)
        p50_ms, p99_ms = (known[int(degree * len(known))] if known else None for degree in (0.5, 0.99))
        return cls(len(ages_ms), len(known), p50_ms, p99_ms)


class Coverage:
    """Reports, per series, which spans are held (and from where), proven absent, and missing."""

    def __init__(
        self,
        clock: Clock,
        inventory: Inventory,
        digits: Callable[[str], Awaitable[SymbolDigits]] | None = None,
        looks: Callable[[str, int], Awaitable[Looks]] | None = None,
    ) -> None:
        """`digits`: what was learned about a symbol's rows from the archive; `looks`: what was seen of a month's files.

        Without them nothing is reported of that. Both may raise StoreUnavailable.
        """
        self._clock = clock
        self._digits = digits
        self._looks = looks
        self._holdings = inventory.ledgers
        self._wish = inventory.wish

    def gaps(self, symbol: str | None = None, interval: Interval | None = None) -> list[SeriesGap]:
        """Compare wish and ledger of every wished series, or only of one symbol's or one interval's."""
        wish, now_ms = self._wish(), self._clock.now_ms()
        return [
            survey(wish, self._holdings, series, now_ms)
            for series in wish.series()
            if (symbol is None or series.name == symbol) and (interval is None or series.interval == interval)
        ]

    def tail_lags(self) -> list[tuple[dict[str, str], float]]:
        """For metrics, per interval: the seconds since the newest held kline's close, of the symbol furthest behind."""
        now_ms = self._clock.now_ms()
        newest: dict[str, int] = {}
        wish = self._wish()
        for series in wish.planned():
            if wish.is_over(series, now_ms):
                continue
            held = self._holdings.ledger(series).held
            end_ms = next(reversed(held)).end_ms if held else 0
            code = series.interval.code
            newest[code] = min(newest.get(code, end_ms), end_ms)
        return [({"interval": code}, (now_ms - end_ms) / 1000) for code, end_ms in newest.items() if end_ms]

    def gathered(self) -> dict[str, Gathered]:
        """By name of each wished gathered kind: how far its series are behind."""
        now_ms = self._clock.now_ms()
        ages_ms: dict[str, list[int | None]] = {}
        for series in self._wish().gathered():
            held = self._holdings.ledger(series).held
            ages_ms.setdefault(series.kind.name, []).append(now_ms - held.hull.end_ms if held else None)
        return {name: Gathered.of(ages) for name, ages in ages_ms.items()}

    def gathered_ages(self) -> list[tuple[dict[str, str], float]]:
        """For metrics, per gathered kind: seconds since the end of the newest held row's period.

        `share` is the share of the series that are at most as far behind. Prometheus keeps the label `quantile` for
        summaries.
        """
        return [
            ({"kind": name, "share": share}, age_ms / 1000)
            for name, found in self.gathered().items()
            for share, age_ms in (("0.5", found.p50_ms), ("0.99", found.p99_ms))
            if age_ms is not None
        ]

    async def full_report(
        self, symbol: str | None, interval: Interval | None, offset: int, limit: int, *, incomplete: bool = False
    ) -> dict[str, object]:
        """The report, with what was learned about rows from the archive as far as the store answers in DESCRIBE_S_MAX.

        The first read that fails is the last: of a store that does not answer, each would wait for as long.
        """
        report, page = self._report(symbol, interval, offset, limit, incomplete=incomplete)
        described = [self._series(gap) for gap in page]
        with suppress(StoreUnavailable, TimeoutError):  # the ledger is in memory, and worth reporting also then
            async with asyncio.timeout(DESCRIBE_S_MAX):
                for gap, series in zip(page, described, strict=True):
                    await self._describe(gap, series)
        return {**report, "series": described}

    async def _describe(self, gap: SeriesGap, series: dict[str, object]) -> None:
        """Add to the report of a series what was learned about its rows from the archive. Raises StoreUnavailable."""
        kind = gap.series.kind
        if self._digits is None or kind.archived_form is None:
            return
        series["digits"] = _learned(kind.name, await self._digits(gap.series.symbol))
        if self._looks is not None:
            series["absent_days"] = await self._absent_days(gap, self._looks)

    async def _absent_days(
        self, gap: SeriesGap, looks_of: Callable[[str, int], Awaitable[Looks]]
    ) -> list[dict[str, object]]:
        """Why rows are absent, by the newest DAYS_MAX days of which some are. Raises StoreUnavailable."""
        found: list[dict[str, object]] = []
        looks: Looks = {}
        for span in reversed(self._holdings.ledger(gap.series).absent):
            for day_ms in range(D1.grid.floor(span.end_ms - 1), D1.grid.floor(span.start_ms) - 1, -DAY_MS):
                if found and found[-1]["day"] == day_ms:
                    continue
                if len(found) == DAYS_MAX:
                    return found
                if day_ms not in looks:
                    looks = await looks_of(gap.series.symbol, month_of(day_ms).start_ms)
                look = looks.get(day_ms, NOT_LOOKED)
                found.append({"day": day_ms, "reason": look.reason or NOT_IN_FILE, "looked": look.looked_ms or None})
        return found

    def report(
        self, symbol: str | None, interval: Interval | None, offset: int, limit: int, *, incomplete: bool = False
    ) -> dict[str, object]:
        """One page of the report. Times are in ms; spans are half-open `[start, end)` of open times.

        `as_of` is the minute up to which klines are due; until the next minute only a ledger change alters the report.
        """
        report, page = self._report(symbol, interval, offset, limit, incomplete=incomplete)
        return {**report, "series": [self._series(gap) for gap in page]}

    def _report(
        self, symbol: str | None, interval: Interval | None, offset: int, limit: int, *, incomplete: bool
    ) -> tuple[dict[str, object], list[SeriesGap]]:
        """The report without its series, and the gaps of these."""
        found = self.gaps(symbol, interval)
        wished = sum(gap.grid.count(*span) for gap in found for span in gap.wished)
        missing = sum(gap.grid.count(*span) for gap in found for span in gap.missing)
        if incomplete:
            found = [gap for gap in found if gap.missing]
        report = {
            "as_of": M1.grid.floor(self._clock.now_ms() - CLOSE_GRACE_MS),
            "total": len(found),
            "offset": offset,
            "wished": wished,
            "missing": missing,
            "completeness": _percent(wished, missing),
        }
        return report, found[offset : offset + limit]

    def _series(self, gap: SeriesGap) -> dict[str, object]:
        ledger = self._holdings.ledger(gap.series)
        verification = self._holdings.verification(gap.series)
        wished = sum(gap.grid.count(*span) for span in gap.wished)
        missing = sum(gap.grid.count(*span) for span in gap.missing)
        return {
            "symbol": gap.series.name,
            "interval": gap.series.interval.code,
            "wished": [_pair(span) for span in gap.wished],
            "held": [
                {"start": entry.span.start_ms, "end": entry.span.end_ms, "source": entry.source.value}
                for entry in ledger.entries[-SPANS_MAX:]
                if entry.source is not Source.ABSENT
            ],
            "absent": [_pair(span) for span in list(ledger.absent)[-SPANS_MAX:]],
            "missing": [_pair(span) for span in list(gap.missing)[-SPANS_MAX:]],
            "verified": [
                {"start": check.span.start_ms, "end": check.span.end_ms, "at": check.at_ms}
                for check in verification.checks[-SPANS_MAX:]
            ],
            "verified_up_to": verification.end_ms,
            "disagreements": [
                _disagreement(found) for found in list(self._holdings.disagreements(gap.series).values())[-SPANS_MAX:]
            ],
            "revisions": self._holdings.revisions[gap.series],
            "klines_wished": wished,
            "klines_missing": missing,
            "completeness": _percent(wished, missing),
        }


def _learned(endpoint: str, digits: SymbolDigits) -> dict[str, Any]:
    """By column: the rule by which rows from the archive are printed; and the values in which REST differs."""
    return {
        "columns": {
            column: {
                "verdict": evidence.verdict.value,
                "rule": stated(evidence.proven),
                "pairs": evidence.pairs,
                "mismatches": evidence.mismatches,
            }
            for (kind, column), evidence in digits.evidence.items()
            if kind == endpoint
        },
        "mismatches": [
            {"open": found.open_ms, "column": found.column, "archive": found.archived, "rest": found.rest}
            for found in digits.last
            if found.endpoint == endpoint
        ],
    }


def _pair(span: Span) -> dict[str, int]:
    return {"start": span.start_ms, "end": span.end_ms}


def _disagreement(found: Disagreement) -> dict[str, object]:
    return {
        "open": found.open_ms,
        "other": found.other.code,
        "ours": msgspec.Raw(found.ours.encode()),
        "theirs": msgspec.Raw(found.theirs.encode()),
        "seen": found.seen_ms,
    }


def _percent(wished: int, missing: int) -> str:
    """Completeness in percent as text with two decimals, rounded down: 100.00 means that nothing is missing."""
    hundredths = 10_000 if not wished else (wished - missing) * 10_000 // wished
    return f"{hundredths // 100}.{hundredths % 100:02d}"
