"""Absence: the evidence required before the exchange's claim to have no klines in a span is believed.

An exchange that has lost its history for some seconds answers like one that never had it. Therefore held rows of any
interval of the symbol refute such a claim, the archive is asked where the listing's date disagrees, and the exchange
must repeat the claim later. A listing's date is a hint: it decides how much evidence is needed, never what is true.
"""

import asyncio
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from cachetools import LRUCache

from app.binance.archive_csv import ArchiveFile
from app.domain.interval import D1, DAY_MS, M1, MINUTE_MS, Grid
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span
from app.domain.symbol import Symbol
from app.domain.validity import is_fresh
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.ports.errors import UpstreamError, UpstreamGarbage
from app.ports.exchange import Archive

AGAIN_MS: Final = 5_000
"""The exchange must repeat a claim of absence after this long before a user's answer relies on that claim alone."""

SERIES_MAX: Final = 8_192  # series whose claims are kept: a few hundred bytes each
CLAIMS_MAX: Final = 16  # claims kept per series
FILES_MAX: Final = 4_096  # cached results of asking whether the archive has a day's file
FILE_AGE_MS_MAX: Final = 10 * MINUTE_MS
SILENCE_AGE_MS_MAX: Final = MINUTE_MS  # an archive that did not answer is asked again after this long
FILE_S_MAX: Final = 5.0  # a user may be waiting, and bots give up after ten seconds

_PENDING: Final = "PENDING_TRADING"  # listed, and not traded yet (binance-facts section 4)


class Unproven(UpstreamGarbage):
    """The exchange claims to have no klines in a span; the claim is believed if it still stands at `until_ms`."""

    def __init__(self, reason: str, until_ms: int) -> None:
        super().__init__(reason, Reason.NOT_WHOLE)
        self.until_ms = until_ms


class Doubt(Enum):
    """How strong the evidence is against the claim that a symbol has no klines before a given time."""

    NONE = "its listing, or the proven begin of its minutes, says the same"
    LATE = "its listing is later, and the archive has no file of the day before"
    LATE_UNHEARD = "its listing is later, and the archive cannot say"
    NEAR = "it was listed less than a day earlier"
    NO_FILE = "it was listed earlier, and the archive has no file of the day before either"
    ANY_BEGIN = "its listing says otherwise, and rows of this kind may begin at any time"
    UNHEARD = "it was listed earlier, and the archive cannot say"
    CONTRADICTED = "the archive has a file of the day before"


ANSWER_AFTER_MS: Final = {
    Doubt.NONE: 0,
    Doubt.LATE: 0,  # BTCUSDT is such a symbol, and clients begin with its first kline
    Doubt.LATE_UNHEARD: AGAIN_MS,
    Doubt.NEAR: 2 * MINUTE_MS,
    Doubt.NO_FILE: AGAIN_MS,
    Doubt.ANY_BEGIN: AGAIN_MS,
    Doubt.UNHEARD: 5 * MINUTE_MS,
    Doubt.CONTRADICTED: 30 * MINUTE_MS,
}
"""How long (ms) the exchange must have claimed an absence before users' answers rely on it: REST defines the answer."""

RECORD_AFTER_MS: Final[Mapping[Doubt, int]] = {
    Doubt.NONE: 10_000,
    Doubt.LATE: 2 * MINUTE_MS,
    Doubt.LATE_UNHEARD: 30 * MINUTE_MS,
    Doubt.NEAR: 2 * MINUTE_MS,
    Doubt.NO_FILE: 2 * MINUTE_MS,
    Doubt.ANY_BEGIN: 2 * MINUTE_MS,
    Doubt.UNHEARD: 30 * MINUTE_MS,
}
"""How long (ms) a claim must stand before the ledger records it and it is not checked again for days.

A claim that the archive contradicts is never recorded.
"""


class _Claim(NamedTuple):
    span: Span
    since_ms: int
    said_ms: int
    """When the exchange last repeated the claim."""


