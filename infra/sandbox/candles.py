"""The 1m candles of a symbol, one UTC hour at a time, computed from a seed in integers.

A minute with trades is a walk over five price levels. Its volume is divided into up to twenty equal pieces, which visit
the levels in a fixed order, and each piece is divided into trades (infra/sandbox/tape.py lists them). So every sum
(volume, quote volume, taker buys) is exact at the end and at every moment before, and low × volume ≤ quote volume ≤
high × volume always holds.
"""

from array import array
from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_128
from typing import NamedTuple

from infra.sandbox.grid import HOUR_MS, MINUTE_MS
from infra.sandbox.noise import chance, drift_ppm
from infra.sandbox.universe import Instrument

QUANTUM_MS = 250  # kline frames come at most this often (binance-facts section 5.4)
_QUANTA = MINUTE_MS // QUANTUM_MS
_PIECES = 20
RUNS_MAX = 2 * _PIECES + 1  # of a minute: two a piece, and the surplus
_SPLIT_TRADES = 2 * _PIECES  # from here on every piece has two trades or more, one of each side
_LONG_WALK = (0, 1, 0, 2, 1, 0, 1, 2, 3, 2, 1, 3, 0, 4, 3, 2, 4, 3, 4, 4)  # each level four times
_WALKS = ((), (4,), *(tuple(4 * j // (n - 1) for j in range(n)) for n in range(2, _PIECES)), _LONG_WALK)
_DEAD_HOURS_OF_256 = 30  # hours in which a quiet symbol does not trade at all


class Candle(NamedTuple):
    """Prices in units of 10^-pricePrecision, volumes in lots, quote volumes in units of the product; times in ms."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote: int
    trades: int
    taker_volume: int
    taker_quote: int


class Run(NamedTuple):
    """Consecutive trades at one price and side, of `lots` in total; `bought`: the buyer was the taker."""

    price: int
    lots: int
    trades: int
    bought: bool


class Walk(NamedTuple):
    """The trades of one minute: each piece of `lots` is at a level of `order`; the last trades have `rest` lots more.

    Buyers take `share`/256: of each piece if every piece has at least two trades, otherwise of the number of pieces.
    """

    levels: tuple[int, int, int, int, int]
    order: tuple[int, ...]
    trades: int
    lots: int
    rest: int
    share: int
    phase: int

    def trades_at(self, quantum: int) -> int:
        """The number of trades in the first `quantum` of the minute's 240 quanta."""
        return (self.trades * quantum + self.phase) // _QUANTA

    def trade_ms(self, number: int) -> int:
        """The time of trade `number` (from 1) in ms since the minute opened; it is published at the next quantum."""
        return max(0, ((number * _QUANTA - self.phase) * QUANTUM_MS - 1) // self.trades)

    def candle(self, open_ms: int) -> Candle:
        """The whole minute."""
        levels, order, lots = self.levels, self.order, self.lots
        if len(order) == _PIECES:
            total, first, high, low = 4 * sum(levels), levels[0], max(levels), min(levels)
        else:
            prices = [levels[place] for place in order]
            total, first, high, low = sum(prices), prices[0], max(prices), min(prices)
        volume, quote = lots * len(order) + self.rest, lots * total + self.rest * levels[4]
        taker_volume, taker_quote = self._taken(len(order), total)
        return Candle(open_ms, first, high, low, levels[4], volume, quote, self.trades, taker_volume, taker_quote)

    def candle_at(self, open_ms: int, quantum: int) -> Candle | None:
        """The minute so far, or None before its first trade."""
        done = self.trades_at(quantum)
        if done >= self.trades:
            return self.candle(open_ms)
        if done == 0:
            return None
        return self._partial(open_ms, done)

    def runs(self) -> list[Run]:
        """The minute's trades in order, as the fewest possible runs; their sums are the candle's."""
        last = len(self.order) + (self._surplus > 0)
        return [run for piece in range(last) for run in self._runs_of(piece)]

    def _partial(self, open_ms: int, done: int) -> Candle:
        pieces, inside = self._place(done)
        levels = self.levels
        seen = [levels[place] for place in self.order[: pieces + (inside > 0)]]
        price = seen[-1]
        high, low, total = max(seen), min(seen), sum(seen)
        whole = total - price if inside and pieces < len(self.order) else total
        volume, quote = self.lots * pieces, self.lots * whole
        taker_volume, taker_quote = self._taken(pieces, whole)
        if inside:
            lots, taken = self._part(pieces, inside)
            volume, quote = volume + lots, quote + lots * price
            taker_volume, taker_quote = taker_volume + taken, taker_quote + taken * price
        return Candle(open_ms, seen[0], high, low, price, volume, quote, done, taker_volume, taker_quote)

    def _part(self, piece: int, inside: int) -> tuple[int, int]:
        """The lots of a piece's first `inside` trades, and how many of them buyers took; consistent with its runs."""
        if self.trades < _SPLIT_TRADES or piece == len(self.order):
            (run,) = self._runs_of(piece)
            lots = run.lots * inside // run.trades
            return lots, lots if run.bought else 0
        trades, taken, buys = self._split(piece)
        if inside <= buys:
            lots = taken * inside // buys
            return lots, lots
        sold = self.lots - taken + self._extra(piece)
        return taken + sold * (inside - buys) // (trades - buys), taken

    def _runs_of(self, piece: int) -> tuple[Run, ...]:
        """The one or two runs of a piece; piece number len(order) is the surplus."""
        if piece == len(self.order):
            return (Run(self.levels[4], self.rest, self._surplus, bought=False),)
        price, lots, extra = self.levels[self.order[piece]], self.lots, self._extra(piece)
        if self.trades < _SPLIT_TRADES:
            return (Run(price, lots + extra, self._trades_of(piece), self._bought(piece)),)
        trades, taken, buys = self._split(piece)
        sold = Run(price, lots - taken + extra, trades - buys, bought=False)
        return (Run(price, taken, buys, bought=True), sold) if buys else (sold,)

    def _split(self, piece: int) -> tuple[int, int, int]:
        """For a piece of at least two trades: their number, the lots that buyers take, and in how many trades."""
        trades, taken = self._trades_of(piece), self.lots * self.share >> 8
        buys = min(max(1, trades * self.share >> 8, trades - self.lots + taken), taken, trades - 1)
        return trades, taken, buys

    def _extra(self, piece: int) -> int:
        """The lots of `rest` that belong to a piece: all to the last one, unless surplus trades have them."""
        return self.rest if piece == len(self.order) - 1 and not self._surplus else 0

    @property
    def _surplus(self) -> int:
        """The number of trades after the pieces, for which these have no lots left; they share `rest`."""
        return self.trades % _PIECES if self._full and self.lots == self.trades // _PIECES else 0

    @property
    def _full(self) -> bool:
        return len(self.order) == _PIECES

    def _trades_of(self, piece: int) -> int:
        if not self._full:
            return 1
        least, more = divmod(self.trades, _PIECES)
        return least + (not self._surplus and piece < more)

    def _place(self, done: int) -> tuple[int, int]:
        """The number of complete pieces after `done` trades, and of trades of the next piece."""
        if not self._full:
            return done, 0
        least, more = divmod(self.trades, _PIECES)
        longer = 0 if self._surplus else more
        if done < longer * (least + 1):
            return divmod(done, least + 1)
        pieces = min(_PIECES, longer + (done - longer * (least + 1)) // least)
        return pieces, done - longer * (least + 1) - (pieces - longer) * least

    def _taken(self, pieces: int, whole: int) -> tuple[int, int]:
        """Lots and quote volume that buyers took of the first `pieces`, whose prices add up to `whole`."""
        if self.trades >= _SPLIT_TRADES:
            taken = self.lots * self.share >> 8
            return taken * pieces, taken * whole
        bought = [self.levels[self.order[piece]] for piece in range(pieces) if self._bought(piece)]
        lots, quote = self.lots * len(bought), self.lots * sum(bought)
        if self.rest and bought and pieces == len(self.order) and self._bought(pieces - 1) and not self._surplus:
            return lots + self.rest, quote + self.rest * self.levels[4]
        return lots, quote

    def _bought(self, piece: int) -> bool:
        return (piece + 1) * self.share >> 8 > piece * self.share >> 8


@dataclass(slots=True)
class HourBlock:
    """The existing minutes of one UTC hour (none before the listing), and their walks."""

    start_ms: int
    first: int
    candles: list[Candle]
    walks: list[Walk | None]
    close_before: int

    def trades_before(self, open_ms: int) -> int:
        """The trades of the hour's minutes that open before `open_ms`."""
        return sum(
            candle.trades for candle in self.candles[: max(0, (open_ms - self.start_ms) // MINUTE_MS - self.first)]
        )

    def minute(self, open_ms: int) -> tuple[Candle, Walk | None, int]:
        """The candle, its walk (None without trades) and the previous close of the minute that opens at `open_ms`."""
        place = (open_ms - self.start_ms) // MINUTE_MS - self.first
        before = self.candles[place - 1].close if place else self.close_before
        return self.candles[place], self.walks[place], before


def flat(open_ms: int, close: int) -> Candle:
    """A candle without trades: flat at the previous close."""
    return Candle(open_ms, close, close, close, close, 0, 0, 0, 0, 0)


def build_hour(item: Instrument, hour: int) -> HourBlock:
    """The block of UTC hour number `hour` since the epoch. Deterministic; takes about 0.1 ms."""
    start_ms, tick = hour * HOUR_MS, item.tick_units
    first, before = _minute_in(item.onboard_ms, start_ms), _close_ticks(item, hour - 1)
    words = array("Q", shake_128(f"{item.uid}#{hour}".encode()).digest(960))
    traded = _traded(item, hour, words)
    block = HourBlock(start_ms, first, [], [], before * tick)
    target, vol = _anchor_ticks(item, hour), max(3, item.base_ticks // 1_500)
    last, end = max((i for i in range(60) if traded[i]), default=-1), _minute_in(item.delivery_ms, start_ms)
    origin, close = before, before
    for i in range(first, 60):
        open_ms = start_ms + i * MINUTE_MS
        if not traded[i] or i >= end:
            block.candles.append(flat(open_ms, close * tick))
            block.walks.append(None)
            continue
        bits = words[2 * i]
        aim = (
            target
            if i == last
            else origin + (target - origin) * (i + 1) // 60 + (((bits >> 32 & 8191) - 4096) * vol >> 12)
        )
        walk = _walk(item, bits, words[2 * i + 1], close, aim, vol)
        close = aim
        block.candles.append(walk.candle(open_ms))
        block.walks.append(walk)
    return block


def hour_trades(item: Instrument, hour: int) -> list[int]:
    """The number of trades in each of the hour's sixty minutes. Takes about 15 µs."""
    if not _trades_in(item, hour):
        return [0] * 60
    start_ms, rate, empty = hour * HOUR_MS, item.trades_a_minute, item.empty_of_1024
    words = array("Q", shake_128(f"{item.uid}#{hour}".encode()).digest(960))
    if item.onboard_ms < start_ms and item.delivery_ms >= start_ms + HOUR_MS:
        counts = [1 + (rate * (bits >> 10 & 255) >> 7) if bits & 1023 >= empty else 0 for bits in words[::2]]
        if any(counts):
            return counts
    end, traded = _minute_in(item.delivery_ms, start_ms), _traded(item, hour, words)
    return [_drawn_trades(item, words[2 * i]) if traded[i] and i < end else 0 for i in range(60)]


def _drawn_trades(item: Instrument, bits: int) -> int:
    return 1 + (item.trades_a_minute * (bits >> 10 & 255) >> 7)


def _walk(item: Instrument, bits: int, more: int, before: int, close: int, vol: int) -> Walk:
    """The trades of one minute, drawn from 128 random bits; `before`, `close`, `vol` in ticks."""
    trades = _drawn_trades(item, bits)
    volume = trades * (1 + (item.lots_a_trade * (bits >> 18 & 255) >> 7)) + (bits >> 26 & 15)
    first = before if more & 1 else before + (more >> 1 & 7) - 3 - (more >> 1 & 7 < 4)
    span, tick = close - first, item.tick_units
    levels = (
        first * tick,
        (first + (span >> 2) + (((more >> 8 & 1023) - 512) * vol >> 10)) * tick,
        (first + (span >> 1) + (((more >> 18 & 1023) - 512) * vol >> 10)) * tick,
        (first + (span * 3 >> 2) + (((more >> 28 & 1023) - 512) * vol >> 10)) * tick,
        close * tick,
    )
    order = _WALKS[trades if trades < _PIECES else _PIECES]
    lots, rest = divmod(volume, len(order))
    share = more >> 38 & 255
    return Walk(
        levels, order, trades, lots, rest, 0 if share < 24 and trades < _SPLIT_TRADES else share, (more >> 46) % _QUANTA
    )


def _traded(item: Instrument, hour: int, words: "array[int]") -> list[bool]:
    """Which of the hour's sixty minutes have trades, ignoring a delivery; the listing minute always has."""
    start_ms, traded = hour * HOUR_MS, [False] * 60
    if not _trades_in(item, hour):
        return traded
    first = _minute_in(item.onboard_ms, start_ms)
    for i in range(first, 60):
        traded[i] = words[2 * i] & 1023 >= item.empty_of_1024
    if item.onboard_ms >= start_ms:
        traded[first] = True
    if not any(traded):
        traded[first + words[0] % (60 - first)] = True
    return traded


def _minute_in(time_ms: int, start_ms: int) -> int:
    return min(60, max(0, (time_ms - start_ms) // MINUTE_MS))


@lru_cache(maxsize=65_536)
def _trades_in(item: Instrument, hour: int) -> bool:
    """Whether the hour has trades. Quiet symbols have hours without any, but never their first."""
    start_ms = hour * HOUR_MS
    if start_ms + HOUR_MS <= item.onboard_ms or start_ms >= item.delivery_ms or item.pending:
        return False
    if not item.quiet or start_ms <= item.onboard_ms:
        return True
    return hour % 24 == 23 or chance(f"{item.uid}/dead/{hour}") & 255 >= _DEAD_HOURS_OF_256


def _anchor_ticks(item: Instrument, hour: int) -> int:
    return item.base_ticks * (1_000_000 + drift_ppm(item.follows or item.uid, hour)) // 1_000_000


def _close_ticks(item: Instrument, hour: int) -> int:
    """The last price at the end of `hour`, computed without generating earlier candles."""
    if hour >= (item.delivery_ms - 1) // HOUR_MS:
        return _settled_ticks(item)
    while hour * HOUR_MS + HOUR_MS > item.onboard_ms and not _trades_in(item, hour):
        hour -= 1
    return _anchor_ticks(item, hour)


@lru_cache(maxsize=4_096)
def _settled_ticks(item: Instrument) -> int:
    """The last price before the delivery; candles of a settled symbol stay flat at it."""
    return build_hour(item, (item.delivery_ms - 1) // HOUR_MS).candles[-1].close // item.tick_units
