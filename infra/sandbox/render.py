"""Binance's text forms of a candle: REST row and stream event (binance-facts sections 3 and 5.4)."""

from infra.sandbox.candles import Candle
from infra.sandbox.marks import PLACES, Sampled
from infra.sandbox.universe import Instrument

NO_TRADES = (-1, -1)  # first and last trade id of a candle without trades

Row = list[int | str]


def decimal(units: int, places: int) -> str:
    """`units` of 10^-`places` with exactly `places` decimals: (107240900, 3) is "107240.900"."""
    if places == 0:
        return str(units)
    digits = str(units).zfill(places + 1)
    return f"{digits[:-places]}.{digits[-places:]}"


def signed(units: int, places: int) -> str:
    """As `decimal`, for numbers that may be negative."""
    return f"-{decimal(-units, places)}" if units < 0 else decimal(units, places)


def amount(units: int, places: int) -> str:
    """As `decimal`, but zero is the bare "0" that Binance prints for volumes."""
    return decimal(units, places) if units else "0"


def trimmed(units: int, places: int) -> str:
    """As `signed` without trailing zeros, as OKX prints numbers: (1500, 3) is "1.5", (2000, 3) is "2"."""
    text = signed(units, places)
    return text.rstrip("0").rstrip(".") if places else text


def json_number(units: int, places: int) -> str:
    """A JSON number as Deribit prints it: at least one decimal, and an exponent below 0.0001: 1.0e-5."""
    text = trimmed(units, places)
    if units and abs(units) * 10_000 < _ten_to(places):
        digits = str(abs(units))
        fraction = digits[1:].rstrip("0") or "0"
        return f"{'-' if units < 0 else ''}{digits[0]}.{fraction}e-{places - len(digits) + 1}"
    return text if "." in text else f"{text}.0"


def _ten_to(places: int) -> int:
    return int("1" + "0" * places)


def rest_row(item: Instrument, candle: Candle, close_ms: int) -> Row:
    """The 12 elements of a klines row."""
    price, lots = item.price_precision, item.quantity_precision
    return [
        candle.open_ms,
        decimal(candle.open, price),
        decimal(candle.high, price),
        decimal(candle.low, price),
        decimal(candle.close, price),
        amount(candle.volume, lots),
        close_ms,
        amount(candle.quote, price + lots),
        candle.trades,
        amount(candle.taker_volume, lots),
        amount(candle.taker_quote, price + lots),
        "0",
    ]


def sampled_row(open_ms: int, candle: Sampled, close_ms: int) -> Row:
    """The 12 elements of a row of mark, index or premium klines: no volumes, and samples in place of trades."""
    values = [signed(value, PLACES) for value in candle[:4]]
    return [open_ms, *values, "0", close_ms, "0", candle.samples, "0", "0", "0"]


def stream_event(
    item: Instrument, interval: str, row: Row, event_ms: int, *, closed: bool, ids: tuple[int, int] = NO_TRADES
) -> str:
    """The kline event of a REST row; `ids` are those of its first and last trade."""
    open_ms, first, high, low, close, volume, close_ms, quote, trades, taker, taker_quote, _ = row
    return (
        f'{{"e":"kline","E":{event_ms},"s":"{item.symbol}","k":{{"t":{open_ms},"T":{close_ms},"s":"{item.symbol}",'
        f'"i":"{interval}","f":{ids[0]},"L":{ids[1]},"o":"{first}","c":"{close}","h":"{high}","l":"{low}",'
        f'"v":"{volume}","n":{trades},"x":{"true" if closed else "false"},"q":"{quote}","V":"{taker}",'
        f'"Q":"{taker_quote}","B":"0"}}}}'
    )