class Absence:
    """Judges the exchange's claims to have no klines in a span, and records since when each claim stands."""

    def __init__(
        self, clock: Clock, holdings: LedgerCache, listing: Callable[[str], Symbol | None], archive: Archive
    ) -> None:
        self._clock = clock
        self._holdings = holdings
        self._listing = listing
        self._archive = archive
        self._claims: LRUCache[Series, tuple[_Claim, ...]] = LRUCache(SERIES_MAX)
        self._files: LRUCache[ArchiveFile, tuple[bool | None, int]] = LRUCache(FILES_MAX)

    # --- what the exchange says -----------------------------------------------------------------------------------

    def note_claim(self, series: Series, span: Span, pause_ms_max: int | None = None) -> int:
        """Record that the exchange now claims to have nothing in `span`; return the age of that claim in ms.

        `pause_ms_max`: a claim that was not repeated for longer than this (ms) counts as a new one.
        """
        now_ms = self._clock.now_ms()
        claims = [claim for claim in self._claims.get(series, ()) if claim.said_ms <= now_ms]  # the clock may go back
        same = [claim for claim in claims if claim.span.clip(span) == span]
        recent = [claim for claim in same if pause_ms_max is None or now_ms - claim.said_ms <= pause_ms_max]
        since_ms = min((claim.since_ms for claim in recent), default=now_ms)
        others = [claim for claim in claims if claim.span.clip(span) != claim.span]
        self._claims[series] = (*others[1 - CLAIMS_MAX :], _Claim(span, since_ms, now_ms))
        return now_ms - since_ms

    def found(self, series: Series, span: Span) -> None:
        """Klines were found in `span`: drop the claims that there are none."""
        claims = self._claims.get(series)
        if claims and any(claim.span.clip(span) for claim in claims):
            self._claims[series] = tuple(claim for claim in claims if not claim.span.clip(span))

    def check(self, series: Series, span: Span, after_ms: int, pause_ms_max: int | None = None) -> None:
        """Record the exchange's claim to have nothing in `span`; raise Unproven until the claim is `after_ms` old."""
        age_ms = self.note_claim(series, span, pause_ms_max)
        if age_ms < after_ms:
            until_ms = self._clock.now_ms() + after_ms - age_ms
            raise Unproven(f"{series.name} {series.interval}: no klines in {tuple(span)}, says the exchange", until_ms)

    # --- what speaks against it -----------------------------------------------------------------------------------

    def refuted_by(self, series: Series, span: Span) -> Series | None:
        """A series of the same symbol that holds a whole kline inside `span`; None when there is none."""
        for each in self._holdings.of_other_intervals(series):
            if each != series and not series.kind.rolls_up:
                continue  # each interval has holes and a begin of its own
            grid = self._holdings.grid(each)
            for piece in self._holdings.ledger(each).held.clip(span):
                first_ms = grid.ceil(piece.start_ms)
                if first_ms < piece.end_ms and grid.shift(first_ms, 1) <= span.end_ms:
                    return each
        return None

    def is_absent_elsewhere(self, series: Series, hole: Span) -> bool:
        """Whether the ledger of another interval of the same trades records `hole` as absent."""
        return series.kind.rolls_up and any(
            self._holdings.ledger(each).absent.covers(hole)
            for each in self._holdings.of_other_intervals(series)
            if each != series
        )

    def must_not_lack(self, series: Series, span: Span) -> None:
        """Raise UpstreamGarbage when held rows refute the claim that the exchange has nothing in `span`."""
        if (refuting := self.refuted_by(series, span)) is not None:
            raise UpstreamGarbage(
                f"{series.name} {series.interval}: the exchange says that it has no klines in {tuple(span)}, "
                f"where {refuting.interval} klines are held",
                Reason.NOT_WHOLE,
            )

    async def doubt(self, series: Series, grid: Grid, begin_ms: int) -> Doubt:
        """The evidence against the claim that `series` has no klines before `begin_ms`; may ask the archive."""
        minutes = self._holdings.ledger(series.of(M1)).absent.span_at(0)
        since_ms = self._holdings.since_ms.get(series.symbol, 0)  # before that time another listing had the name
        if begin_ms <= grid.floor(max(since_ms, minutes.end_ms if minutes is not None else 0)):
            return Doubt.NONE
        listing = self._listing(series.symbol)
        if listing is None or listing.status == _PENDING or self.agrees_with_listing(series, grid, begin_ms):
            return Doubt.NONE
        if not series.kind.begins_with_listing:
            return Doubt.ANY_BEGIN
        is_late = begin_ms < listing.onboard_ms  # a listing after the first kline says nothing about earlier ones
        has_file = await self._has_file_before(series.name, begin_ms, 0 if is_late else listing.onboard_ms)
        if has_file:
            return Doubt.CONTRADICTED
        if is_late:
            return Doubt.LATE if has_file is False else Doubt.LATE_UNHEARD
        if has_file is False:
            return Doubt.NO_FILE
        return Doubt.NEAR if begin_ms <= listing.onboard_ms + DAY_MS else Doubt.UNHEARD

    def agrees_with_listing(self, series: Series, grid: Grid, begin_ms: int) -> bool:
        """Whether the symbol's listing states that its klines begin with the one that opens at `begin_ms`."""
        listing = self._listing(series.symbol)
        return listing is not None and begin_ms == grid.floor(listing.onboard_ms)

    async def _has_file_before(self, symbol: str, begin_ms: int, since_ms: int) -> bool | None:
        """Whether the archive has the file of the last published day before `begin_ms`; None when that is unknown.

        A symbol listed at `since_ms` has none of an earlier day.
        """
        now_ms = self._clock.now_ms()
        day_ms = D1.grid.floor(begin_ms) - DAY_MS
        while (file := ArchiveFile(symbol, D1, Span(day_ms, day_ms + DAY_MS), False)).published_ms > now_ms:
            day_ms -= DAY_MS
        if file.span.end_ms <= since_ms:
            return None  # the symbol was not listed on that day
        known = self._files.get(file)
        if known is not None:
            age_ms_max = SILENCE_AGE_MS_MAX if known[0] is None else FILE_AGE_MS_MAX
            if is_fresh(known[1], now_ms, age_ms_max):
                return known[0]
        try:
            async with asyncio.timeout(FILE_S_MAX):
                has_file = await self._archive.has(file)
        except (UpstreamError, TimeoutError):
            has_file = None
        self._files[file] = has_file, now_ms
        return has_file
