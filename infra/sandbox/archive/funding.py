"""The files of fundings: one a month, without mark prices (binance-facts section 6.2)."""

from collections.abc import Sequence
from typing import Final

from infra.sandbox.archive.files import FileKey
from infra.sandbox.exchange import Exchange
from infra.sandbox.funding import funding, hours_ms
from infra.sandbox.marks import PLACES
from infra.sandbox.render import Row, signed
from infra.sandbox.universe import Instrument

_HEADER: Final = "calc_time,funding_interval_hours,last_funding_rate\n"


def rows(exchange: Exchange, item: Instrument, key: FileKey, now_ms: int) -> list[Row]:
    """The rows of the file's period: time (ms), which is REST's fundingTime, hours since the one before, rate."""
    del exchange
    found: list[Row] = []
    for hour_ms in hours_ms(item, key.start_ms, min(key.end_ms, item.gone_ms, now_ms + 1) - 1):
        one = funding(item, hour_ms)
        found.append([one.time_ms, one.hours, signed(one.rate, PLACES)])
    return found


def csv(item: Instrument, held: Sequence[Row]) -> str:
    """The CSV of the rows."""
    del item
    return _HEADER + "".join(f"{','.join(map(str, row))}\n" for row in held)
