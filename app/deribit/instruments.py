"""Deribit's list of instruments, and what its amounts count."""

from typing import Annotated, Final

import msgspec

from app.deribit.envelope import decode
from app.domain.instrument import Instrument, Market, Unit, pair, unambiguous
from app.domain.kline import OPEN_MS_MAX

NAME: Final = "deribit"
INSTRUMENTS_MAX: Final = 50_000  # live: some 4,000, most of them options; bounds the memory of garbage
_PERPETUAL: Final = "perpetual"


class _Row(msgspec.Struct, gc=False):
    instrument_name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    kind: str
    base_currency: str
    quote_currency: str
    is_active: bool
    expiration_timestamp: Annotated[int, msgspec.Meta(ge=0, le=OPEN_MS_MAX)] = 0
    settlement_period: str = ""
    instrument_type: str = ""
    future_type: str = ""
    """The older name of `instrument_type`."""


_rows: Final = msgspec.json.Decoder(Annotated[list[_Row], msgspec.Meta(max_length=INSTRUMENTS_MAX)])


def read_instruments(body: bytes) -> list[Instrument]:
    """The spot pairs, perpetuals and dated futures that trade; options and combinations are left out.

    Of two with one name outside, none is taken. Raises Unreadable.
    """
    return unambiguous([one for row in decode(body, _rows) if row.is_active and (one := _instrument(row)) is not None])


def _instrument(row: _Row) -> Instrument | None:
    base, quote = row.base_currency, row.quote_currency
    if row.kind == "spot":
        symbol = pair(base, quote)
        return None if symbol is None else Instrument(NAME, Market.SPOT, symbol, row.instrument_name)
    is_inverse = (row.instrument_type or row.future_type) == "reversed"
    if row.kind != "future" or not (is_inverse or (row.instrument_type or row.future_type) == "linear"):
        return None
    unit = Unit.USD if is_inverse else Unit.COIN
    if is_inverse and quote != "USD":
        return None  # its amounts would not count dollars
    if row.settlement_period == _PERPETUAL:
        market, symbol = Market.SWAP, pair(base, quote)
    else:
        market, symbol = Market.FUTURE, pair(base, quote, row.expiration_timestamp)
    if symbol is None:
        return None
    return Instrument(NAME, market, symbol, row.instrument_name, unit, is_inverse=is_inverse)
