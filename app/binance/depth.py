"""The answer of /fapi/v1/depth, as Binance prints it."""

from collections.abc import Sequence

import msgspec

_Levels = Sequence[tuple[str, str]]


class _Depth(msgspec.Struct, gc=False):
    lastUpdateId: int  # noqa: N815  Binance's name
    E: int
    T: int
    bids: _Levels
    asks: _Levels


def encode(update_id: int, times_ms: tuple[int, int], bids: _Levels, asks: _Levels) -> bytes:
    """The body; `times_ms` are when the exchange sent the book and when it last changed, levels are best first."""
    return msgspec.json.encode(_Depth(update_id, *times_ms, bids, asks))
