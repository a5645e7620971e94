"""The part of `/fapi/v1/exchangeInfo` that the node uses (binance-facts section 4)."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.binance.unreadable import UNREADABLE
from app.domain.kline import OPEN_MS_MAX, Precision
from app.domain.symbol import Symbol

SYMBOLS_MAX: Final = 20_000  # live: 920; bounds the memory, as each symbol is kept in several places
WORD_CHARS_MAX: Final = 64
PRECISION_MAX: Final = 16  # decimals; live: at most 8. Numbers are padded to so many

_Name = Annotated[str, Meta(max_length=64, pattern=r"\A\w[\w.-]*\Z")]  # becomes part of paths and stream names
_Word = Annotated[str, Meta(max_length=WORD_CHARS_MAX)]
_Time = Annotated[int, Meta(ge=0, le=OPEN_MS_MAX)]  # within the range of datetime
_Decimals = Annotated[int, Meta(ge=0, le=PRECISION_MAX)]


class BadExchangeInfo(ValueError):
    """The answer is not an exchangeInfo; the symbols known before stay in use."""


class _Symbol(msgspec.Struct):
    symbol: _Name
    contract_type: _Word = msgspec.field(name="contractType", default="")
    quote_asset: _Word = msgspec.field(name="quoteAsset", default="")
    status: _Word = ""
    contract_status: _Word = msgspec.field(name="contractStatus", default="")
    onboard_ms: _Time = msgspec.field(name="onboardDate", default=0)
    delivery_ms: _Time = msgspec.field(name="deliveryDate", default=0)
    price_precision: _Decimals = msgspec.field(name="pricePrecision", default=0)
    quantity_precision: _Decimals = msgspec.field(name="quantityPrecision", default=0)


class _ExchangeInfo(msgspec.Struct):
    symbols: Annotated[list[_Symbol], Meta(max_length=SYMBOLS_MAX)]


_decoder: Final = msgspec.json.Decoder(_ExchangeInfo)


def decode(body: bytes) -> list[Symbol]:
    """All symbols of an exchangeInfo answer, in its order. Raises BadExchangeInfo."""
    try:
        info = _decoder.decode(body)
        msgspec.json.decode(
            body
        )  # clients get the unchanged body, so all of it must be JSON; the typed decoder skips fields unread
    except UNREADABLE as error:
        raise BadExchangeInfo(f"not an exchangeInfo answer: {error}") from error
    return [
        Symbol(
            name=entry.symbol,
            contract_type=entry.contract_type,
            quote_asset=entry.quote_asset,
            status=entry.status or entry.contract_status,
            onboard_ms=entry.onboard_ms,
            delivery_ms=entry.delivery_ms,
            precision=Precision(entry.price_precision, entry.quantity_precision),
        )
        for entry in info.symbols
    ]
