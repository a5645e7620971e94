"""Freshness: the age of each wished series' newest kline, and which tails are stale or incomplete."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Spans
from app.holding.gaps import survey
from app.holding.inventory import Inventory
from app.holding.wish import CLOSE_GRACE_MS, Wish

INTERVALS_MAX: Final = 2  # a tail this many intervals old is stale, unless READ_STALE_SEC_MAX sets another age


class State(StrEnum):
    """The state of a series' tail: FRESH is complete and recent, STALE is too old, NOT_WHOLE has gaps."""

    FRESH = "fresh"
    STALE = "stale"
    NOT_WHOLE = "not_whole"


class TailAge(NamedTuple):
    """The tail of one series: its state, the age of its newest kline, and since when a kline is overdue."""

    series: Series
    state: State
    age_ms: int | None
    """Milliseconds since the newest held kline closed; None while nothing is held."""
    since_ms: int | None
    """When the first missing kline was due; None when nothing is missing."""


class Survey(NamedTuple):
    """The state of all tails at one moment."""

    counts: dict[State, int]
    lacking: list[TailAge]
    """Every tail that is not fresh."""
    worst: dict[str, TailAge]
    """Per interval code: the tail whose newest kline is the oldest; a tail without klines counts as oldest."""


class Freshness:
    """Judges tails by the ledger, that is by the data held, and not by what sockets and tasks report of themselves."""

    def __init__(self, as_of_ms: Callable[[], int], inventory: Inventory, *, stale_ms_max: int = 0) -> None:
        """`as_of_ms` returns the time that the ledger in memory describes; in a follower, the time of its last read."""
        self._as_of_ms = as_of_ms
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._stale_ms_max = stale_ms_max

    def survey(self) -> Survey:
        """Judge the tail of every wished series whose contract still trades, but of gathered kinds."""
        wish, now_ms = self._wish(), self._as_of_ms()
        counts = dict.fromkeys(State, 0)
        lacking: list[TailAge] = []
        worst: dict[str, TailAge] = {}
        for series in wish.planned():
            if wish.is_over(series, now_ms):
                continue  # a delivered contract gets no newer klines
            tail = self._judge(wish, series, now_ms, is_followed=wish.follows(series))
            counts[tail.state] += 1
            if tail.state is not State.FRESH:
                lacking.append(tail)
            code = series.interval.code
            if code not in worst or _rank(tail) > _rank(worst[code]):
                worst[code] = tail
        return Survey(counts, lacking, worst)

    def _judge(self, wish: Wish, series: Series, now_ms: int, *, is_followed: bool) -> TailAge:
        holdings, ledger = self._holdings, self._holdings.ledger(series)
        grid = holdings.grid(series)
        end_ms = next(reversed(ledger.held)).end_ms if ledger.held else 0
        age_ms = max(0, now_ms - end_ms) if end_ms else None
        if not holdings.is_anchored(series):
            return TailAge(series, State.NOT_WHOLE, age_ms, now_ms)
        tail = wish.tail(
            series, grid, now_ms
        )  # empty while no kline of a long interval has closed since the wish began
        if is_followed and tail and end_ms and now_ms >= stale_at_ms(grid, end_ms, self._stale_ms_max):
            return TailAge(series, State.STALE, age_ms, grid.shift(end_ms, 1) + CLOSE_GRACE_MS)
        if is_followed:
            missing = Spans() if ledger.known.covers(tail) else ledger.known.complement(tail)
        else:  # an extra wish may end long before now
            missing = survey(wish, holdings, series, now_ms).missing.clip(tail)
        if missing:
            first_ms = grid.shift(grid.ceil(next(iter(missing)).start_ms), 1)
            return TailAge(series, State.NOT_WHOLE, age_ms, first_ms + CLOSE_GRACE_MS)
        return TailAge(series, State.FRESH, age_ms, None)


def stale_at_ms(grid: Grid, end_ms: int, stale_ms_max: int) -> int:
    """The time (ms) at which a tail whose newest kline closed at `end_ms` turns stale: never before the next is due."""
    end_ms = grid.floor(end_ms)
    if not stale_ms_max:
        return grid.shift(end_ms, INTERVALS_MAX)
    return max(end_ms + stale_ms_max, grid.shift(end_ms, 1) + CLOSE_GRACE_MS)


def _rank(tail: TailAge) -> tuple[bool, int]:
    return tail.age_ms is None, tail.age_ms or 0
