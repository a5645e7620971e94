"""The files of klines: REST's rows in the number forms of three eras (binance-facts sections 3 and 6.2)."""

from collections.abc import Sequence
from typing import Final

from infra.sandbox.archive.files import FileKey
from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import utc_ms
from infra.sandbox.render import Row, decimal
from infra.sandbox.universe import Instrument

_COLUMNS = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time"),
    *("quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
_HEADER: Final = ",".join(_COLUMNS) + "\n"
_HEADER_SINCE_MS: Final = utc_ms(2022, 5)
_PADDED_ZEROS_UNTIL_MS: Final = utc_ms(2023, 9, 19)
_SHORT_WHOLES_UNTIL_MS: Final = utc_ms(2023, 11, 16)


def rows(exchange: Exchange, item: Instrument, key: FileKey, now_ms: int) -> list[Row]:
    """REST's rows of the file's period."""
    return exchange.closed_rows(item, key.interval, key.start_ms, min(key.end_ms, item.gone_ms), now_ms)


def csv(item: Instrument, held: Sequence[Row]) -> str:
    """The CSV of REST's rows, with the number form of each row's date; with a header from May 2022 on."""
    header = _HEADER if held and int(held[0][0]) >= _HEADER_SINCE_MS else ""
    return header + "".join(f"{','.join(_fields(item, row))}\n" for row in held)


def _fields(item: Instrument, row: Row) -> list[str]:
    fields, open_ms = [str(field) for field in row], int(row[0])
    if open_ms < _PADDED_ZEROS_UNTIL_MS:
        places = {5: item.quantity_precision, 7: item.quantity_precision + item.price_precision}
        for place, decimals in (*places.items(), (9, places[5]), (10, places[7])):
            if fields[place] == "0":
                fields[place] = decimal(0, decimals)
    elif open_ms < _SHORT_WHOLES_UNTIL_MS:
        for place in (1, 2, 3, 4, 5, 7, 9, 10):
            whole, _, fraction = fields[place].partition(".")
            fields[place] = fields[place] if fraction.strip("0") else whole
    return fields
