"""Relisting: notices when a name may belong to another coin now, and asks the exchange whose klines are held.

The exchange's list only gives reason to ask. While that is open the name's klines are not answered. They are a former
listing's when the exchange, asked twice, begins later than what is held, and has not lost the history of others too.
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

CONFIRM_S: Final = 4.0  # between the two times that the exchange is asked; its caches answer alike for a second or two
RETRY_S: Final = 10.0  # after an answer that settles nothing
RECHECK_S: Final = 3_600.0  # between two looks whether names begin where they did: weight 1 for each that is suspicious
ROWS_COMPARED: Final = 99  # of each kind, when the list states another precision: the most rows that weigh 1
OTHERS_MAX: Final = 3  # symbols that are asked for too: of one alone the exchange may lack a kline that an archive has

Firsts = Mapping[Kind, int]
"""By kind of a symbol's series: where the first row opens."""


class Relistings:
    """Keeps the identity of every listing. Only the process that writes has one."""

    def __init__(
        self,
        runtime: Runtime,
        rest: RestApi,
        store: StoreWriter,
        committer: Committer,
        copies: Copies,
        settled: Callable[[], None],
    ) -> None:
        """`settled` is called when a doubt was settled."""
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
        """Compare the exchange's newest list with what is recorded; a doubted name is not answered any more."""
        now_ms = self._clock.now_ms()
        held = self._holdings.names()
        for name, listed in self._symbols.listings.items():
            recorded = self._recorded.get(name)
            if recorded is None:
                if self._is_held_before(listed):  # by a version that did not tell listings of one name apart
                    self._doubt(Listing.of(listed))
                else:
                    self._record(Listing.of(listed))
            elif recorded.may_be_another(listed, now_ms):
                if not any(each.name in held for each in _of_shortest(name)):
                    self._record(Listing.of(listed))
                    self._forget_copies(name)  # nothing is held, but something may be remembered
                elif not recorded.is_doubted:
                    self._doubt(recorded)
            elif not recorded.is_doubted and Listing.of(listed, recorded.since_ms) != recorded:
                self._record(Listing.of(listed, recorded.since_ms))
        self._mark()

    async def save(self) -> None:
        """Keep what `look` has found, before the list that it found it in. Raises StoreUnavailable."""
        if unsaved := dict(self._unsaved):
            await self._store.save_listings(list(unsaved.values()))
            for name, listing in unsaved.items():
                if self._unsaved.get(name) is listing:
                    del self._unsaved[name]

    async def run(self) -> None:
        """Settle doubts, and doubt what was settled, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settle_doubts(), name="relistings-doubts")
            group.create_task(self._recheck(), name="relistings-recheck")

    async def _recheck(self) -> None:
        """Ask now and then whether a name does begin where we say: an exchange can have lost a history for a while."""
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
        """Doubt a name when the exchange has lacked its first klines for as long as from one look to the next.

        They were there when its date was a new one: its list can be sooner than its klines.
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
                except (UpstreamError, StoreUnavailable) as error:  # the others are judged all the same
                    self.last_error = str(error)
                    is_open = True
            if is_open:
                await self._clock.sleep(RETRY_S)

    # --- whose klines are held --------------------------------------------------------------------------------------

    async def _judge(self, name: str) -> None:
        recorded, listed = self._recorded[name], self._symbols.listing(name)
        if listed is None:  # gone again: what is held stays what it was
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
        relisting = Relisting(
            recorded, Listing.of(listed, since_ms), firsts, keeps_newer=recorded.precision == listed.precision
        )
        await self._committer.relist(relisting)
        self._recorded[name] = relisting.listing
        self._unsaved.pop(name, None)
        self._mark()
        self._forget_copies(name)
        self._observe(Relisted(name, since_ms) if former else Reprinted(name))
        self._settled()

    async def _is_reprinted(self, name: str) -> bool:
        """Whether the exchange prints rows that are held with other decimals, as a later listing of the name would.

        Rows that sockets delivered before the list was read again have the former listing's decimals. When LITUSDT came
        back with six decimals instead of three, "1.234" would be held and served where the exchange has "1.234000".
        """
        compared: set[Kind] = set()
        for series in series_of(name):  # shortest interval first
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
        """Where the exchange begins each kind of series of which something is held, at the latest with `end_ms`."""
        firsts: dict[Kind, int] = {}
        for series in series_of(name):  # shortest interval first
            if series.kind in firsts or not self._holdings.ledger(series).held:
                continue
            try:
                found = await self._rest.klines(series, series.interval.grid, Span(0, end_ms), 1, Priority.TAIL)
            except UpstreamRejected as error:
                if error.code != invalid_symbol().code:
                    raise
                found = []  # listed already, and no klines yet
            firsts[series.kind] = found[0].open_ms if found else end_ms
        return firsts

    def _beginning_before(self, name: str, firsts: Firsts) -> list[Series]:
        """What is held from before the exchange's first klines."""
        found = []
        for series in series_of(name):
            first_ms, held = firsts.get(series.kind), self._holdings.ledger(series).held
            if first_ms is not None and held and held.hull.start_ms < self._holdings.grid(series).floor(first_ms):
                found.append(series)
        return found

    async def _check_others(self, name: str, firsts: Firsts) -> None:
        """Raise UpstreamGarbage when the exchange has lost the klines of other symbols from that time too."""
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
        """What is held belongs to this listing."""
        self._record(listing)
        await self.save()
        self._mark()
        self._settled()

    # --- what is noted ----------------------------------------------------------------------------------------------

    def _record(self, listing: Listing) -> None:
        self._recorded[listing.symbol] = self._unsaved[listing.symbol] = listing

    def _doubt(self, listing: Listing) -> None:
        """Do not answer a name until it is known whose klines are held."""
        self._record(listing.doubted())
        self._forget_copies(listing.symbol)

    def _is_held_before(self, listed: Symbol) -> bool:
        """Whether klines of a name are held from before the date that the exchange's list gives it."""
        return bool(self._beginning_before(listed.name, dict.fromkeys(KINDS.values(), listed.onboard_ms)))

    def _mark(self) -> None:
        self._holdings.set_listings(self._recorded.values())
        if self._holdings.doubted:
            self._has_doubts.set()
        else:
            self._has_doubts.clear()

    def _forget_copies(self, name: str) -> None:
        """Nobody may be answered from what was made of the klines of a name."""
        for series in series_of(name):
            self._tail.lose(series)  # nor may rows that are being read become a tail
            self._drop(series, EVERYTHING)
            self._tail.forget(series)
        self._rolling.forget(name)


def _of_shortest(name: str) -> list[Series]:
    return [Series(kind, kind.whose(name), M1) for kind in KINDS.values()]


def _has_other_decimals(mine: Row, other: Row) -> bool:
    """Whether a number of two rows is printed with different decimals; a bare "0" has none of its own."""
    texts = [(a, b) for a, b in zip(mine, other, strict=True) if isinstance(a, str) and isinstance(b, str)]
    return any("0" not in (a, b) and len(a.partition(".")[2]) != len(b.partition(".")[2]) for a, b in texts)
