"""What OKX and Deribit have in common: instruments, books, sequence numbers, and the values of an instrument."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from infra.sandbox.book import STEP_MS, step_at, update_id
from infra.sandbox.candles import Candle
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import Fault, FaultBoard
from infra.sandbox.grid import MINUTE_MS
from infra.sandbox.ladders import Ladders
from infra.sandbox.listings import Listing, Listings
from infra.sandbox.market import roll_up
from infra.sandbox.tape import Trade

_RESET_BY: Final = {"okx": 1_000_000_000}  # how much smaller numbers are after a reset: those of 72 days before
_LATE_MINUTES_MAX: Final = 5  # minutes of trades that a delayed stream still sends; older ones are omitted
RESETS_MAX: Final = 50  # of one instrument; its sequence numbers stay positive


class Answer(NamedTuple):
    """An answer of REST."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Venue:
    """The state of one venue. All of it but the resets is a function of seed and time."""

    name: str
    exchange: Exchange
    faults: FaultBoard
    reset_by: int = field(init=False)
    listings: Listings = field(init=False)
    ladders: Ladders = field(init=False)
    resets: dict[str, list[int]] = field(default_factory=dict)
    """By instrument: the steps since which its sequence numbers are `reset_by` smaller."""

    def __post_init__(self) -> None:
        self.reset_by = _RESET_BY.get(self.name, 0)
        self.listings = Listings(self.name, self.exchange.universe.seed, self.exchange.options.rate)
        self.ladders = Ladders(self.exchange.book)

    def warm(self, name: str, now_ms: int) -> None:
        """Compute what answers about an instrument are based on: in a new sandbox this takes up to 100 ms."""
        listing = self.listings.find(name, now_ms)
        if listing is not None:
            self.exchange.tickers.at(listing.item, now_ms)
            self.ladders.best(listing.item, step_at(now_ms), 1)

    def reset(self, fault: Fault, now_ms: int) -> None:
        """Reset the books of matching instruments from the next step on. Raises ValueError above RESETS_MAX."""
        for listing in self.listings.at(now_ms):
            if fault.symbol is None or fnmatchcase(listing.name, fault.symbol):
                steps = self.resets.setdefault(listing.name, [])
                if len(steps) >= RESETS_MAX:
                    raise ValueError(f"{listing.name} had {RESETS_MAX} resets; start another sandbox for more")
                steps.append(step_at(now_ms) + 1)

    def was_reset_at(self, listing: Listing, step: int) -> bool:
        """Whether the book of an instrument was reset at `step`."""
        return step in self.resets.get(listing.name, ())

    def sequence(self, listing: Listing, step: int) -> int:
        """The sequence number of an instrument's book at `step`."""
        resets = self.resets.get(listing.name)
        return update_id(step) - (self.reset_by * sum(since <= step for since in resets) if resets else 0)

    def step_of(self, listing: Listing, sequence: int, now_ms: int) -> int | None:
        """The newest step not after `now_ms` whose book has this sequence number; None if there is none."""
        steps = self.resets.get(listing.name, [])
        for times in range(len(steps), -1, -1):
            step, rest = divmod(sequence + times * self.reset_by, update_id(1))
            if not rest and step <= step_at(now_ms) and self.sequence(listing, step) == sequence:
                return step
        return None

    def span(self, listing: Listing, open_ms: int, end_ms: int, now_ms: int) -> Candle:
        """The candle of [open_ms, end_ms) as far as it is known at `now_ms`."""
        market, item = self.exchange.market, listing.item
        if now_ms >= end_ms:
            return roll_up(open_ms, market.between(item, open_ms, end_ms))
        return market.candle_now(item, "1m", open_ms, now_ms)

    def coins(self, listing: Listing, open_ms: int, end_ms: int, now_ms: int) -> int:
        """The volume of [open_ms, end_ms) up to now in units of 10^-8 coins.

        That of an inverse contract is the sum over its minutes at their mean prices.
        """
        if not listing.is_inverse:
            return listing.coins(self.span(listing, open_ms, end_ms, now_ms).volume, 1)
        market, item, end_ms = self.exchange.market, listing.item, min(end_ms, now_ms)
        minutes = list(market.minutes(item, open_ms, end_ms // MINUTE_MS * MINUTE_MS))
        if end_ms % MINUTE_MS:
            minutes.append(market.minute_now(item, now_ms))
        return sum(coins_of(listing, minute) for minute in minutes)


def coins_of(listing: Listing, minute: Candle) -> int:
    """The volume of an inverse contract's minute in units of 10^-8 coins, at its mean price."""
    return listing.coins(minute.volume, minute.quote // minute.volume) if minute.volume else 0


class TradeCursor:
    """The trades of an instrument that were published since the last call."""

    def __init__(self, venue: Venue, listing: Listing, now_ms: int) -> None:
        self._tape, self._numbers = venue.exchange.tape, venue.exchange.market.numbers
        self._item = listing.item
        self._next = self._tape.newest_number(self._item, now_ms) + 1

    def take(self, now_ms: int) -> list[Trade]:
        """The trades since the last call, oldest first."""
        newest = self._tape.newest_number(self._item, now_ms)
        oldest_ms = (now_ms // MINUTE_MS - _LATE_MINUTES_MAX) * MINUTE_MS
        if newest >= self._next and self._next < (oldest := self._numbers.first(self._item, oldest_ms)):
            self._next = oldest
        trades = list(self._tape.numbered(self._item, self._next, newest, now_ms)) if newest >= self._next else []
        self._next = max(self._next, newest + 1)
        return trades


class StepCursor:
    """The steps of a book since the last call."""

    def __init__(self, now_ms: int) -> None:
        self.step = step_at(now_ms)

    def take(self, now_ms: int, late_steps_max: int) -> range:
        """The steps since the last call; no more than the newest `late_steps_max` of them."""
        last = step_at(now_ms)
        steps = range(max(self.step + 1, last - late_steps_max + 1), last + 1)
        self.step = max(self.step, last)
        return steps


def step_ms(step: int) -> int:
    """The time (ms) of a step."""
    return step * STEP_MS
