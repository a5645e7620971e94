"""The exchange behind REST, sockets and archive, which is also the oracle of the tests."""

from dataclasses import dataclass, field

from app.ports.clock import Clock
from infra.sandbox.book import Book
from infra.sandbox.market import Market
from infra.sandbox.marks import Marks
from infra.sandbox.options import Options
from infra.sandbox.render import Row, rest_row, sampled_row
from infra.sandbox.statistics import Statistics
from infra.sandbox.tape import Tape
from infra.sandbox.tickers import Tickers
from infra.sandbox.universe import Instrument, Universe

LATEST_MS = 1 << 62  # later than any candle


@dataclass(slots=True)
class Exchange:
    """Universe and market under one clock."""

    clock: Clock
    universe: Universe
    options: Options = field(default_factory=Options)
    market: Market = field(default_factory=Market)
    tape: Tape = field(init=False)
    book: Book = field(init=False)
    marks: Marks = field(init=False)
    tickers: Tickers = field(init=False)
    statistics: Statistics = field(init=False)

    def __post_init__(self) -> None:
        self.tape = Tape(self.market)
        self.book = Book(self.market, self.options.book_ticks)
        self.marks = Marks(self.market)
        self.tickers = Tickers(self.market, self.tape)
        self.statistics = Statistics(self.market, self.marks)

    def symbols(self) -> list[str]:
        """The symbols in exchangeInfo now, with any status."""
        return [item.symbol for item in self.universe.at(self.clock.now_ms())]

    def rows(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Row]:
        """The closed candles that open in [start_ms, end_ms), as REST prints them."""
        item = self.instrument(symbol, start_ms, end_ms)
        return self.closed_rows(item, interval, start_ms, end_ms, self.clock.now_ms())

    def instrument(self, symbol: str, start_ms: int, end_ms: int) -> Instrument:
        """The instrument of `symbol` in [start_ms, end_ms), or else of now. Raises KeyError."""
        item = self.universe.find_ever(symbol, start_ms, end_ms) or self.universe.find(symbol, self.clock.now_ms())
        if item is None:
            raise KeyError(symbol)
        return item

    def closed_rows(self, item: Instrument, interval: str, start_ms: int, end_ms: int, now_ms: int) -> list[Row]:
        """The candles of `item` that open in [start_ms, end_ms) and have closed by `now_ms`."""
        grid = item.grid(interval)
        first, last = self._edges(item, interval, now_ms)
        low, high = max(first, grid.index(start_ms - 1) + 1), min(last, grid.index(end_ms - 1) + 1)
        return [self._row(item, interval, index) for index in range(low, high)]

    def window(
        self, item: Instrument, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> list[Row]:
        """The answer of klines: open times between both bounds, inclusive; the candle in progress is last."""
        first, last, live = self._window(item, interval, start_ms, end_ms, limit, now_ms)
        return [
            self._live_row(item, interval, index, now_ms) if index == live else self._row(item, interval, index)
            for index in range(first, last + 1)
        ]

    def sampled_window(
        self,
        item: Instrument,
        kind: str,
        interval: str,
        bounds: tuple[int | None, int | None],
        limit: int,
        now_ms: int,
    ) -> list[Row]:
        """The answer of mark, index and premium klines; windows as in `window`."""
        first, last, _ = self._window(item, interval, *bounds, limit, now_ms)
        grid = item.grid(interval)
        rows: list[Row] = []
        for index in range(first, last + 1):
            open_ms = grid.open_ms(index)
            candle = self.marks.candle(item, kind, interval, open_ms, now_ms)
            rows.append(sampled_row(open_ms, candle, grid.open_ms(index + 1) - 1))
        return rows

    def closed_sampled_rows(self, symbol: str, kind: str, interval: str, start_ms: int, end_ms: int) -> list[Row]:
        """The closed candles of `kind` that open in [start_ms, end_ms), as REST prints them."""
        now_ms = self.clock.now_ms()
        item = self.universe.find(symbol, now_ms)
        if item is None:
            raise KeyError(symbol)
        grid = item.grid(interval)
        last = min(end_ms, grid.open_ms(grid.index(now_ms)))
        if last <= start_ms:
            return []
        limit = grid.index(last) - grid.index(start_ms) + 1
        return self.sampled_window(item, kind, interval, (start_ms, last - 1), limit, now_ms)

    def _window(
        self, item: Instrument, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> tuple[int, int, int]:
        grid = item.grid(interval)
        first, live = self._edges(item, interval, now_ms)
        if item.status(now_ms) == "PENDING_TRADING":
            return 0, -1, live
        low = first if start_ms is None else max(first, grid.index(start_ms - 1) + 1)
        high = live if end_ms is None else min(live, grid.index(end_ms))
        if start_ms is None:
            return max(low, high - limit + 1), high, live
        return low, min(high, low + limit - 1), live

    @staticmethod
    def _edges(item: Instrument, interval: str, now_ms: int) -> tuple[int, int]:
        """The numbers of the first candle that exists and of the one in progress."""
        grid = item.grid(interval)
        return grid.index(item.onboard_ms), grid.index(now_ms)

    def _row(self, item: Instrument, interval: str, index: int) -> Row:
        grid = item.grid(interval)
        candle = self.market.candle(item, interval, grid.open_ms(index))
        return rest_row(item, candle, grid.open_ms(index + 1) - 1)

    def _live_row(self, item: Instrument, interval: str, index: int, now_ms: int) -> Row:
        grid = item.grid(interval)
        candle = self.market.candle_now(item, interval, grid.open_ms(index), now_ms)
        return rest_row(item, candle, grid.open_ms(index + 1) - 1)
