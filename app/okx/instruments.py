"""OKX's lists of instruments, and what its contracts are worth."""

from typing import Annotated, Final

import msgspec

from app.domain import exact
from app.domain.instrument import Instrument, Market, Unit, pair
from app.domain.kline import OPEN_MS_MAX
from app.domain.unreadable import Unreadable
from app.okx.envelope import decode

NAME: Final = "okx"
INSTRUMENTS_MAX: Final = 20_000  # live: about 800 of a kind; bounds the memory of garbage
_LIVE: Final = "live"


class _Row(msgspec.Struct, rename="camel", gc=False):
    inst_type: str
    inst_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    state: str
    base_ccy: str = ""
    quote_ccy: str = ""
    settle_ccy: str = ""
    ct_val: str = ""
    ct_mult: str = ""
    ct_val_ccy: str = ""
    ct_type: str = ""
    exp_time: str = ""


_rows: Final = msgspec.json.Decoder(Annotated[list[_Row], msgspec.Meta(max_length=INSTRUMENTS_MAX)])


def read_instruments(body: bytes) -> list[Instrument]:
    """The spot pairs, swaps and dated futures of an answer that trade. Raises Unreadable.

    Left out: options, what does not trade, and contracts whose native name does not follow from their currencies.
    """
    found = (_instrument(row) for row in decode(body, _rows) if row.state == _LIVE)
    return [instrument for instrument in found if instrument is not None]


def _instrument(row: _Row) -> Instrument | None:
    if row.inst_type == "SPOT":
        symbol = pair(row.base_ccy, row.quote_ccy)
        return Instrument(NAME, Market.SPOT, symbol, row.inst_id) if symbol == row.inst_id else None
    if row.ct_type == "linear":
        base, quote, is_inverse = row.ct_val_ccy, row.settle_ccy, False
    elif row.ct_type == "inverse":
        base, quote, is_inverse = row.settle_ccy, row.ct_val_ccy, True
    else:
        return None
    if row.inst_type == "SWAP":
        market, symbol = Market.SWAP, pair(base, quote)
        expected = f"{symbol}-SWAP"
    elif row.inst_type == "FUTURES" and (expiry_ms := _milliseconds(row.exp_time)):
        market, symbol = Market.FUTURE, pair(base, quote, expiry_ms)
        expected = str(symbol)
    else:
        return None
    if symbol is None or expected != row.inst_id:
        return None
    size = exact.product(row.ct_val, row.ct_mult)
    if size == "0":
        raise Unreadable(f"expected a contract value of {row.inst_id}, got {row.ct_val!r} × {row.ct_mult!r}")
    return Instrument(NAME, market, symbol, row.inst_id, Unit.CONTRACT, size, is_inverse)


def _milliseconds(text: str) -> int:
    """The time, or 0 for what is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(OPEN_MS_MAX))):
        return 0
    return min(int(text), OPEN_MS_MAX)
