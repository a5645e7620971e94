"""Answers as of a past time: from what was held then, in the form of today's answers.

They are whole or refused, as those of now; the exchange is never asked, because it cannot say what was held. Rows in
progress are in none of them: the store has final rows only.
"""

from collections import OrderedDict
from typing import Final

from app.binance import rest_rows
from app.binance.error_body import BinanceError, never_held, service_unavailable
from app.domain.interval import Grid, Interval
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.as_of import AsOfReader
from app.holding.coverage import Coverage
from app.holding.inventory import Inventory
from app.holding.rest_forms import RestForms
from app.ports.clock import Clock
from app.ports.errors import NotRecorded, StoreUnavailable
from app.ports.store import StoreReader
from app.querying.answer import Answer, KlineQuery, Shortfall
from app.querying.archived_rows import ByOrigin
from app.querying.events import events_window
from app.querying.gather import printed
from app.querying.refusal import RETRY_AFTER_S, refusal_of
from app.querying.statistics import HeldAnswer, StatisticsQuery, known_window, rows_held
from app.querying.window import Window, closed_end_ms, window_of

SETTLED_MS: Final = 60_000
"""After so long no commit gets an earlier time: one waits for the database and for those before it, or fails."""
READERS_MAX: Final = 4  # times whose ledgers are kept: about 1 kB a series each
_NOTED_MS: Final = 1_000  # a closing frame may be a second ahead of the clock (app.querying.window)
_WITHOUT: Final = ("verified", "verified_up_to", "disagreements", "revisions")
"""Parts of a report whose past nobody recorded."""


class AsOf:
    """Answers questions about what this node held at a past time."""

    def __init__(self, clock: Clock, store: StoreReader, inventory: Inventory, forms: RestForms) -> None:
        self._clock = clock
        self._store = store
        self._inventory = inventory
        self._forms = forms
        self._readers: OrderedDict[int, AsOfReader] = OrderedDict()

    async def klines(self, query: KlineQuery, at_ms: int) -> Answer:
        """The closed klines that were held at `at_ms`. Raises BinanceError."""
        try:
            return await self._klines(query, self.reader(at_ms))
        except (NotRecorded, StoreUnavailable) as error:
            raise self._refused(error) from error

    async def rows(self, query: StatisticsQuery, at_ms: int) -> HeldAnswer:
        """The rows of a gathered kind that were held at `at_ms`; an open end is the newest of them.

        Raises BinanceError.
        """
        answer = self._events if query.series.kind.is_sparse else self._statistics
        try:
            if query.start_ms is not None and query.start_ms > at_ms:
                await self.reader(at_ms).ledger(query.series)  # raises NotRecorded
                return HeldAnswer(query.series.kind.finished(b"[]", query.series.symbol), 0)
            return await answer(query, self.reader(at_ms))
        except (NotRecorded, StoreUnavailable) as error:
            raise self._refused(error) from error

    async def coverage(
        self, name: str | None, interval: Interval | None, offset: int, limit: int, at_ms: int, *, incomplete: bool
    ) -> dict[str, object]:
        """The ledgers of `at_ms` compared with today's wish for then. Raises NotRecorded, StoreUnavailable."""
        ledgers = self._inventory.ledgers.of_past(await self.reader(at_ms).ledgers())
        past = Coverage(_Then(at_ms), Inventory(ledgers, self._inventory.wish))
        report = past.report(name, interval, offset, limit, incomplete=incomplete)
        series = report["series"]
        assert isinstance(series, list), "a report lists series"
        return {**report, "series": [{key: each[key] for key in each if key not in _WITHOUT} for each in series]}

    def reader(self, at_ms: int) -> AsOfReader:
        """The reader of a time, which is kept once that time has settled. Raises NotRecorded for the future."""
        now_ms = self._clock.now_ms()
        if at_ms > now_ms:
            raise NotRecorded(f"as_of={at_ms} is in the future: it is {now_ms}.")
        if (reader := self._readers.get(at_ms)) is not None:
            self._readers.move_to_end(at_ms)
            return reader
        reader = AsOfReader(self._store, at_ms)
        if at_ms < now_ms - SETTLED_MS:
            self._readers[at_ms] = reader
            if len(self._readers) > READERS_MAX:
                self._readers.popitem(last=False)
        return reader

    def _refused(self, error: NotRecorded | StoreUnavailable) -> BinanceError:
        if isinstance(error, NotRecorded):
            return BinanceError(400, -1130, str(error))
        return refusal_of(error, self._clock.now_ms())

    # --- klines ---------------------------------------------------------------------------------------------------

    async def _klines(self, query: KlineQuery, reader: AsOfReader) -> Answer:
        series, ledgers = query.series, self._inventory.ledgers
        if series.symbol in ledgers.doubted or not ledgers.is_anchored(series):
            raise service_unavailable(RETRY_AFTER_S, Reason.NOT_SYNCED)
        grid = ledgers.grid(series)
        ledger = await reader.ledger(series)
        early_ms = grid.floor(
            reader.at_ms + _NOTED_MS
        )  # of what closed by then, a frame may have come before it was due
        held_ms = ledger.held.clip(Span(0, early_ms)).hull.end_ms
        end_ms = max(closed_end_ms(grid, None, reader.at_ms), held_ms)
        window = window_of(query._replace(only_final=True), grid, end_ms, reader.at_ms)
        span = Span(0, window.span.end_ms) if window.newest else window.span
        rows = (await reader.read(series, span, window.limit, newest=window.newest)).rows if window.span else []
        opens_ms = [row.open_ms for row in rows]
        asked = _asked(grid, window, opens_ms, ledger.known)
        lost = Spans()  # of a block that was damaged, until its rows are fetched again
        if rows_held(ledger, grid, asked) != len(rows):
            lost = ledger.held.clip(asked) - Spans(Span(open_ms, grid.shift(open_ms, 1)) for open_ms in opens_ms)
        missing = _missing(grid, ledger.known - lost, asked)
        if missing and not query.allow_partial:
            raise _not_held(series, reader.at_ms, missing[0])
        shortfall = None
        if missing:
            absent = sum(grid.count(*each) for each in ledger.absent.clip(asked))
            lacking = sum(grid.count(*each) for each in missing)
            shortfall = Shortfall(asked, len(rows), absent, missing, lacking, is_newest_known=True)
        body = rest_rows.join([printed(series, row, grid) for row in rows])
        holes = tuple(ledger.absent.clip(Span(opens_ms[0], opens_ms[-1]))) if rows and not missing else ()
        return Answer(body, series, asked, False, reader.at_ms, shortfall, holes)

    # --- gathered rows --------------------------------------------------------------------------------------------

    async def _statistics(self, query: StatisticsQuery, reader: AsOfReader) -> HeldAnswer:
        series, stamp_ms = query.series, query.series.kind.rest.stamp_ms
        grid, ledger = self._inventory.ledgers.grid(series), await reader.ledger(series)
        lower_ms = 0 if query.start_ms is None else grid.ceil(max(0, query.start_ms - stamp_ms))
        end_ms = ledger.known.hull.end_ms
        if query.end_ms is not None:
            end_ms = min(end_ms, grid.ceil(max(0, query.end_ms - stamp_ms + 1)))
        window = known_window(ledger, grid, query.limit, lower_ms, end_ms)
        if window is None and query.start_ms is None:
            window = known_window(ledger, grid, query.limit, ledger.known.hull.start_ms, end_ms)
        if not window:
            raise _not_held(series, reader.at_ms, Span(lower_ms, max(lower_ms, end_ms)))
        found, body = await reader.read_encoded(series, window, query.limit + 1, newest=True)
        if found != rows_held(ledger, grid, window):
            raise _not_held(series, reader.at_ms, window)  # those of a damaged block
        body, archived = await ByOrigin(reader, self._forms).printed(series, grid, window, query.limit)
        return HeldAnswer(series.kind.finished(body, series.symbol), 0, archived)

    async def _events(self, query: StatisticsQuery, reader: AsOfReader) -> HeldAnswer:
        series = query.series
        known = (await reader.ledger(series)).known
        is_newest, window = query.start_ms is None, events_window(query, reader.at_ms)
        if query.end_ms is None or query.end_ms >= reader.at_ms:
            window = Span(window.start_ms, min(window.end_ms, known.hull.end_ms))
        span = known.span_at(window.end_ms - 1 if is_newest else window.start_ms) if window else None
        part = span.clip(window) if span is not None else Span(0, 0)
        rows, body = await reader.read_encoded(series, part, query.limit, newest=is_newest)
        if not part or (rows < query.limit and part != window):
            raise _not_held(series, reader.at_ms, window)
        return HeldAnswer(series.kind.finished(body, series.symbol), 0)


