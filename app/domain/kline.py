"""A kline with the exchange's exact text, and the normal form of its numbers."""

import re
from typing import Final, NamedTuple

from app.domain.interval import Grid

OPEN_MS_MAX: Final = 1 << 47  # the year 6429: later than any kline, and within the range of datetime
TRADES_MAX: Final = 1 << 53  # JSON and the database hold integers up to here exactly; no kline comes near
TEXT_CHARS_MAX: Final = 40  # no number of the exchange comes near; bounds the cost of garbage
_SHORT: Final = rf"(?![^ ]{{{TEXT_CHARS_MAX + 1}}})"
_DECIMAL: Final = r"(?!0[0-9])[0-9]++(?:\.[0-9]++)?+"  # possessive: half the time, as every frame is matched
_EIGHT_DECIMALS: Final = re.compile(" ".join([f"{_SHORT}{_DECIMAL}"] * 8))
_SIGNED_PRICES: Final = re.compile(" ".join([f"{_SHORT}-?{_DECIMAL}"] * 4 + [f"{_SHORT}{_DECIMAL}"] * 4))


class Kline(NamedTuple):
    """One kline. Times in ms; numbers are the exchange's decimal text; volumes in base asset unless named quote."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trades: int
    taker_buy_volume: str
    taker_buy_quote_volume: str


class Precision(NamedTuple):
    """How many decimals the exchange prints for a symbol's prices and base volumes; quote volumes have the sum."""

    price: int
    quantity: int


class BadKline(ValueError):
    """Bytes from outside are not a valid kline. They are dropped, and the kline is fetched again."""


def check(kline: Kline, grid: Grid, *, is_signed: bool = False) -> Kline:
    """Return `kline`, or raise BadKline when a number is no plain decimal or its open time is not on `grid`.

    Only where `is_signed` may prices be negative.
    """
    if not 0 <= kline.open_ms <= OPEN_MS_MAX or grid.floor(kline.open_ms) != kline.open_ms:
        raise BadKline(f"open time {kline.open_ms} is not on the grid")
    if not 0 <= kline.trades <= TRADES_MAX:
        raise BadKline(f"trade count {kline.trades} at {kline.open_ms}")
    _, first, high, low, last, volume, quote, _, taker, taker_quote = kline
    decimals = _SIGNED_PRICES if is_signed else _EIGHT_DECIMALS
    if not decimals.fullmatch(f"{first} {high} {low} {last} {volume} {quote} {taker} {taker_quote}"):
        texts = (*kline[1:7], *kline[8:10])
        raise BadKline(f"not plain decimals at {kline.open_ms}: {texts!r:.200}")
    return kline


def normalise(kline: Kline, precision: Precision) -> Kline:
    """Return `kline` in the form REST prints (binance-facts section 3): fixed decimals, zero volumes as bare "0".

    Digits are never lost: a number that needs more decimals than `precision` says keeps its own.
    """
    price, quantity = precision
    return Kline(
        kline.open_ms,
        price_text(kline.open, price),
        price_text(kline.high, price),
        price_text(kline.low, price),
        price_text(kline.close, price),
        volume_text(kline.volume, quantity),
        volume_text(kline.quote_volume, price + quantity),
        kline.trades,
        volume_text(kline.taker_buy_volume, quantity),
        volume_text(kline.taker_buy_quote_volume, price + quantity),
    )


def is_zero(text: str) -> bool:
    """Whether a plain decimal is zero, with any number of zeros: `0`, `0.0`, `0.000`."""
    return not text.strip("0.")


def volume_text(text: str, decimals: int) -> str:
    """A volume with at least `decimals` decimals; zero is a bare "0"."""
    return "0" if is_zero(text) else price_text(text, decimals)


def price_text(text: str, decimals: int) -> str:
    """A plain decimal with at least `decimals` decimals, and without trailing zeros beyond them."""
    whole, _, fraction = text.partition(".")
    if len(fraction) == decimals:
        return text
    if len(fraction) > decimals:
        fraction = fraction[:decimals] + fraction[decimals:].rstrip("0")
    else:
        fraction = fraction.ljust(decimals, "0")
    return f"{whole}.{fraction}" if fraction else whole
