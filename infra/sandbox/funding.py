"""When the fundings of a perpetual are, and their rates: every 8, 4 or 1 hours, which changes for some symbols."""

from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from infra.sandbox.grid import DAY_MS, HOUR_MS, utc_ms
from infra.sandbox.noise import chance
from infra.sandbox.universe import NEVER_MS, Instrument

INTEREST: Final = 10_000  # 0.00010000, the fixed part of a funding rate
JITTER_MS: Final = 8  # a funding's time is a few ms after its hour (binance-facts section 2.1)
_LONGEST_MS: Final = 8 * HOUR_MS  # changes are at multiples of it, so that a funding of either interval is then

_YOUTH_MS: Final = 20 * DAY_MS  # after the listing in which the interval does not change
_CHANGES_SINCE_MS: Final = utc_ms(2024, 1)
_CHANGE_DAYS: Final = 1_000  # after either in which the first change is, so that many symbols change in 2026


class Regime(NamedTuple):
    """After `since_ms` there is a funding every `hours`; the funding at `since_ms` ends the regime before."""

    since_ms: int
    hours: int


class Funding(NamedTuple):
    """One funding: its time, a few ms after the hour; the hours since the one before; its rate with eight decimals."""

    time_ms: int
    hours: int
    rate: int


def has_funding(item: Instrument) -> bool:
    """Whether the symbol is a perpetual."""
    return "PERPETUAL" in item.contract_type


@lru_cache(maxsize=4_096)
def regimes(item: Instrument) -> tuple[Regime, ...]:
    """The funding intervals that a perpetual has had, oldest first; those of a coin called BTC are always 8 hours."""
    bits = chance(f"{item.uid}/funding")
    if item.base_asset == "BTC":
        return (Regime(item.onboard_ms, 8),)
    if bits % 4 == 0:
        return (Regime(item.onboard_ms, 4),)
    found = [Regime(item.onboard_ms, 8)]
    if (bits >> 8) % 2:
        oldest_ms = max(item.onboard_ms // _LONGEST_MS * _LONGEST_MS + _YOUTH_MS, _CHANGES_SINCE_MS)
        since_ms = oldest_ms + (bits >> 16) % _CHANGE_DAYS * DAY_MS
        found.append(Regime(since_ms, 4))
        if (bits >> 32) % 2:
            found.append(Regime(since_ms + (10 + (bits >> 40) % 200) * DAY_MS, 1))
    return tuple(found)


def regime_at(item: Instrument, now_ms: int) -> Regime:
    """The regime of the next funding after `now_ms`."""
    return next((each for each in reversed(regimes(item)) if each.since_ms <= now_ms), regimes(item)[0])


def next_funding_ms(item: Instrument, now_ms: int) -> int:
    """The time of the next funding (ms); 0 if there is none."""
    if not has_funding(item) or item.status(now_ms) != "TRADING":
        return 0
    every_ms = regime_at(item, now_ms).hours * HOUR_MS
    return (now_ms // every_ms + 1) * every_ms


def funding_rate(item: Instrument, hour_ms: int) -> int:
    """The rate of the funding at `hour_ms` (0 for none); the prediction before that time is the same."""
    if not hour_ms:
        return 0
    bits = chance(f"{item.uid}/rate/{hour_ms // HOUR_MS}")
    return INTEREST if bits & 3 else (bits >> 2) % 40_000 - 20_000


def funding(item: Instrument, hour_ms: int) -> Funding:
    """The funding of a full hour out of `hours_ms`."""
    stamp = chance(f"{item.uid}/stamp/{hour_ms // HOUR_MS}") % (2 * JITTER_MS + 1) - JITTER_MS
    return Funding(hour_ms + max(0, stamp), regime_at(item, hour_ms - 1).hours, funding_rate(item, hour_ms))


def hours_ms(item: Instrument, start_ms: int, end_ms: int) -> list[int]:
    """The full hours (ms) of the fundings whose time, up to 8 ms later, is in [start_ms, end_ms]."""
    if not has_funding(item) or item.pending:
        return []
    last_ms = min(end_ms, item.delivery_ms - 1)
    found: list[int] = []
    for regime, following in pairwise((*regimes(item), Regime(NEVER_MS, 0))):
        every_ms = regime.hours * HOUR_MS
        after_ms = max(regime.since_ms, start_ms - 1 - JITTER_MS)
        found += range((after_ms // every_ms + 1) * every_ms, min(following.since_ms, last_ms) + 1, every_ms)
    if found and funding(item, found[0]).time_ms < start_ms:
        del found[0]
    if found and funding(item, found[-1]).time_ms > end_ms:
        del found[-1]
    return found


def full_hours_ms(item: Instrument, start_ms: int, end_ms: int) -> list[int]:
    """The full hours (ms) in [start_ms, end_ms] with a funding, for venues that state no other time of it."""
    wider = hours_ms(item, start_ms - HOUR_MS, end_ms + HOUR_MS)
    return [hour_ms for hour_ms in wider if start_ms <= hour_ms <= end_ms]
