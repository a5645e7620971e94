"""The exchange itself: what truly happened, from a seed, and what it answers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Final

import msgspec

from app.domain.interval import MINUTE_MS
from tests.collecting.model_venue import TRADES_PAGE, ModelVenue

FUNDING_EVERY_MS: Final = 5 * MINUTE_MS
SNAPSHOT_LEVELS: Final = 12
LEVELS: Final = 25
REST_LAG_MS: Final = 1_500

Frame = tuple[str, bytes]
"""The name of a channel and what goes out on it."""


@dataclass
class ModelInstrument:
    """What is true of one instrument."""

    native: str
    chance: Random
    venue: ModelVenue
    now_ms: int
    trades: list[list[Any]] = field(default_factory=list)
    era_begins: list[int] = field(default_factory=lambda: [0])
    """Indices of `trades` at which the exchange began to count again."""
    sequence: int = 1_000
    book_sequence: int = 50_000
    bids: dict[int, str] = field(default_factory=dict)
    asks: dict[int, str] = field(default_factory=dict)
    books: dict[int, list[tuple[dict[str, str], dict[str, str]]]] = field(default_factory=dict)
    """The whole book at each of the exchange's sequence numbers, which come again after a reset."""
    klines: dict[int, list[Any]] = field(default_factory=dict)
    paid: list[list[Any]] = field(default_factory=list)
    middle: int = 60_000
    absent_part: float = 0.0

    def __post_init__(self) -> None:
        for step in range(LEVELS):
            self.bids[self.middle - 1 - step] = self._amount()
            self.asks[self.middle + 1 + step] = self._amount()
        self._remember()

    # --- what happens

    def trade(self, now_ms: int) -> Iterator[Frame]:
        """One to three trades happen; sometimes numbers are left out, which the exchange never used."""
        if self.chance.random() < self.absent_part:
            self.sequence += self.chance.randint(1, 4)
        rows = []
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            self.sequence += 1
            trade_id = f"{len(self.era_begins)}-{self.sequence}"
            rows.append([self.sequence, trade_id, _price(self.middle), self._amount(), now_ms])
        self.trades.extend(rows)
        yield f"trade:{self.native}", _bytes({"kind": "trades", "native": self.native, "rows": rows})

    def reset_trades(self) -> None:
        """The exchange begins to count from one."""
        self.sequence = 0
        self.era_begins.append(len(self.trades))

    def move_book(self, now_ms: int) -> Iterator[Frame]:
        """Some levels change; the price moves, and with it the best ones."""
        first = self.book_sequence + 1
        previous = self.book_sequence
        before = dict(self.bids), dict(self.asks)
        if self.chance.random() < 0.3:
            self._move(self.chance.choice((-1, 1)))
        for side in (self.bids, self.asks):
            for ticks in self.chance.sample(sorted(side), 3):
                side[ticks] = self._amount()
        self.book_sequence += self.chance.randint(1, 5)
        self._remember()
        changes = [_changes(*pair) for pair in zip(before, (self.bids, self.asks), strict=True)]
        yield f"book:{self.native}", self.book_frame(now_ms, False, first, previous, *changes)

    def reset_book(self, now_ms: int) -> Iterator[Frame]:
        """The exchange begins to count the book from a low number."""
        previous = self.book_sequence
        self.book_sequence = self.chance.randint(1, 40)
        self._remember()
        yield f"book:{self.native}", self.book_frame(now_ms, False, self.book_sequence, previous, [], [])

    def kline(self, now_ms: int) -> Iterator[Frame]:
        """The kline in progress; the one before it, final, if it has just closed (some minutes have none)."""
        open_ms = now_ms - now_ms % MINUTE_MS
        for closed_ms in [closed_ms for closed_ms in self.klines if closed_ms < open_ms]:
            row = self.klines[closed_ms]
            if not row[6]:
                row[6], row[7] = True, closed_ms + MINUTE_MS
                yield f"kline:{self.native}", _bytes({"kind": "kline", "native": self.native, "row": row})
        if open_ms not in self.klines:
            if self.absent_part and (now_ms - open_ms >= 10_000 or self.chance.random() < self.absent_part):
                return
            price = _price(self.middle)
            self.klines[open_ms] = [open_ms, price, price, price, price, "0", False, now_ms]
        row = self.klines[open_ms]
        row[4:6] = [_price(self.middle), self._amount()]
        row[7] = now_ms
        yield f"kline:{self.native}", _bytes({"kind": "kline", "native": self.native, "row": row})

    def fund(self, now_ms: int) -> Iterator[Frame]:
        """A forecast; when its time has come, the rate is paid."""
        due_ms = now_ms - now_ms % FUNDING_EVERY_MS
        if not self.paid or self.paid[-1][1] < due_ms:
            self.paid.append([self._rate(), due_ms, due_ms, True])
        row = [self._rate(), due_ms + FUNDING_EVERY_MS, now_ms, False]
        yield f"funding_rate:{self.native}", _bytes({"kind": "funding", "native": self.native, "row": row})

    def tick(self, now_ms: int) -> Iterator[Frame]:
        """The state of the market."""
        value = {"kind": "ticker", "native": self.native, "t": now_ms, "price": _price(self.middle)}
        yield f"ticker:{self.native}", _bytes(value)

    # --- what is answered

    def book_frame(
        self, now_ms: int, is_snapshot: bool, first: int, previous: int | None, bids: list[Any], asks: list[Any]
    ) -> bytes:
        """A frame of the book up to the newest number."""
        value = {"kind": "book", "native": self.native, "snapshot": is_snapshot, "first": first, "t": now_ms}
        return _bytes(value | {"last": self.book_sequence, "previous": previous, "bids": bids, "asks": asks})

    def snapshot(self, now_ms: int, levels: int) -> bytes:
        """The best `levels` of each side, or all."""
        bids = [[_price(ticks), self.bids[ticks]] for ticks in sorted(self.bids, reverse=True)[:levels]]
        asks = [[_price(ticks), self.asks[ticks]] for ticks in sorted(self.asks)[:levels]]
        return self.book_frame(now_ms, True, self.book_sequence, None, bids, asks)

    def answer(self, path: str, params: dict[str, str], now_ms: int) -> bytes:
        """The answer to a request."""
        first, end = int(params.get("first", 0)), int(params.get("end", 0))
        match path:
            case "/trades":
                era = self.trades[self.era_begins[-1] :]
                rows = [row for row in era if first <= row[0] < end]
                rows = rows[-TRADES_PAGE:] if self.venue.is_newest_page else rows[:TRADES_PAGE]
            case "/klines":
                rows = [
                    [*row[:6], True, row[7]]
                    for open_ms, row in self.klines.items()
                    if first <= open_ms < end and open_ms + MINUTE_MS + REST_LAG_MS <= now_ms
                ][:TRADES_PAGE]
            case "/funding":
                rows = [row for row in self.paid if first <= row[1] < end]
            case "/open_interest":
                return _bytes({"kind": "open_interest", "t": now_ms, "amount": self._amount()})
            case _:
                return self.snapshot(now_ms, SNAPSHOT_LEVELS)
        return _bytes({"kind": path[1:], "rows": rows})

    # --- inside

    def _move(self, step: int) -> None:
        self.middle += step
        for ticks in (self.middle - 1, self.middle, self.middle + 1):
            self.bids.pop(ticks, None)
            self.asks.pop(ticks, None)
        self.bids[self.middle - 1] = self._amount()
        self.asks[self.middle + 1] = self._amount()
        for side in (self.bids, self.asks):
            while len(side) > LEVELS:
                del side[min(side) if side is self.bids else max(side)]
            while len(side) < LEVELS:
                side[min(side) - 1 if side is self.bids else max(side) + 1] = self._amount()

    def _remember(self) -> None:
        bids = {_canonical(ticks): amount for ticks, amount in self.bids.items()}
        asks = {_canonical(ticks): amount for ticks, amount in self.asks.items()}
        self.books.setdefault(self.book_sequence, []).append((bids, asks))

    def _amount(self) -> str:
        return f"{self.chance.randint(1, 9_999) / 1_000:.3f}"

    def _rate(self) -> str:
        return f"0.000{self.chance.randint(100, 102)}"


def _changes(before: dict[int, str], after: dict[int, str]) -> list[list[str]]:
    gone = [[_price(ticks), "0.000"] for ticks in before if ticks not in after]
    return gone + [[_price(ticks), amount] for ticks, amount in after.items() if before.get(ticks) != amount]


@cache
def _price(ticks: int) -> str:
    return f"{ticks // 10}.{ticks % 10}0"


@cache
def _canonical(ticks: int) -> str:
    return f"{ticks // 10}.{ticks % 10}" if ticks % 10 else f"{ticks // 10}"


def _bytes(value: object) -> bytes:
    return msgspec.json.encode(value)
