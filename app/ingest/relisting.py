"""Relisting: detects that a name may belong to another coin now, and asks the exchange whose klines are held.

The exchange's list can only raise a doubt. While a name is doubted, its klines are not served. The held klines are a
former listing's if the exchange, asked twice, has only klines that begin later than the held ones, and if it has not
lost the history of other symbols too.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from app.binance.error_body import invalid_symbol
from app.domain.interval import M1, MINUTE_MS
from app.domain.kind import Kind, Row
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span
from app.domain.symbol import Symbol
from app.events import Relisted, RelistingRefuted, Reprinted
from app.holding.commit import Committer
from app.holding.copies import Copies
from app.kinds.klines import KLINES
from app.kinds.registry import KINDS, series_of
from app.ports.errors import StoreUnavailable, UpstreamError, UpstreamGarbage, UpstreamRejected
from app.ports.exchange import Priority, RestApi
from app.ports.store import EVERYTHING, Relisting, StoreWriter
from app.runtime import Runtime

CONFIRM_S: Final = 4.0  # between the two requests for first klines; the exchange caches an answer for a second or two
RETRY_S: Final = 10.0  # before a name is judged again whose doubt could not be settled
RECHECK_S: Final = 3_600.0  # between two checks of where names begin; costs weight 1 for each suspicious name
ROWS_COMPARED: Final = 99  # rows per kind, when the list states another precision: the most that cost weight 1
OTHERS_MAX: Final = 3  # other symbols checked: for a single one the exchange may lack a kline that an archive has

Firsts = Mapping[Kind, int]
"""Per kind of a symbol's series: when the exchange's first row opens (ms)."""


class Relistings:
    """Records which listing owns the klines of each name. Only the process that writes has a Relistings."""

    def __init__(
        self,
        runtime: Runtime,
        rest: RestApi,
        store: StoreWriter,
        committer: Committer,
        copies: Copies,
        settled: Callable[[], None],
    ) -> None:
        """`settled` is called after a doubt was settled or a relisting was refuted."""
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._rest = rest
        self._store = store
        self._committer = committer
        self._symbols = copies.symbols
        self._holdings = copies.ledgers
        self._tail = copies.tail
        self._rolling = copies.rolling
        self._drop = copies.drop
        self._recorded = dict(copies.ledgers.listings)
        self._unsaved: dict[str, Listing] = {}
        self._lacking: set[str] = set()
        self._settled = settled
        self._has_doubts = asyncio.Event()
        self.last_error: str | None = None
        self._mark()

    def look(self) -> None:
        """Compare the exchange's newest list with the recorded listings; klines of a doubted name are not served."""
        now_ms = self._clock.now_ms()
        held = self._holdings.names()
        for name, listed in self._symbols.listings.items():
            recorded = self._recorded.get(name)
            if recorded is None:
                if self._is_held_before(listed):  # by a version that did not distinguish listings of one name
                    self._doubt(Listing.of(listed))
                else:
                    self._record(Listing.of(listed))
            elif recorded.may_be_another(listed, now_ms):
                if not any(each.name in held for each in _of_shortest(name)):
                    self._record(Listing.of(listed))
                    self._forget_copies(name)  # nothing is held, but copies in memory may exist
                elif not recorded.is_doubted:
                    self._doubt(recorded)
            elif not recorded.is_doubted and Listing.of(listed, recorded.since_ms) != recorded:
                self._record(Listing.of(listed, recorded.since_ms))
        self._mark()

    async def save(self) -> None:
        """Store the listings that `look` recorded; call before the list itself is stored. Raises StoreUnavailable."""
        if unsaved := dict(self._unsaved):
            await self._store.save_listings(list(unsaved.values()))
            for name, listing in unsaved.items():
                if self._unsaved.get(name) is listing:
                    del self._unsaved[name]

    async def run(self) -> None:
        """Settle doubts, and recheck settled names, forever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settle_doubts(), name="relistings-doubts")
            group.create_task(self._recheck(), name="relistings-recheck")

    async def _recheck(self) -> None:
        """Check every RECHECK_S where names begin: an exchange may lack a history only temporarily."""
        while True:
            await self._clock.sleep(RECHECK_S)
            for name, since_ms in self._holdings.since_ms.items():
                try:
                    await self._check_begin(name, since_ms)
                except (UpstreamError, StoreUnavailable) as error:
                    self.last_error = str(error)
            for name, listed in list(self._symbols.listings.items()):
                try:
                    if self._is_held_before(listed):
                        await self._check_held(name)
                except (UpstreamError, StoreUnavailable) as error:
                    self.last_error = str(error)

    async def _check_held(self, name: str) -> None:
        """Doubt a name when the exchange lacked its first held klines in two successive rechecks.

        They may still have been there when the new date was judged: the exchange's list can change before its klines.
        """
        firsts = await self._first_klines(name, M1.grid.floor(self._clock.now_ms()))
        if not self._beginning_before(name, firsts) or name not in self._recorded:
            self._lacking.discard(name)
        elif name not in self._lacking:
            self._lacking.add(name)
        elif name not in self._holdings.doubted:
            self._lacking.discard(name)
            self._doubt(self._recorded[name])
            self._mark()
            await self.save()

    async def _check_begin(self, name: str, since_ms: int) -> None:
        listing = self._recorded[name]
        if listing.is_doubted or self._symbols.listing(name) is None:
            return
        series = Series(KLINES, name, M1)
        if not await self._rest.klines(series, M1.grid, Span(0, since_ms), 1, Priority.VERIFY):
            return
        await self._committer.unlist(replace(listing, since_ms=0), since_ms)
        self._record(replace(self._recorded[name], since_ms=0))
        self._mark()
        self._forget_copies(name)
        self._observe(RelistingRefuted(name, since_ms))
        self._settled()

    async def _settle_doubts(self) -> None:
        while True:
            await self._has_doubts.wait()
            is_open = False
            for name in sorted(self._holdings.doubted):
                try:
                    await self.save()
                    await self._judge(name)
                except (UpstreamError, StoreUnavailable) as error:  # the other names are judged all the same
                    self.last_error = str(error)
                    is_open = True
            if is_open:
                await self._clock.sleep(RETRY_S)

    # --- whose klines are held --------------------------------------------------------------------------------------

    async def _judge(self, name: str) -> None:
        recorded, listed = self._recorded[name], self._symbols.listing(name)
        if listed is None:  # delisted again: the held klines stay the recorded listing's
            await self._settle(
                Listing(name, recorded.onboard_ms, recorded.delivery_ms, recorded.precision, recorded.since_ms)
            )
            return
        end_ms = M1.grid.floor(self._clock.now_ms())
        firsts = await self._first_klines(name, end_ms)
        former = self._beginning_before(name, firsts)
        is_reprinted = recorded.precision != listed.precision and await self._is_reprinted(name)
        if not former and not is_reprinted:
            await self._settle(Listing.of(listed, recorded.since_ms))
            return
        await self._clock.sleep(CONFIRM_S)
        if await self._first_klines(name, end_ms) != firsts:
            raise UpstreamGarbage(f"{name}: the exchange does not stand by where its klines begin")
        await self._check_others(name, firsts)
        since_ms = firsts.get(KLINES, min(firsts.values()))
        others = {kind: since_ms for kind in KINDS.values() if not kind.shows_listing}
        relisting = Relisting(
            recorded,
            Listing.of(listed, since_ms),
            {**others, **firsts},
            keeps_newer=recorded.precision == listed.precision,
        )
        await self._committer.relist(relisting)
        self._recorded[name] = relisting.listing
        self._unsaved.pop(name, None)
        self._mark()
        self._forget_copies(name)
        self._observe(Relisted(name, since_ms) if former else Reprinted(name))
        self._settled()

    async def _is_reprinted(self, name: str) -> bool:
        """Whether the exchange now prints held rows with other decimals, as it does for a later listing of the name.

        Rows that sockets delivered before the list was read again have the former listing's decimals. When LITUSDT was
        relisted with six decimals instead of three, "1.234" would be served where the exchange has "1.234000".
        """
        compared: set[Kind] = set()
        for series in _showing(name):  # shortest interval first
            held, grid = self._holdings.ledger(series).held, self._holdings.grid(series)
            if series.kind in compared or not held:
                continue
            compared.add(series.kind)
            newest = next(reversed(held))
            window = Span(max(newest.start_ms, grid.shift(newest.end_ms, -ROWS_COMPARED)), newest.end_ms)
            ours = {row.open_ms: row for row in (await self._store.read(series, window, ROWS_COMPARED)).rows}
            for row in await self._rest.klines(series, grid, window, ROWS_COMPARED, Priority.TAIL):
                if (mine := ours.get(row.open_ms)) is not None and _has_other_decimals(mine, row):
                    return True
        return False

    async def _first_klines(self, name: str, end_ms: int) -> Firsts:
        """When the exchange's first row of each held kind opens (ms); `end_ms` where the exchange has no row."""
        firsts: dict[Kind, int] = {}
        for series in _showing(name):  # shortest interval first
            if series.kind in firsts or not self._holdings.ledger(series).held:
                continue
            try:
                found = await self._rest.klines(series, series.interval.grid, Span(0, end_ms), 1, Priority.TAIL)
            except UpstreamRejected as error:
                if error.code != invalid_symbol().code:
                    raise
                found = []  # listed already, but without klines yet
            firsts[series.kind] = found[0].open_ms if found else end_ms
        return firsts

    def _beginning_before(self, name: str, firsts: Firsts) -> list[Series]:
        """The series with held klines from before the exchange's first ones."""
        found = []
        for series in series_of(name):
            first_ms, held = firsts.get(series.kind), self._holdings.ledger(series).held
            if first_ms is not None and held and held.hull.start_ms < self._holdings.grid(series).floor(first_ms):
                found.append(series)
        return found

    async def _check_others(self, name: str, firsts: Firsts) -> None:
        """Raise UpstreamGarbage if the exchange also lost other symbols' klines from before the latest of `firsts`."""
        until_ms = max(firsts.values())
        lost: list[str] = []
        for symbol in sorted(self._holdings.names()):
            series = Series(KLINES, symbol, M1)
            held = self._holdings.ledger(series).held
            if symbol == name or symbol in self._holdings.doubted or not held:
                continue
            open_ms = held.hull.start_ms
            if open_ms >= until_ms or self._symbols.listing(symbol) is None:
                continue
            if await self._rest.klines(series, M1.grid, Span(open_ms, open_ms + MINUTE_MS), 1, Priority.TAIL):
                return
            lost.append(symbol)
            if len(lost) == OTHERS_MAX:
                break
        if lost:
            raise UpstreamGarbage(f"{name}: the exchange lacks klines of {', '.join(lost)} too, which are held")

    async def _settle(self, listing: Listing) -> None:
        """Record that the held klines belong to `listing`. Raises StoreUnavailable."""
        self._record(listing)
        await self.save()
        self._mark()
        self._settled()

    # --- what is noted ----------------------------------------------------------------------------------------------

    def _record(self, listing: Listing) -> None:
        self._recorded[listing.symbol] = self._unsaved[listing.symbol] = listing

    def _doubt(self, listing: Listing) -> None:
        """Stop serving a name's klines until it is known which listing they belong to."""
        self._record(listing.doubted())
        self._forget_copies(listing.symbol)

    def _is_held_before(self, listed: Symbol) -> bool:
        """Whether held klines of a name open before the onboard date in the exchange's list."""
        kinds = [kind for kind in KINDS.values() if kind.shows_listing]
        return bool(self._beginning_before(listed.name, dict.fromkeys(kinds, listed.onboard_ms)))

    def _mark(self) -> None:
        self._holdings.set_listings(self._recorded.values())
        if self._holdings.doubted:
            self._has_doubts.set()
        else:
            self._has_doubts.clear()

    def _forget_copies(self, name: str) -> None:
        """Invalidate all copies in memory of a name's klines, so that none is served."""
        for series in series_of(name):
            self._tail.lose(series)  # also keeps rows that are being read from becoming a tail
            self._drop(series, EVERYTHING)
            self._tail.forget(series)
        self._rolling.forget(name)


def _showing(name: str) -> list[Series]:
    """The series of a name that show which listing it belongs to, kind by kind, shortest interval first."""
    return [series for series in series_of(name) if series.kind.shows_listing]


def _of_shortest(name: str) -> list[Series]:
    return [Series(kind, kind.whose(name), M1) for kind in KINDS.values()]


def _has_other_decimals(mine: Row, other: Row) -> bool:
    """Whether the two rows print any number with different decimals; a bare "0" says nothing about decimals."""
    texts = [(a, b) for a, b in zip(mine, other, strict=True) if isinstance(a, str) and isinstance(b, str)]
    return any("0" not in (a, b) and len(a.partition(".")[2]) != len(b.partition(".")[2]) for a, b in texts)