class _Then:
    """A clock that stands still at a past time."""

    def __init__(self, at_ms: int) -> None:
        self._at_ms = at_ms

    def now_ms(self) -> int:
        return self._at_ms

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError(f"no time passes at {self._at_ms}, so nothing waits {delay_s} s")


def _asked(grid: Grid, window: Window, opens_ms: list[int], known: Spans) -> Span:
    """The times that an answer of these rows is about."""
    is_full, (start_ms, end_ms) = len(opens_ms) == window.limit, window.span
    if not window.newest:
        return Span(start_ms, grid.shift(opens_ms[-1], 1) if is_full else end_ms)
    if is_full:
        return Span(opens_ms[0], end_ms)
    asked = Span(min([start_ms, *opens_ms[:1]]), end_ms)
    return Span(0, end_ms) if known.covers(asked) else asked  # there may have been older rows


def _missing(grid: Grid, known: Spans, asked: Span) -> tuple[Span, ...]:
    """The open times of `asked` that were neither held nor absent, as whole steps of the grid."""
    holes = known.complement(asked)
    return tuple(span for hole in holes if (span := Span(grid.ceil(hole.start_ms), grid.ceil(hole.end_ms))))


def _not_held(series: Series, at_ms: int, span: Span) -> BinanceError:
    """The refusal of an answer that would not be whole. Nothing will change that, so it says no time to ask again."""
    lacking = f"nothing is known of {span.start_ms} to {span.end_ms}" if span else "nothing is known of that window"
    text = f"This node did not hold all of {series} at {at_ms}: {lacking}. Ask for another window, or a later as_of."
    return never_held(text)
